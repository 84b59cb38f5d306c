"""Norms and distances along an axis at points whose results are known."""

import numpy as np

from service.numerics.core.batching import Array, add_batch_axis
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY


def differentiate(op: str, attributes: dict[str, object], *operands: list[float]) -> tuple[Array, list[Array]]:
    """Output, and the gradients of its sum by each operand."""
    names = tuple(f"x{number}" for number in range(len(operands)))
    leaves = {name: add_batch_axis(np.array(operand)) for name, operand in zip(names, operands, strict=True)}
    nodes = [Node("y", OP_REGISTRY[op](**attributes), names), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    graph = Graph(nodes, {name: leaf.shape[1:] for name, leaf in leaves.items()})
    values = graph.forward(leaves)
    gradients = graph.backward(values)
    return values["y"][0], [gradients[name][0] for name in names]


def test_normalize_divides_by_the_norm_or_by_eps() -> None:
    output, (gradient,) = differentiate("normalize", {"dim": 0}, [3.0, 4.0])
    np.testing.assert_allclose(output, [0.6, 0.8], rtol=1e-15)
    np.testing.assert_allclose(gradient, [(1 - 0.6 * 1.4) / 5, (1 - 0.8 * 1.4) / 5], rtol=1e-14)
    output, (gradient,) = differentiate("normalize", {"dim": 0, "eps": 8.0}, [3.0, 4.0])
    np.testing.assert_allclose(output, [3 / 8, 4 / 8], rtol=1e-15)
    np.testing.assert_allclose(gradient, [1 / 8, 1 / 8], rtol=1e-15)


def test_cosine_is_that_of_the_angle() -> None:
    output, gradients = differentiate("cosine_similarity", {"dim": 0}, [3.0, 4.0], [0.0, 2.0])
    np.testing.assert_allclose(output, 0.8, rtol=1e-15)
    np.testing.assert_allclose(gradients[0], [-0.8 * 0.6 / 5, (1 - 0.8 * 0.8) / 5], rtol=1e-14)
    np.testing.assert_allclose(gradients[1], [0.6 / 2, 0.0], rtol=1e-14, atol=1e-16)


def test_distance_adds_eps_to_the_difference() -> None:
    output, gradients = differentiate("pairwise_distance", {"eps": 1.0}, [3.0, 4.0], [1.0, 1.0])
    np.testing.assert_allclose(output, 5.0, rtol=1e-15)
    np.testing.assert_allclose(gradients, [[0.6, 0.8], [-0.6, -0.8]], rtol=1e-15)
