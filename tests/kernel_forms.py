"""Backward passes as PyTorch's kernels take them, in primitives: graphs whose values are gradients, step by step.

Autograd through a forward pass in primitives is another computation than a kernel's backward pass. It may be sharper:
through `sub(x, mean(x))` the mean is taken away twice, and what the first is off by drops out; through max and exp the
largest weight of a softmax is 1 exactly. Kernels find y once, round it, and come back by way of it. So a fused op is
compared with both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from service.numerics.core.precision import Precision
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.model.monte_carlo import MonteCarloRounding, compute_root_mean_square
from service.numerics.model.rounding import ROUNDING_ROUNDS, SAFETY_FACTOR
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.axes import normalize_axes
from service.numerics.ops.op import Op, OpExample
from tests.fused_as_primitives import PRIMITIVE_FORMS, GraphWriter, write_attention_scores, write_exponentials
from tests.op_graphs import build_op_graph, list_kinds, list_shapes

Kernel = Callable[..., dict[str, str]]
KERNELS: dict[str, Kernel] = {}


def register_kernel(name: str) -> Callable[[Kernel], Kernel]:
    def mark(written: Kernel) -> Kernel:
        KERNELS[name] = written
        return written

    return mark


@register_kernel("logsumexp")
def differentiate_logsumexp(w: GraphWriter, op: Any, g: str, y: str, x: str) -> dict[str, str]:
    """Gradient g exp(x - y), of the y that was rounded."""
    kept = list(w.compute_value(x).max(axis=normalize_axes(op.dim, w.compute_value(x).ndim), keepdims=True).shape)
    p = w("exp", w("sub", x, w("reshape", y, shape=kept)))
    return {x: w("mul", w("reshape", g, shape=kept), p)}


@register_kernel("var")
def differentiate_var(w: GraphWriter, op: Any, g: str, y: str, x: str) -> dict[str, str]:
    """Gradient g 2 / (N - correction) (x - m)."""
    shape = w.compute_value(x).shape
    dims = list(normalize_axes(op.dim, len(shape)))
    kept = [1 if dim in dims else length for dim, length in enumerate(shape)]
    count = int(np.prod([shape[dim] for dim in dims]))
    c = w("sub", x, w("mean", x, dim=dims, keepdim=True))
    return {x: w("mul", w("reshape", g, shape=kept), w("mul", c, 2 / (count - op.correction)))}


@register_kernel("scaled_dot_product_attention")
def differentiate_attention(
    w: GraphWriter, op: Any, g: str, y: str, q: str, k: str, v: str, mask: str | None
) -> dict[str, str]:
    """Flash attention's: P = exp(S - L) of the scores that are found again, and D = sum g y of the y that was rounded.

    Dao et al., FlashAttention (2022), algorithm 4.
    """
    largest, _, total = write_exponentials(w, write_attention_scores(w, op, q, k, mask), [-1])
    logarithm = w("add", largest, w("log", total))
    p = w("exp", w("sub", write_attention_scores(w, op, q, k, mask), logarithm))
    mean = w("sum", w("mul", g, y), dim=-1, keepdim=True)
    by_scores = w("mul", p, w("sub", w("matmul", g, transpose_axes(w, v)), mean))
    by_product = w("mul", by_scores, w.compute_value(q).shape[-1] ** -0.5 if op.scale is None else op.scale)
    gradients = {q: w("matmul", by_product, k), k: w("matmul", transpose_axes(w, by_product), q)}
    return gradients | {v: w("matmul", transpose_axes(w, p), g)}


def transpose_axes(w: GraphWriter, x: str) -> str:
    return w("transpose", x, dim0=-1, dim1=-2)


def estimate_kernel_allowances(
    op: type[Op], case: OpExample, seed: int, change: Callable[[NamedArrays], NamedArrays], precision: Precision
) -> NamedArrays:
    """What the gradients of a kernel, in primitives, may be off by, under the loss of `primitives.pair`."""
    graph, leaves = build_op_graph(op, case, seed)
    leaves = change(leaves)
    node = graph.nodes[0]
    w = GraphWriter(leaves)
    own = node.op.resolve_dtype_defaults(2.0**-52)
    written = KERNELS[op.name]
    y = PRIMITIVE_FORMS[op.name][0](w, own, *node.operands)
    if y is None:
        return {}
    gradients = written(w, own, w("sub", y, "goal"), y, *node.operands)
    sums = [w("sum", term) for term in gradients.values()]
    w.nodes.append(Node("loss", OP_REGISTRY["sum"](), (w("stack", *sums, dim=0),)))
    read = {operand for line in w.nodes for operand in line.operands}
    w.leaves = {name: leaf for name, leaf in w.leaves.items() if name in read}
    return measure_spreads(
        Graph(w.nodes, list_shapes(w.leaves), list_kinds(w.leaves)), w.leaves, gradients, seed, precision
    )


def measure_spreads(
    graph: Graph, leaves: NamedArrays, names: dict[str, str], seed: int, precision: Precision
) -> NamedArrays:
    """What the values of some nodes may be off by, as `rounding.allowances` has it of gradients."""
    observer = MonteCarloRounding(precision, np.random.default_rng(seed))
    rounds: list[NamedArrays] = []
    for _ in range(ROUNDING_ROUNDS):
        values = graph.forward(observer.perturb_leaves(leaves), observer)
        moves = {name: values[node][1:] - values[node][0] for name, node in names.items()}
        rounds.append({name: compute_root_mean_square(move) for name, move in moves.items()})
    return {
        name: SAFETY_FACTOR
        * observer.spread_scale
        * compute_root_mean_square(np.array([spreads[name] for spreads in rounds]))
        for name in names
    }
