"""Fused ops written in primitives, as one writes them who has no fused one; the rounding model knows each step."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from service.numerics.graph import Graph, Node, Values
from service.numerics.ops import REGISTRY
from service.numerics.ops.axes import axes
from service.numerics.ops.op import Case, Op
from service.numerics.tiles import Array
from tests.problems import around, kinds_of, shapes_of


class Writer:
    """Writes a graph down node by node."""

    def __init__(self, leaves: Mapping[str, Array]) -> None:
        self.nodes: list[Node] = []
        self.leaves: Values = dict(leaves)

    def __call__(self, op: str, *operands: Any, **attributes: Any) -> str:
        name = f"node{len(self.nodes)}"
        self.nodes.append(Node(name, REGISTRY[op](**attributes), operands))
        return name

    def constant(self, array: Any) -> str:
        """Add a leaf that is no input of the op."""
        name = f"constant{len(self.leaves)}"
        self.leaves[name] = np.asarray(array)[None]
        return name

    def value(self, name: str) -> Array:
        """Evaluate what has been written so far."""
        values = dict(self.leaves)
        for node in self.nodes:
            values[node.name] = node.forward(*Graph.inputs(node, values))
        return values[name][0]


Form = Callable[..., str | None]
FORMS: dict[str, list[Form]] = {}


def form(*names: str) -> Callable[[Form], Form]:
    def mark(written: Form) -> Form:
        for name in names:
            FORMS.setdefault(name, []).append(written)
        return written

    return mark


def exponentials(w: Writer, x: str, dims: list[int]) -> tuple[str, str, str]:
    """The largest, as a constant, the exponentials and their sum."""
    largest = w.constant(w.value(x).max(axis=tuple(dims), keepdims=True))
    e = w("exp", w("sub", x, largest))
    return largest, e, w("sum", e, dim=dims, keepdim=True)


@form("softmax")
def softmax(w: Writer, op: Any, x: str) -> str | None:
    if not w.value(x).shape:
        return None
    _, e, total = exponentials(w, x, [op.dim])
    return w("div", e, total)


@form("log_softmax")
def log_softmax(w: Writer, op: Any, x: str) -> str | None:
    if not w.value(x).shape:
        return None
    largest, _, total = exponentials(w, x, [op.dim])
    return w("sub", w("sub", x, largest), w("log", total))


@form("logsumexp")
def logsumexp(w: Writer, op: Any, x: str) -> str:
    shape = w.value(x).shape
    largest, _, total = exponentials(w, x, list(axes(op.dim, len(shape))))
    return w("reshape", w("add", largest, w("log", total)), shape=list(op.output_shape(shape)))


def normalised(w: Writer, x: str, dims: list[int], eps: float, centred: bool) -> str:
    c = w("sub", x, w("mean", x, dim=dims, keepdim=True)) if centred else x
    variance = w("mean", w("mul", c, c), dim=dims, keepdim=True)
    return w("mul", c, w("rsqrt", w("add", variance, eps)))


def scaled(w: Writer, y: str, weight: str | None, bias: str | None) -> str:
    y = y if weight is None else w("mul", y, weight)
    return y if bias is None else w("add", y, bias)


@form("layer_norm", "rms_norm")
def over_trailing(w: Writer, op: Any, x: str, weight: str | None, bias: str | None = None) -> str:
    dims = list(range(-1 if isinstance(op.normalized_shape, int) else -len(op.normalized_shape), 0))
    return scaled(w, normalised(w, x, dims, op.eps or 0.0, op.name == "layer_norm"), weight, bias)


@form("batch_norm", "group_norm")
def over_channels(w: Writer, op: Any, x: str, weight: str | None, bias: str | None) -> str:
    shape = w.value(x).shape
    if op.name == "batch_norm":
        z = normalised(w, x, [axis for axis in range(len(shape)) if axis != 1], op.eps, centred=True)
    else:
        groups = w("reshape", x, shape=[shape[0], op.num_groups, -1])
        z = w("reshape", normalised(w, groups, [-1], op.eps, centred=True), shape=list(shape))
    column = [-1, *(1,) * (len(shape) - 2)]
    return scaled(w, z, *(None if each is None else w("reshape", each, shape=column) for each in (weight, bias)))


def attention_scores(w: Writer, op: Any, q: str, k: str, mask: str | None) -> str:
    scale = w.value(q).shape[-1] ** -0.5 if op.scale is None else op.scale
    scores = w("mul", w("matmul", q, w("transpose", k, dim0=-1, dim1=-2)), scale)
    return scores if mask is None else w("add", scores, mask)


@form("scaled_dot_product_attention")
def attention(w: Writer, op: Any, q: str, k: str, v: str, mask: str | None) -> str | None:
    if op.is_causal or (mask is not None and w.leaves[mask].dtype == np.bool_):
        return None
    _, e, total = exponentials(w, attention_scores(w, op, q, k, mask), [-1])
    return w("matmul", w("div", e, total), v)


@form("scaled_dot_product_attention")
def attention_normalised_last(w: Writer, op: Any, q: str, k: str, v: str, mask: str | None) -> str | None:
    """Sums of exponentials times values, which are divided by the sum of the exponentials: as kernels take them."""
    if attention(w, op, q, k, v, mask) is None:
        return None
    exponential, total, *_ = w.nodes[-4:]
    del w.nodes[-2:]
    return w("div", w("matmul", exponential.name, v), total.name)


@form("scaled_dot_product_attention")
def attention_by_softmax(w: Writer, op: Any, q: str, k: str, v: str, mask: str | None) -> str | None:
    if attention(w, op, q, k, v, mask) is None:
        return None
    *_, exponential, _, _, _ = w.nodes
    scores = exponential.operands[0]
    del w.nodes[-4:]
    return w("matmul", w("softmax", scores, dim=-1), v)


@form("gelu")
def gelu(w: Writer, op: Any, x: str) -> str:
    if op.approximate == "tanh":
        cubic = w("mul", w("mul", w("mul", x, x), x), 0.044715)
        t = w("tanh", w("mul", w("add", x, cubic), (2 / np.pi) ** 0.5))
    else:
        t = w("erf", w("mul", x, 0.5**0.5))
    return w("mul", w("mul", x, 0.5), w("add", t, 1.0))


@form("silu")
def silu(w: Writer, op: Any, x: str) -> str:
    return w("mul", x, w("sigmoid", x))


@form("softplus")
def softplus(w: Writer, op: Any, x: str) -> str:
    z = w("mul", x, op.beta)
    tail = w("log1p", w("exp", w("neg", w("abs", z))))
    curved = w("div", w("add", w("relu", z), tail), op.beta)
    return w("where", w.constant(w.value(x) * op.beta > op.threshold), x, curved)


@form("elu")
def elu(w: Writer, op: Any, x: str) -> str:
    below = w("mul", w("expm1", w("minimum", x, 0.0)), op.alpha)
    return w("where", w.constant(w.value(x) > 0), x, below)


@form("vector_norm")
def vector_norm(w: Writer, op: Any, x: str) -> str | None:
    p, dims = float(op.ord), list(axes(op.dim, w.value(x).ndim))
    if np.isinf(p):
        return None
    powers = w("abs", x) if p == 1 else w("pow", w("abs", x), exponent=p)
    total = w("sum", powers, dim=dims, keepdim=op.keepdim)
    return total if p == 1 else w("pow", total, exponent=1 / p)


@form("var")
def var(w: Writer, op: Any, x: str) -> str:
    shape = w.value(x).shape
    dims = list(axes(op.dim, len(shape)))
    c = w("sub", x, w("mean", x, dim=dims, keepdim=True))
    count = int(np.prod([shape[dim] for dim in dims]))
    return w("div", w("sum", w("mul", c, c), dim=dims, keepdim=op.keepdim), float(count - op.correction))


def reduced(w: Writer, op: Any, losses: str) -> str:
    if op.reduction == "batchmean":
        return w("div", w("sum", losses), float(w.value(losses).shape[0]))
    return losses if op.reduction == "none" else w(op.reduction, losses)


@form("cross_entropy")
def cross_entropy(w: Writer, op: Any, x: str, target: str, weight: str | None) -> str | None:
    classes, labels = w.leaves[x], w.leaves[target]
    if labels.ndim == classes.ndim or weight is not None or op.label_smoothing:
        return None
    along = 0 if classes.ndim == 2 else 1
    hot = np.moveaxis(np.eye(classes.shape[along + 1])[labels[0]], -1, along)
    kept = labels[0] != op.ignore_index
    products = w("mul", w.constant(hot * np.expand_dims(kept, along)), w("log_softmax", x, dim=along))
    losses = w("neg", w("sum", products, dim=along))
    return w("div", w("sum", losses), float(kept.sum())) if op.reduction == "mean" else reduced(w, op, losses)


@form("binary_cross_entropy")
def binary_cross_entropy(w: Writer, op: Any, p: str, y: str, weight: str | None) -> str:
    of_one = w("mul", y, w("log", p))
    of_zero = w("mul", w("sub", 1.0, y), w("log1p", w("neg", p)))
    losses = w("neg", w("add", of_one, of_zero))
    return reduced(w, op, losses if weight is None else w("mul", losses, weight))


@form("binary_cross_entropy_with_logits")
def with_logits(w: Writer, op: Any, z: str, y: str, weight: str | None, pos_weight: str | None) -> str | None:
    if pos_weight is not None:
        return None
    tail = w("log1p", w("exp", w("neg", w("abs", z))))
    losses = w("add", w("mul", w("sub", 1.0, y), z), w("add", w("relu", w("neg", z)), tail))
    return reduced(w, op, losses if weight is None else w("mul", losses, weight))


@form("kl_div")
def kl_div(w: Writer, op: Any, x: str, target: str) -> str:
    p, logarithm = (w("exp", target), target) if op.log_target else (target, w("log", target))
    return reduced(w, op, w("mul", p, w("sub", logarithm, x)))


@form("mse_loss", "half_squared_error")
def squares(w: Writer, op: Any, a: str, b: str) -> str:
    d = w("sub", a, b)
    square = w("mul", d, d)
    return reduced(w, op, square if op.name == "mse_loss" else w("mul", square, 0.5))


@form("huber_loss")
def huber_loss(w: Writer, op: Any, a: str, b: str) -> str:
    d = w("sub", a, b)
    line = w("mul", w("sub", w("abs", d), op.delta / 2), op.delta)
    inside = w.constant(np.abs(w.value(d)) < op.delta)
    return reduced(w, op, w("where", inside, w("mul", w("mul", d, d), 0.5), line))


@form("cosine_embedding_loss")
def cosine_embedding_loss(w: Writer, op: Any, a: str, b: str, target: str) -> str:
    def dot(first: str, second: str) -> str:
        return w("sum", w("mul", first, second), dim=-1)

    lengths = (w("sqrt", w("add", dot(each, each), 1e-12)) for each in (a, b))
    cosine = w("div", dot(a, b), w("mul", *lengths))
    far = w("relu", w("sub", cosine, op.margin))
    return reduced(w, op, w("where", w.constant(w.value(target) == 1), w("sub", 1.0, cosine), far))


@form("triplet_margin_loss")
def triplet_margin_loss(w: Writer, op: Any, anchor: str, positive: str, negative: str) -> str:
    def distance(x: str, y: str) -> str:
        return w("vector_norm", w("add", w("sub", x, y), op.eps), ord=op.p, dim=-1)

    near, far = distance(anchor, positive), distance(anchor, negative)
    far = w("minimum", far, distance(positive, negative)) if op.swap else far
    return reduced(w, op, w("relu", w("add", w("sub", near, far), op.margin)))


@form("linear")
def linear(w: Writer, op: Any, x: str, weight: str, bias: str | None) -> str | None:
    if w.value(weight).ndim == 1:
        return None
    return scaled(w, w("matmul", x, w("transpose", weight, dim0=0, dim1=1)), None, bias)


@form("matmul")
def matmul(w: Writer, op: Any, a: str, b: str) -> str | None:
    if min(w.value(a).ndim, w.value(b).ndim) < 2:
        return None
    return w("sum", w("mul", w("unsqueeze", a, dim=-1), w("unsqueeze", b, dim=-3)), dim=-2)


@form("einsum")
def einsum(w: Writer, op: Any, *operands: str) -> str | None:
    return w("sum", w("mul", *operands)) if op.equation == "ij,ij->" else None


def pair(
    op: type[Op], case: Case, written: Form, seed: int, change: Callable[[Values], Values]
) -> tuple[tuple[Graph, Values], tuple[Graph, Values]] | None:
    """The fused graph of a case and the one in primitives, under one loss, on the same leaves, which are changed."""
    graph, leaves = around(op, case, seed)
    leaves = change(leaves)
    node = graph.nodes[0]
    fused = Graph([Node("output", node.op.in_dtype(2.0**-52), node.operands), graph.nodes[-1]], shapes_of(leaves),
                  kinds_of(leaves))  # fmt: skip
    w = Writer(leaves)
    output = written(w, fused.nodes[0].op, *node.operands)
    if output is None:
        return None
    nodes = [*w.nodes, Node("loss", REGISTRY["half_squared_error"](reduction="sum"), (output, "goal"))]
    read = {operand for each in nodes for operand in each.operands}
    w.leaves = {name: leaf for name, leaf in w.leaves.items() if name in read}
    return (fused, leaves), (Graph(nodes, shapes_of(w.leaves), kinds_of(w.leaves)), w.leaves)
