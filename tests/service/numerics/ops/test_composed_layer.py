import numpy as np
import pytest

from tests.service.numerics.ops.composed_gradients import evaluate
from tests.service.numerics.ops.shape_refusals import get_refusal


def test_each_element_puts_a_kernel_into_the_output() -> None:
    y, (by_input, by_weight) = evaluate("conv_transpose1d", [[1.0, 10.0]], [[[1.0, 2.0, 3.0]]], stride=2)
    np.testing.assert_array_equal(y, [[1, 2, 13, 20, 30]])
    np.testing.assert_array_equal(by_input, [[6, 6]])
    np.testing.assert_array_equal(by_weight, [[[11, 11, 11]]])


def test_channels_are_normalised_alone() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 50)) * [[[1.0], [10.0], [100.0]]] + 7
    y, _ = evaluate("instance_norm", x)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(-1), 1, rtol=1e-4)


def test_response_is_divided_by_that_of_neighbours() -> None:
    x = np.array([[[1.0], [2.0], [3.0]]])
    y, _ = evaluate("local_response_norm", x, size=2, alpha=2.0, beta=1.0, k=1.0)
    # The window of a channel is itself and the one before.
    np.testing.assert_allclose(y[0, :, 0], [1 / (1 + 1), 2 / (1 + 5), 3 / (1 + 13)], rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "attributes", "shapes", "words"),
    [
        ("conv_transpose1d", {}, ((4,), (1, 1, 2), None), "(C, out/groups, k)"),
        ("instance_norm", {}, ((2, 3, 1), None, None), "several elements a channel"),
        ("instance_norm", {"use_input_stats": False}, ((2, 3, 4), None, None, None, None), "a running_mean and a"),
        ("instance_norm", {"use_input_stats": False}, ((2, 3, 4), (3,), (3,), (3,), None), "a running_mean and a"),
        ("local_response_norm", {"size": 2}, ((2, 3),), "three axes or more"),
    ],
)
def test_layers_refuse_by_name(name, attributes, shapes, words) -> None:
    assert words in get_refusal(name, attributes, *shapes)
