import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError

HalfSquaredError = OP_REGISTRY["half_squared_error"]
A, Y = np.array([[1.0, 4.0, -1.0]]), np.array([[2.0, 1.0, -1.0]])


@pytest.mark.parametrize(
    ("reduction", "loss", "gradient"),
    [
        ("none", [[0.5, 4.5, 0.0]], [[-1, 3, 0]]),
        ("sum", [5.0], [[-1, 3, 0]]),
        ("mean", [5.0 / 3], [[-1 / 3, 1, 0]]),
    ],
)
def test_half_squared_error_equals_its_formula(reduction, loss, gradient):
    op = HalfSquaredError(reduction=reduction)
    output = op.forward(A, Y)
    np.testing.assert_allclose(output, loss, rtol=1e-15)
    by_input, by_target = op.backward(np.ones_like(output), output, A, Y)
    np.testing.assert_allclose(by_input, gradient, rtol=1e-15)
    np.testing.assert_allclose(by_target, -by_input)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_terms_sum_to_the_loss(reduction):
    op = HalfSquaredError(reduction=reduction)
    a = np.random.default_rng(0).normal(size=(4, 30))
    y = np.zeros((1, 30))
    output = op.forward(a, y)
    terms = op.split_terms(output, a, y)
    assert terms.shape == (4, 30)
    np.testing.assert_allclose(terms.sum(axis=1), output, rtol=1e-14)


def test_operands_of_different_shapes_are_refused():
    with pytest.raises(ShapeError, match="two inputs of one shape"):
        HalfSquaredError().infer_output_shape((3,), (1, 3))
