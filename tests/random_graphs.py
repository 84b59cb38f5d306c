"""Random graphs of bounded gain: every node keeps values and gradients near 1, so that errors show and do not grow."""

import numpy as np

from service.numerics.core.batching import Shape, add_batch_axis
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.ops import OP_REGISTRY

UNARY_OPS = (
    "tanh",
    "sigmoid",
    "sin",
    "cos",
    "erf",
    "silu",
    "gelu",
    "softplus",
    "elu",
    "leaky_relu",
    "relu",
    "neg",
    "abs",
)
BINARY_OPS = ("add", "sub", "mul", "maximum", "minimum")
SHAPE_OPS = (
    ("softmax", {"dim": -1}),
    ("log_softmax", {"dim": 0}),
    ("cumsum", {"dim": 1}),
    ("flip", {"dims": 0}),
    ("layer_norm", {"normalized_shape": 4, "eps": 0.1}),
    ("rms_norm", {"normalized_shape": 4, "eps": 0.1}),
)
TENSOR_SHAPE: Shape = (3, 4)


def draw_graph(seed: int) -> tuple[Graph, NamedArrays]:
    """A graph of 10 to 40 nodes over tensors of one shape, with branches, joins, shared weights and residuals."""
    generator = np.random.default_rng(seed)
    leaves = {name: add_batch_axis(generator.normal(size=TENSOR_SHAPE)) for name in ("x", "u", "v")}
    leaves["w"] = add_batch_axis(generator.normal(size=(4, 4)) / 2)
    known, nodes = ["x", "u", "v"], list[Node]()
    for number in range(int(generator.integers(8, 38))):
        nodes.append(_draw_node(f"n{number}", known, generator))
        known.append(nodes[-1].name)
    while unread := _find_unread_nodes(nodes, [*leaves]):
        # What nothing reads yet is joined, so that all of it reaches the loss.
        last = nodes[-1].name
        other = next((name for name in unread if name != last), None)
        if other is None:
            break
        op, operands = ("linear", (last, "w", None)) if other == "w" else ("add", (last, other))
        nodes.append(Node(f"j{len(nodes)}", OP_REGISTRY[op](), operands))
    nodes.append(Node("loss", OP_REGISTRY["mse_loss"](), (nodes[-1].name, "goal")))
    leaves["goal"] = add_batch_axis(generator.normal(size=TENSOR_SHAPE))
    order = [*generator.permutation(len(nodes) - 1), len(nodes) - 1]
    return Graph([nodes[i] for i in order], {name: leaf.shape[1:] for name, leaf in leaves.items()}), leaves


def _draw_node(name: str, known: list[str], generator: np.random.Generator) -> Node:
    def choose_operand() -> str:
        return known[-1] if generator.random() < 0.5 else str(generator.choice(known))

    kind = generator.choice(["unary", "binary", "shaped", "linear"], p=[0.4, 0.3, 0.15, 0.15])
    if kind == "unary":
        return Node(name, OP_REGISTRY[str(generator.choice(UNARY_OPS))](), (choose_operand(),))
    if kind == "binary":
        op = str(generator.choice(BINARY_OPS))
        # Halved, sums do not grow.
        other = 0.5 if op == "mul" else choose_operand()
        return Node(name, OP_REGISTRY[op](), (choose_operand(), other))
    if kind == "linear":
        return Node(name, OP_REGISTRY["linear"](), (choose_operand(), "w", None))
    op, attributes = SHAPE_OPS[int(generator.integers(len(SHAPE_OPS)))]
    weights = (None,) * (len(OP_REGISTRY[op].slots) - 1)
    return Node(name, OP_REGISTRY[op](**attributes), (choose_operand(), *weights))


def _find_unread_nodes(nodes: list[Node], leaves: list[str]) -> list[str]:
    read = {source for node in nodes for source in node.source_names}
    return [name for name in (*leaves, *(node.name for node in nodes)) if name not in read]
