"""Values and gradients of composite ops, for the tests."""

import numpy as np

from service.numerics.core.batching import add_batch_axis
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY


def evaluate(name: str, *inputs: object, **attributes: object) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the output of an op, and the gradients of its sum for all inputs."""
    arrays = {f"x{number}": np.asarray(value, dtype=float) for number, value in enumerate(inputs)}
    op = OP_REGISTRY[name](**attributes)
    operands = (*arrays, *[None] * (len(op.slots) - len(arrays)))
    nodes = [Node("y", op, operands), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    graph = Graph(nodes, {key: array.shape for key, array in arrays.items()})
    values = graph.forward({key: add_batch_axis(array) for key, array in arrays.items()})
    gradients = graph.backward(values)
    return values["y"][0], [gradients[key][0] for key in arrays]
