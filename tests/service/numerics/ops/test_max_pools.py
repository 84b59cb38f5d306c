import pytest

from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize("name", ["avg_pool1d", "max_pool1d"])
def test_pools_of_one_axis_refuse_by_name(name: str) -> None:
    assert "(B, C, L) or (C, L)" in get_refusal(name, {"kernel_size": 2}, (4,))
    assert "half the kernel_size" in get_refusal(name, {"kernel_size": 2, "padding": 2}, (1, 4))
    assert "no larger than the padded input" in get_refusal(name, {"kernel_size": 5}, (1, 4))


def test_adaptive_pools_refuse_by_name() -> None:
    assert "(B, C, H, W)" in get_refusal("adaptive_max_pool2d", {"output_size": 2}, (3, 4))
    assert "(B, C, D, H, W)" in get_refusal("adaptive_avg_pool3d", {"output_size": 2}, (3, 4))
