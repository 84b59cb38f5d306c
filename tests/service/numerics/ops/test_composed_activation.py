"""Composed activations against closed forms of value and derivative in 50 digits."""

from collections.abc import Callable

import mpmath
import numpy as np
import pytest

from service.numerics.core.batching import add_batch_axis
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY

POINTS = [-700.0, -3.0, -1e-9, 0.0, 1e-9, 0.4, 30.0, 1e8]
CLOSED_FORMS: dict[str, Callable[[mpmath.mpf], tuple[mpmath.mpf, mpmath.mpf]]] = {
    "softsign": lambda x: (x / (1 + abs(x)), (1 + abs(x)) ** -2),
    "tanhshrink": lambda x: (x - mpmath.tanh(x), mpmath.tanh(x) ** 2),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_values_and_derivatives_are_those_of_the_closed_form(name: str) -> None:
    graph = Graph([Node("y", OP_REGISTRY[name](), ("x",)), Node("loss", OP_REGISTRY["sum"](), ("y",))], {"x": (8,)})
    values = graph.forward({"x": add_batch_axis(np.array(POINTS))})
    with mpmath.workdps(50):
        expected = [CLOSED_FORMS[name](mpmath.mpf(x)) for x in POINTS]
    # A difference of numbers near 1, or near x, is good to their rounding.
    np.testing.assert_allclose(values["y"][0], [float(value) for value, _ in expected], rtol=1e-14, atol=1e-16)
    gradient = graph.backward(values)["x"][0]
    np.testing.assert_allclose(gradient, [float(slope) for _, slope in expected], rtol=1e-14, atol=3e-16)


def test_gate_of_glu_is_the_second_half() -> None:
    graph = Graph([Node("y", OP_REGISTRY["glu"](), ("x",)), Node("loss", OP_REGISTRY["sum"](), ("y",))], {"x": (4,)})
    values = graph.forward({"x": np.array([[2.0, 3.0, 0.0, np.log(3.0)]])})
    np.testing.assert_allclose(values["y"], [[1.0, 2.25]], rtol=1e-15)
    np.testing.assert_allclose(graph.backward(values)["x"], [[0.5, 0.75, 0.5, 0.5625]], rtol=1e-15)
