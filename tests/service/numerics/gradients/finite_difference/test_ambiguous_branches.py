import numpy as np
import pytest

from service.numerics.gradients import finite_difference
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_reference_model

SUM = OP_REGISTRY["sum"]()


def differentiate_nodes(nodes, **leaves):
    """Differences by all leaves of the sum of the last of the nodes, each (name, op, operands, attributes)."""
    built = [Node(name, OP_REGISTRY[op](**attributes), operands) for name, op, operands, attributes in nodes]
    arrays = {name: np.array(value, dtype=np.float64)[None] for name, value in leaves.items()}
    shapes = {name: array.shape[1:] for name, array in arrays.items()}
    graph = Graph([*built, Node("loss", SUM, (nodes[-1][0],))], shapes)
    return finite_difference.differentiate_numerically(graph, arrays, list(leaves))


def list_kinks(difference):
    """Index, left and right of every kink."""
    return [
        (i, difference.left_derivative.flat[i], difference.right_derivative.flat[i])
        for i in np.flatnonzero(np.isfinite(difference.left_derivative))
    ]


ONE_OP = [
    ("relu", {}, [0.0, 1.0, -1.0, 1e-9, -1e-9], [(0, 0, 1)], [None, 1, 0, 1, 0]),
    ("abs", {}, [0.0, 1e-9, -1e-300], [(0, -1, 1)], [None, 1, -1]),
    ("clamp", {"min": -1.0, "max": 1.0}, [-1.0, 1.0, 0.5, 2.0], [(0, 0, 1), (1, 1, 0)], [None, None, 1, 0]),
    ("leaky_relu", {"negative_slope": 0.1}, [0.0, 2.0], [(0, 0.1, 1)], [None, 1]),
]


@pytest.mark.parametrize(("op", "attributes", "x", "kinks", "slopes"), ONE_OP, ids=[case[0] for case in ONE_OP])
def test_kink_has_both_sides_and_a_point_beside_it_one(op, attributes, x, kinks, slopes):
    difference = differentiate_nodes([("y", op, ("x",), attributes)], x=x)["x"]
    np.testing.assert_allclose(list_kinks(difference), kinks, atol=1e-12)
    for value, bound, slope in zip(difference.value, difference.error_bound, slopes, strict=True):
        if slope is not None:
            assert abs(value - slope) <= bound < 1e-12, "as tight as elsewhere"


def test_ties_of_a_maximum_and_of_a_pool_are_kinks():
    differences = differentiate_nodes([("m", "maximum", ("x", "y"), {})], x=[3.0, 1.0], y=[3.0, 2.0])
    np.testing.assert_allclose(list_kinks(differences["x"]), [(0, 0, 1)], atol=1e-12)
    np.testing.assert_allclose(list_kinks(differences["y"]), [(0, 0, 1)], atol=1e-12)
    pooled = differentiate_nodes([("p", "max_pool2d", ("x",), {"kernel_size": 2})], x=[[[1.0, 1.0], [0.5, 1.0]]])["x"]
    np.testing.assert_allclose(list_kinks(pooled), [(0, 0, 1), (1, 0, 1), (3, 0, 1)], atol=1e-12)


@pytest.mark.parametrize(("place", "kinks"), [(0.0, [(0, 1, 3)]), (1e-9, []), (-0.3, [])])
def test_a_kink_of_a_sum_is_found_by_the_rounding_of_the_sum(place, kinks):
    """Of a place of 0 one unit in the last place is lost beside 1: columns 0 1 4 slope by 1 and 3 there."""
    attributes = {"align_corners": True}
    differences = differentiate_nodes(
        [("y", "grid_sample", ("x", "grid"), attributes)], x=[[[[0.0, 1.0, 4.0]]]], grid=[[[[place, 0.0]]]]
    )
    by_grid = differences["grid"]
    found = [] if by_grid.left_derivative is None else list_kinks(by_grid)
    np.testing.assert_allclose(np.reshape(found, (-1, 3)), np.reshape(kinks, (-1, 3)), atol=1e-9)


def test_upstream_rounding_across_a_kink_counts_as_a_kink():
    """0.1 + 0.2 - 0.3 is 0, or a rounding error."""
    nodes = [("p", "linear", ("x", "w", None), {}), ("y", "relu", ("p",), {})]
    difference = differentiate_nodes(nodes, x=[[0.1, 0.2, -0.3]], w=[[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])["w"]
    np.testing.assert_allclose(list_kinks(difference), [(0, 0, 0.1), (1, 0, 0.2), (2, -0.3, 0)], atol=1e-12)
    np.testing.assert_allclose(difference.value[1], 0, atol=1e-12)


def test_kinks_behind_kinks_and_kinks_that_cancel():
    nodes = [("r", "relu", ("x",), {}), ("y", "relu", ("r",), {})]
    np.testing.assert_allclose(list_kinks(differentiate_nodes(nodes, x=[0.0, 1.0])["x"]), [(0, 0, 1)], atol=1e-12)
    nodes = [
        ("m", "neg", ("x",), {}),
        ("a", "relu", ("x",), {}),
        ("b", "relu", ("m",), {}),
        ("y", "sub", ("a", "b"), {}),
    ]
    np.testing.assert_allclose(list_kinks(differentiate_nodes(nodes, x=[0.0, 1.0])["x"]), [(0, 1, 1)], atol=1e-12)


def test_a_smooth_model_has_none_and_pays_for_none():
    graph, leaves = build_reference_model()
    difference = finite_difference.differentiate_numerically(graph, leaves, ["w1"])["w1"]
    assert difference.left_derivative is None
    assert difference.right_derivative is None
    kinked = differentiate_nodes([("y", "relu", ("x",), {})], x=[0.5, 1.0])["x"]
    assert kinked.left_derivative is None
