"""Fused ops written in primitives, as one writes them who has no fused one; the rounding model knows each step."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.axes import normalize_axes
from service.numerics.ops.op import Op, OpExample
from tests.op_graphs import build_op_graph, list_kinds, list_shapes


class GraphWriter:
    """Writes a graph down node by node."""

    def __init__(self, leaves: Mapping[str, Array]) -> None:
        self.nodes: list[Node] = []
        self.leaves: NamedArrays = dict(leaves)

    def __call__(self, op: str, *operands: Any, **attributes: Any) -> str:
        name = f"node{len(self.nodes)}"
        self.nodes.append(Node(name, OP_REGISTRY[op](**attributes), operands))
        return name

    def add_constant(self, array: Any) -> str:
        """Add a leaf that is no input of the op."""
        name = f"constant{len(self.leaves)}"
        self.leaves[name] = np.asarray(array)[None]
        return name

    def compute_value(self, name: str) -> Array:
        """Evaluate what has been written so far."""
        values = dict(self.leaves)
        for node in self.nodes:
            values[node.name] = node.forward(*Graph.get_operand_arrays(node, values))
        return values[name][0]


PrimitiveForm = Callable[..., str | None]
PRIMITIVE_FORMS: dict[str, list[PrimitiveForm]] = {}


def register_form(*names: str) -> Callable[[PrimitiveForm], PrimitiveForm]:
    def mark(written: PrimitiveForm) -> PrimitiveForm:
        for name in names:
            PRIMITIVE_FORMS.setdefault(name, []).append(written)
        return written

    return mark


def write_exponentials(w: GraphWriter, x: str, dims: list[int]) -> tuple[str, str, str]:
    """The largest, as a constant, the exponentials and their sum."""
    largest = w.add_constant(w.compute_value(x).max(axis=tuple(dims), keepdims=True))
    e = w("exp", w("sub", x, largest))
    return largest, e, w("sum", e, dim=dims, keepdim=True)


@register_form("softmax")
def write_softmax(w: GraphWriter, op: Any, x: str) -> str | None:
    if not w.compute_value(x).shape:
        return None
    _, e, total = write_exponentials(w, x, [op.dim])
    return w("div", e, total)


@register_form("log_softmax")
def write_log_softmax(w: GraphWriter, op: Any, x: str) -> str | None:
    if not w.compute_value(x).shape:
        return None
    largest, _, total = write_exponentials(w, x, [op.dim])
    return w("sub", w("sub", x, largest), w("log", total))


@register_form("logsumexp")
def write_logsumexp(w: GraphWriter, op: Any, x: str) -> str:
    shape = w.compute_value(x).shape
    largest, _, total = write_exponentials(w, x, list(normalize_axes(op.dim, len(shape))))
    return w("reshape", w("add", largest, w("log", total)), shape=list(op.infer_output_shape(shape)))


def write_normalization(w: GraphWriter, x: str, dims: list[int], eps: float, centred: bool) -> str:
    c = w("sub", x, w("mean", x, dim=dims, keepdim=True)) if centred else x
    variance = w("mean", w("mul", c, c), dim=dims, keepdim=True)
    return w("mul", c, w("rsqrt", w("add", variance, eps)))


def write_scale_and_shift(w: GraphWriter, y: str, weight: str | None, bias: str | None) -> str:
    y = y if weight is None else w("mul", y, weight)
    return y if bias is None else w("add", y, bias)


@register_form("layer_norm", "rms_norm")
def write_trailing_norm(w: GraphWriter, op: Any, x: str, weight: str | None, bias: str | None = None) -> str:
    dims = list(range(-1 if isinstance(op.normalized_shape, int) else -len(op.normalized_shape), 0))
    return write_scale_and_shift(
        w, write_normalization(w, x, dims, op.eps or 0.0, op.name == "layer_norm"), weight, bias
    )


@register_form("batch_norm", "group_norm")
def write_channel_norm(w: GraphWriter, op: Any, x: str, weight: str | None, bias: str | None) -> str:
    shape = w.compute_value(x).shape
    if op.name == "batch_norm":
        z = write_normalization(w, x, [axis for axis in range(len(shape)) if axis != 1], op.eps, centred=True)
    else:
        groups = w("reshape", x, shape=[shape[0], op.num_groups, -1])
        z = w("reshape", write_normalization(w, groups, [-1], op.eps, centred=True), shape=list(shape))
    column = [-1, *(1,) * (len(shape) - 2)]
    return write_scale_and_shift(
        w, z, *(None if tensor is None else w("reshape", tensor, shape=column) for tensor in (weight, bias))
    )


def write_attention_scores(w: GraphWriter, op: Any, q: str, k: str, mask: str | None) -> str:
    scale = w.compute_value(q).shape[-1] ** -0.5 if op.scale is None else op.scale
    scores = w("mul", w("matmul", q, w("transpose", k, dim0=-1, dim1=-2)), scale)
    return scores if mask is None else w("add", scores, mask)


@register_form("scaled_dot_product_attention")
def write_attention(w: GraphWriter, op: Any, q: str, k: str, v: str, mask: str | None) -> str | None:
    if op.is_causal or (mask is not None and w.leaves[mask].dtype == np.bool_):
        return None
    _, e, total = write_exponentials(w, write_attention_scores(w, op, q, k, mask), [-1])
    return w("matmul", w("div", e, total), v)


@register_form("scaled_dot_product_attention")
def write_attention_normalised_last(w: GraphWriter, op: Any, q: str, k: str, v: str, mask: str | None) -> str | None:
    """Sums of exponentials times values, which are divided by the sum of the exponentials: as kernels take them."""
    if write_attention(w, op, q, k, v, mask) is None:
        return None
    exponential, total, *_ = w.nodes[-4:]
    del w.nodes[-2:]
    return w("div", w("matmul", exponential.name, v), total.name)


@register_form("scaled_dot_product_attention")
def write_attention_by_softmax(w: GraphWriter, op: Any, q: str, k: str, v: str, mask: str | None) -> str | None:
    if write_attention(w, op, q, k, v, mask) is None:
        return None
    *_, exponential, _, _, _ = w.nodes
    scores = exponential.operands[0]
    del w.nodes[-4:]
    return w("matmul", w("softmax", scores, dim=-1), v)


@register_form("gelu")
def write_gelu(w: GraphWriter, op: Any, x: str) -> str:
    if op.approximate == "tanh":
        cubic = w("mul", w("mul", w("mul", x, x), x), 0.044715)
        t = w("tanh", w("mul", w("add", x, cubic), (2 / np.pi) ** 0.5))
    else:
        t = w("erf", w("mul", x, 0.5**0.5))
    return w("mul", w("mul", x, 0.5), w("add", t, 1.0))


@register_form("silu")
def write_silu(w: GraphWriter, op: Any, x: str) -> str:
    return w("mul", x, w("sigmoid", x))


@register_form("softplus")
def write_softplus(w: GraphWriter, op: Any, x: str) -> str:
    z = w("mul", x, op.beta)
    tail = w("log1p", w("exp", w("neg", w("abs", z))))
    curved = w("div", w("add", w("relu", z), tail), op.beta)
    return w("where", w.add_constant(w.compute_value(x) * op.beta > op.threshold), x, curved)


@register_form("elu")
def write_elu(w: GraphWriter, op: Any, x: str) -> str:
    below = w("mul", w("expm1", w("minimum", x, 0.0)), op.alpha)
    return w("where", w.add_constant(w.compute_value(x) > 0), x, below)


@register_form("vector_norm")
def write_vector_norm(w: GraphWriter, op: Any, x: str) -> str | None:
    p, dims = float(op.ord), list(normalize_axes(op.dim, w.compute_value(x).ndim))
    if np.isinf(p):
        return None
    powers = w("abs", x) if p == 1 else w("pow", w("abs", x), exponent=p)
    total = w("sum", powers, dim=dims, keepdim=op.keepdim)
    return total if p == 1 else w("pow", total, exponent=1 / p)


@register_form("var")
def write_var(w: GraphWriter, op: Any, x: str) -> str:
    shape = w.compute_value(x).shape
    dims = list(normalize_axes(op.dim, len(shape)))
    c = w("sub", x, w("mean", x, dim=dims, keepdim=True))
    count = int(np.prod([shape[dim] for dim in dims]))
    return w("div", w("sum", w("mul", c, c), dim=dims, keepdim=op.keepdim), float(count - op.correction))


def write_reduction(w: GraphWriter, op: Any, losses: str) -> str:
    if op.reduction == "batchmean":
        return w("div", w("sum", losses), float(w.compute_value(losses).shape[0]))
    return losses if op.reduction == "none" else w(op.reduction, losses)


@register_form("cross_entropy")
def write_cross_entropy(w: GraphWriter, op: Any, x: str, target: str, weight: str | None) -> str | None:
    classes, labels = w.leaves[x], w.leaves[target]
    if labels.ndim == classes.ndim or weight is not None or op.label_smoothing:
        return None
    along = 0 if classes.ndim == 2 else 1
    hot = np.moveaxis(np.eye(classes.shape[along + 1])[labels[0]], -1, along)
    kept = labels[0] != op.ignore_index
    products = w("mul", w.add_constant(hot * np.expand_dims(kept, along)), w("log_softmax", x, dim=along))
    losses = w("neg", w("sum", products, dim=along))
    return w("div", w("sum", losses), float(kept.sum())) if op.reduction == "mean" else write_reduction(w, op, losses)


@register_form("binary_cross_entropy")
def write_binary_cross_entropy(w: GraphWriter, op: Any, p: str, y: str, weight: str | None) -> str:
    of_one = w("mul", y, w("log", p))
    of_zero = w("mul", w("sub", 1.0, y), w("log1p", w("neg", p)))
    losses = w("neg", w("add", of_one, of_zero))
    return write_reduction(w, op, losses if weight is None else w("mul", losses, weight))


@register_form("binary_cross_entropy_with_logits")
def write_bce_with_logits(
    w: GraphWriter, op: Any, z: str, y: str, weight: str | None, pos_weight: str | None
) -> str | None:
    if pos_weight is not None:
        return None
    tail = w("log1p", w("exp", w("neg", w("abs", z))))
    losses = w("add", w("mul", w("sub", 1.0, y), z), w("add", w("relu", w("neg", z)), tail))
    return write_reduction(w, op, losses if weight is None else w("mul", losses, weight))


@register_form("kl_div")
def write_kl_div(w: GraphWriter, op: Any, x: str, target: str) -> str:
    p, logarithm = (w("exp", target), target) if op.log_target else (target, w("log", target))
    return write_reduction(w, op, w("mul", p, w("sub", logarithm, x)))


@register_form("mse_loss", "half_squared_error")
def write_squared_loss(w: GraphWriter, op: Any, a: str, b: str) -> str:
    d = w("sub", a, b)
    square = w("mul", d, d)
    return write_reduction(w, op, square if op.name == "mse_loss" else w("mul", square, 0.5))


@register_form("huber_loss")
def write_huber_loss(w: GraphWriter, op: Any, a: str, b: str) -> str:
    d = w("sub", a, b)
    line = w("mul", w("sub", w("abs", d), op.delta / 2), op.delta)
    inside = w.add_constant(np.abs(w.compute_value(d)) < op.delta)
    return write_reduction(w, op, w("where", inside, w("mul", w("mul", d, d), 0.5), line))


@register_form("cosine_embedding_loss")
def write_cosine_embedding_loss(w: GraphWriter, op: Any, a: str, b: str, target: str) -> str:
    def write_dot_product(first: str, second: str) -> str:
        return w("sum", w("mul", first, second), dim=-1)

    lengths = (w("sqrt", w("add", write_dot_product(vector, vector), 1e-12)) for vector in (a, b))
    cosine = w("div", write_dot_product(a, b), w("mul", *lengths))
    far = w("relu", w("sub", cosine, op.margin))
    return write_reduction(w, op, w("where", w.add_constant(w.compute_value(target) == 1), w("sub", 1.0, cosine), far))


@register_form("triplet_margin_loss")
def write_triplet_margin_loss(w: GraphWriter, op: Any, anchor: str, positive: str, negative: str) -> str:
    def write_distance(x: str, y: str) -> str:
        return w("vector_norm", w("add", w("sub", x, y), op.eps), ord=op.p, dim=-1)

    near, far = write_distance(anchor, positive), write_distance(anchor, negative)
    far = w("minimum", far, write_distance(positive, negative)) if op.swap else far
    return write_reduction(w, op, w("relu", w("add", w("sub", near, far), op.margin)))


@register_form("linear")
def write_linear(w: GraphWriter, op: Any, x: str, weight: str, bias: str | None) -> str | None:
    if w.compute_value(weight).ndim == 1:
        return None
    return write_scale_and_shift(w, w("matmul", x, w("transpose", weight, dim0=0, dim1=1)), None, bias)


@register_form("matmul")
def write_matmul(w: GraphWriter, op: Any, a: str, b: str) -> str | None:
    if min(w.compute_value(a).ndim, w.compute_value(b).ndim) < 2:
        return None
    return w("sum", w("mul", w("unsqueeze", a, dim=-1), w("unsqueeze", b, dim=-3)), dim=-2)


@register_form("einsum")
def write_einsum(w: GraphWriter, op: Any, *operands: str) -> str | None:
    return w("sum", w("mul", *operands)) if op.equation == "ij,ij->" else None


def build_pair(
    op: type[Op], case: OpExample, written: PrimitiveForm, seed: int, change: Callable[[NamedArrays], NamedArrays]
) -> tuple[tuple[Graph, NamedArrays], tuple[Graph, NamedArrays]] | None:
    """The fused graph of a case and the one in primitives, under one loss, on the same leaves, which are changed."""
    graph, leaves = build_op_graph(op, case, seed)
    leaves = change(leaves)
    node = graph.nodes[0]
    output_node = Node("output", node.op.resolve_dtype_defaults(2.0**-52), node.operands)
    fused = Graph([output_node, graph.nodes[-1]], list_shapes(leaves), list_kinds(leaves))
    w = GraphWriter(leaves)
    output = written(w, fused.nodes[0].op, *node.operands)
    if output is None:
        return None
    nodes = [*w.nodes, Node("loss", OP_REGISTRY["half_squared_error"](reduction="sum"), (output, "goal"))]
    read = {operand for line in nodes for operand in line.operands}
    w.leaves = {name: leaf for name, leaf in w.leaves.items() if name in read}
    return (fused, leaves), (Graph(nodes, list_shapes(w.leaves), list_kinds(w.leaves)), w.leaves)
