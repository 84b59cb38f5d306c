import pytest

from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize(
    ("name", "attributes", "shapes", "words"),
    [
        ("masked_fill", {}, ((3,), (3,), (1,)), "one number"),
        ("masked_fill", {}, ((3,), (2,), ()), "broadcast together"),
        ("take_along_dim", {"dim": 0}, ((3,), (2, 1)), "equally many axes"),
        ("take_along_dim", {"dim": 0}, ((3, 2), (2, 1)), "the lengths of the indices"),
        ("trace", {}, ((3,),), "a matrix"),
    ],
)
def test_compositions_refuse_by_name(name, attributes, shapes, words) -> None:
    assert words in get_refusal(name, attributes, *shapes)
