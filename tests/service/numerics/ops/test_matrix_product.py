"""Scaled products of matrices against small numbers."""

import numpy as np
import pytest

from service.numerics.model.graph import Graph, InvalidModelError, Node
from service.numerics.ops import OP_REGISTRY


def test_addmm_scales_both_parts() -> None:
    op = OP_REGISTRY["addmm"](beta=0.5, alpha=-2.0)
    nodes = [Node("y", op, ("c", "a", "b")), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    graph = Graph(nodes, {"c": (1,), "a": (1, 2), "b": (2, 1)})
    values = graph.forward({"c": np.array([[4.0]]), "a": np.array([[[2.0, 3.0]]]), "b": np.array([[[5.0], [7.0]]])})
    assert values["y"].tolist() == [[[0.5 * 4 - 2 * 31.0]]]
    gradients = graph.backward(values)
    assert [gradients[name].ravel().tolist() for name in "cab"] == [[0.5], [-10.0, -14.0], [-4.0, -6.0]]


def test_products_are_refused_that_pytorch_refuses() -> None:
    refused: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
        ("bmm", ((1, 3, 4), (2, 4, 5))),
        ("bmm", ((3, 4), (4, 5))),
        ("baddbmm", ((7, 3, 5), (2, 3, 4), (2, 4, 5))),
        ("addbmm", ((2, 3, 5), (2, 3, 4), (2, 4, 5))),
        ("addmv", ((2,), (2, 3), (3, 1))),
        ("outer", ((2, 1), (3,))),
        ("addr", ((3, 3), (2,), (3,))),
    ]
    for op, shapes in refused:
        names = tuple("abc"[: len(shapes)])
        nodes = [Node("y", OP_REGISTRY[op](), names), Node("loss", OP_REGISTRY["sum"](), ("y",))]
        with pytest.raises(InvalidModelError, match=rf"node 'y' \({op}\) takes"):
            Graph(nodes, dict(zip(names, shapes, strict=True)))


@pytest.mark.parametrize("shapes", [((3,), (2, 3), (3, 4)), ((1, 2, 4), (2, 3), (3, 4)), ((4,), (1, 2, 3), (3, 4))])
def test_addmm_takes_matrices_and_an_input_that_broadcasts(shapes: tuple[tuple[int, ...], ...]) -> None:
    nodes = [Node("y", OP_REGISTRY["addmm"](), ("c", "a", "b")), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    with pytest.raises(InvalidModelError, match=r"node 'y' \(addmm\) takes"):
        Graph(nodes, dict(zip("cab", shapes, strict=True)))
