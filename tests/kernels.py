"""Backward passes as PyTorch's kernels take them, in primitives: graphs whose values are gradients, step by step.

Autograd through a forward pass in primitives is another computation than a kernel's backward pass. It may be sharper:
through `sub(x, mean(x))` the mean is taken away twice, and what the first is off by drops out; through max and exp the
largest weight of a softmax is 1 exactly. Kernels find y once, round it, and come back by way of it. So a fused op is
compared with both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from service.numerics.graph import Graph, Node, Values
from service.numerics.ops import REGISTRY
from service.numerics.ops.axes import axes
from service.numerics.ops.op import Case, Op
from service.numerics.precision import Precision
from service.numerics.rounding import ROUNDS, SAFETY, MonteCarlo, perturbed_leaves, root_mean_square
from tests.primitives import FORMS, Writer, attention_scores, exponentials
from tests.problems import around, kinds_of, shapes_of

Kernel = Callable[..., dict[str, str]]
KERNELS: dict[str, Kernel] = {}


def kernel(name: str) -> Callable[[Kernel], Kernel]:
    def mark(written: Kernel) -> Kernel:
        KERNELS[name] = written
        return written

    return mark


@kernel("logsumexp")
def logsumexp(w: Writer, op: Any, g: str, y: str, x: str) -> dict[str, str]:
    """Gradient g exp(x - y), of the y that was rounded."""
    kept = list(w.value(x).max(axis=axes(op.dim, w.value(x).ndim), keepdims=True).shape)
    p = w("exp", w("sub", x, w("reshape", y, shape=kept)))
    return {x: w("mul", w("reshape", g, shape=kept), p)}


@kernel("var")
def var(w: Writer, op: Any, g: str, y: str, x: str) -> dict[str, str]:
    """Gradient g 2 / (N - correction) (x - m)."""
    shape = w.value(x).shape
    dims = list(axes(op.dim, len(shape)))
    kept = [1 if dim in dims else length for dim, length in enumerate(shape)]
    count = int(np.prod([shape[dim] for dim in dims]))
    c = w("sub", x, w("mean", x, dim=dims, keepdim=True))
    return {x: w("mul", w("reshape", g, shape=kept), w("mul", c, 2 / (count - op.correction)))}


@kernel("scaled_dot_product_attention")
def attention(w: Writer, op: Any, g: str, y: str, q: str, k: str, v: str, mask: str | None) -> dict[str, str]:
    """Flash attention's: P = exp(S - L) of the scores that are found again, and D = sum g y of the y that was rounded.

    Dao et al., FlashAttention (2022), algorithm 4.
    """
    largest, _, total = exponentials(w, attention_scores(w, op, q, k, mask), [-1])
    logarithm = w("add", largest, w("log", total))
    p = w("exp", w("sub", attention_scores(w, op, q, k, mask), logarithm))
    mean = w("sum", w("mul", g, y), dim=-1, keepdim=True)
    by_scores = w("mul", p, w("sub", w("matmul", g, turned(w, v)), mean))
    by_product = w("mul", by_scores, w.value(q).shape[-1] ** -0.5 if op.scale is None else op.scale)
    found = {q: w("matmul", by_product, k), k: w("matmul", turned(w, by_product), q)}
    return found | {v: w("matmul", turned(w, p), g)}


def turned(w: Writer, x: str) -> str:
    return w("transpose", x, dim0=-1, dim1=-2)


def kernel_allowances(
    op: type[Op], case: Case, seed: int, change: Callable[[Values], Values], precision: Precision
) -> Values:
    """What the gradients of a kernel, in primitives, may be off by, under the loss of `primitives.pair`."""
    graph, leaves = around(op, case, seed)
    leaves = change(leaves)
    node = graph.nodes[0]
    w = Writer(leaves)
    own = node.op.in_dtype(2.0**-52)
    written = KERNELS[op.name]
    y = FORMS[op.name][0](w, own, *node.operands)
    if y is None:
        return {}
    found = written(w, own, w("sub", y, "goal"), y, *node.operands)
    sums = [w("sum", each) for each in found.values()]
    w.nodes.append(Node("loss", REGISTRY["sum"](), (w("stack", *sums, dim=0),)))
    read = {operand for each in w.nodes for operand in each.operands}
    w.leaves = {name: leaf for name, leaf in w.leaves.items() if name in read}
    return spreads(Graph(w.nodes, shapes_of(w.leaves), kinds_of(w.leaves)), w.leaves, found, seed, precision)


def spreads(graph: Graph, leaves: Values, names: dict[str, str], seed: int, precision: Precision) -> Values:
    """What the values of some nodes may be off by, as `rounding.allowances` has it of gradients."""
    observer = MonteCarlo(precision, np.random.default_rng(seed))
    rounds: list[Values] = []
    for _ in range(ROUNDS):
        values = graph.forward(perturbed_leaves(leaves, precision, observer), observer)
        moves = {name: values[node][1:] - values[node][0] for name, node in names.items()}
        rounds.append({name: root_mean_square(each) for name, each in moves.items()})
    return {
        name: SAFETY * observer.scale * root_mean_square(np.array([each[name] for each in rounds])) for name in names
    }
