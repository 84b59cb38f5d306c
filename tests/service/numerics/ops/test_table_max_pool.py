import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY


def test_max_pools_take_the_first_of_equals() -> None:
    op = OP_REGISTRY["adaptive_max_pool2d"](output_size=1)
    x = np.array([[[[1.0, 3.0], [3.0, 3.0]]]])
    np.testing.assert_array_equal(op.backward(np.ones((1, 1, 1, 1)), op.forward(x), x)[0][0, 0], [[0, 1], [0, 0]])


def test_padding_is_never_the_largest_and_nan_always_is() -> None:
    op = OP_REGISTRY["max_pool1d"](kernel_size=2, padding=1)
    np.testing.assert_array_equal(op.forward(-np.ones((1, 1, 2))), [[[-1, -1]]])
    np.testing.assert_array_equal(op.forward(np.array([[[np.nan, 2.0, 3.0, 1.0]]])), [[[np.nan, 3, 1]]])


def test_overlapping_windows_add_up() -> None:
    op = OP_REGISTRY["max_pool1d"](kernel_size=3, stride=1)
    x = np.array([[[0.0, 1.0, 9.0, 1.0, 0.0]]])
    np.testing.assert_array_equal(op.backward(np.ones((1, 1, 3)), op.forward(x), x)[0], [[[0, 0, 3, 0, 0]]])


@pytest.mark.parametrize(
    ("one", "many"), [("max_pool1d", {"kernel_size": 2}), ("adaptive_max_pool1d", {"output_size": 3})]
)
def test_near_ties_are_choices_between_the_elements(one: str, many: dict) -> None:
    x = np.array([[[1.0, 1.0, 5.0, 2.0, 3.0, 3.0 + 1e-12]]])
    choices = OP_REGISTRY[one](**many).list_subgradient_choices([np.full(x.shape, 1e-10)], x)
    assert choices is not None
    np.testing.assert_array_equal(choices.output_indices, [0, 0, 2, 2])
    np.testing.assert_array_equal(choices.entry_elements, [0, 1, 4, 5])
    np.testing.assert_array_equal(choices.weights, [1, 0, 0, 1])
    np.testing.assert_array_equal(choices.is_exact_tie, [True, True, False, True])
