import numpy as np
import pytest

from service.numerics.core.batching import add_batch_axis
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


def differentiate(name: str, x: list[float], **attributes: object) -> np.ndarray:
    graph = Graph([Node("y", OP_REGISTRY[name](**attributes), ("x",))], {"x": (len(x),)})
    values = graph.forward({"x": add_batch_axis(np.array(x))})
    return graph.backward(values)["x"][0]


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("amin", [3.0, -1.0, 2.0], [0, 1, 0]),
        ("amin", [-1.0, 5.0, -1.0], [0.5, 0, 0.5]),
        ("std", [1.0, 3.0], [-(0.5**0.5), 0.5**0.5]),
        ("std", [2.0, 2.0], [0, 0]),
    ],
)
def test_derivatives_by_hand(name: str, x: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(differentiate(name, x), expected, rtol=1e-14)


def test_deviation_of_too_few_elements_is_refused() -> None:
    assert "more than 1 elements" in get_refusal("std", {}, (1,))
