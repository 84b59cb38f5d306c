import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.directional_move import DirectionalMove

DIRECTIONS = np.random.default_rng(0).normal(size=(3, 2, 4))
OP = DirectionalMove(directions=DIRECTIONS, unit=8.0)
X = np.random.default_rng(1).normal(size=(1, 2, 4))


@pytest.mark.parametrize("moves", [[[0.0, 0.0, 0.0]], [[0.5, 0.0, 0.0]], [[1.0, -2.0, 3.0], [0.0, 1.0, 0.0]]])
def test_directional_move_moves_along_its_directions(moves):
    expected = X + 8 * np.einsum("tk,kij->tij", moves, DIRECTIONS)
    np.testing.assert_allclose(OP.forward(X, np.array(moves)), expected, rtol=1e-14)
    np.testing.assert_allclose(
        OP.compute_linear_response(1, np.array(moves), X, np.zeros((1, 3))), expected - X, rtol=0, atol=1e-13
    )


def test_zero_move_changes_nothing():
    rest = np.zeros((1, 3))
    assert OP.forward(X, rest) is not None
    assert np.array_equal(OP.forward(X, rest), X)
    assert OP.estimate_forward_rounding(X, X, rest) is None
    assert OP.estimate_forward_rounding(X, X, np.ones((1, 3))) is not None


def test_a_move_reaches_everything_and_an_element_itself():
    spread = OP.propagate_dependencies(
        [np.array([[[3.0, 4, 5, 6], [7, 8, 9, 10]]]), np.array([[5.0, 6.0, 7.0]])], X, np.zeros((1, 3))
    )
    assert np.array_equal(spread, [[[3, 4, 5, 5], [5, 5, 5, 5]]])


def test_gradient_is_handed_through_and_projected_onto_each_direction():
    gradient = np.random.default_rng(3).normal(size=X.shape)
    by_input, by_moves = OP.backward(gradient, X, X, np.zeros((1, 3)))
    assert by_input is gradient
    np.testing.assert_allclose(by_moves, 8 * np.einsum("tij,kij->tk", gradient, DIRECTIONS), rtol=1e-13)


def test_directional_move_is_not_registered_and_has_no_counterpart_in_pytorch():
    assert "along" not in OP_REGISTRY
    assert OP.infer_output_shape((2, 4), (3,)) == (2, 4)
    assert OP.estimate_cost((2, 4), (2, 4), (3,)).largest_array == 8
    with pytest.raises(NotImplementedError):
        OP.torch_forward(None, X, np.zeros((1, 3)))
