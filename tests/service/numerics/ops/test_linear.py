import pytest

from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize(
    ("name", "attributes", "shapes", "words"),
    [
        ("linear", {}, ((5, 4), (3, 5), None), "with weight (out, in)"),
        ("linear", {}, ((), (3,), None), "with weight (out, in)"),
        ("linear", {}, ((5, 4), (3, 4), (4,)), "a bias of shape [3]"),
        ("matmul", {}, ((2, 3), (2, 3)), "(..., n, k) with (..., k, m)"),
        ("matmul", {}, ((), (3,)), "(..., n, k) with (..., k, m)"),
        ("matmul", {}, ((2, 3, 4), (3, 4, 5)), "leading axes that broadcast together"),
    ],
)
def test_linear_ops_refuse_mismatched_inputs(name, attributes, shapes, words):
    assert words in get_refusal(name, attributes, *shapes)
