import numpy as np
import pytest

from service.numerics.gradients import analytic
from service.numerics.model import nonfinite
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY


def find_origin_of(nodes, name=None, **leaves):
    """Where it begins in the graph of some nodes, each (name, op, operands), under their last one's sum."""
    built = [Node(node_name, OP_REGISTRY[op](), operands) for node_name, op, operands in nodes]
    arrays = {key: np.array(value, dtype=np.float64)[None] for key, value in leaves.items()}
    built.append(Node("loss", OP_REGISTRY["sum"](), (nodes[-1][0],)))
    graph = Graph(built, {key: array.shape[1:] for key, array in arrays.items()})
    with np.errstate(all="ignore"):
        route = analytic.differentiate_analytically(graph, arrays)
        return nonfinite.find_origin(graph, route.values, route.gradients, name)


def test_first_nonfinite_node_of_finite_inputs_is_the_origin():
    nodes = [("a", "exp", ("x",)), ("b", "mul", ("a", "x")), ("c", "log", ("b",))]
    begins = find_origin_of(nodes, x=[1.0, 1000.0])
    assert (begins.node.name, begins.index, begins.value, begins.gradient_name) == ("a", (1,), np.inf, None)
    assert find_origin_of(nodes, x=[1.0, 2.0]) is None


def test_nonfinite_gradient_begins_at_its_node():
    nodes = [("a", "abs", ("x",)), ("b", "sqrt", ("a",)), ("c", "mul", ("b", "y"))]
    begins = find_origin_of(nodes, x=[[-1.0, 0.0]], y=[[2.0, 2.0]])
    assert (begins.node.name, begins.index, begins.value, begins.gradient_name) == ("b", (0, 1), np.inf, "a")
    assert find_origin_of(nodes, "x", x=[[-1.0, 0.0]], y=[[2.0, 2.0]]) == begins
    assert find_origin_of(nodes, "y", x=[[-1.0, 0.0]], y=[[2.0, 2.0]]) is None, "nothing infinite is on its way"


def test_overflowing_sum_of_gradients_has_no_origin_node():
    nodes = [("a", "mul", ("x", "y")), ("b", "mul", ("x", "y")), ("c", "add", ("a", "b"))]
    assert find_origin_of(nodes, "x", x=[0.0], y=[1.5e308]) is None
    with pytest.raises(AssertionError):
        assert find_origin_of([("a", "sqrt", ("x",))], x=[0.0]) is None
