"""Fused ops allow what is right in any good implementation of them, and not much more than their primitives do."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from service.checks.graph.check import check
from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS
from service.numerics.gradients import analytic, autograd
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.model.rounding import estimate_rounding_allowances
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import Gradients, Op, OpExample
from service.numerics.ops.rounding_errors import ErrorModel
from tests.fused_as_primitives import PRIMITIVE_FORMS, PrimitiveForm, build_pair
from tests.kernel_forms import KERNELS as KERNEL_PASSES
from tests.kernel_forms import estimate_kernel_allowances
from tests.op_graphs import build_op_graph
from tests.test_every_op import every_op

FP32 = PRECISIONS["FP32"]
SCALES = (1e-8, 1e-4, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1e4, 1e8)
SHARE = 0.97
"""Elements of an op that are to hold; the rest is what the spread of 16 sweeps is itself off by."""
WRITTEN = [
    pytest.param(OP_REGISTRY[name], case, forms, id=f"{name}-{number}")
    for name, forms in sorted(PRIMITIVE_FORMS.items())
    for number, case in enumerate(OP_REGISTRY[name].examples)
]


def make_scaling(case: OpExample, scale: float) -> Callable[[NamedArrays], NamedArrays]:
    """Scale the inputs to which it does no harm, and round all to float32."""
    fixed = {"goal", "weight", "pos_weight", *case.sign_slots}

    def scale_leaves(leaves: NamedArrays) -> NamedArrays:
        floats = {name: leaf for name, leaf in leaves.items() if leaf.dtype.kind == "f"}
        factors = {name: 1 if name in fixed or case.high <= 1 else scale for name in floats}
        return leaves | {name: (leaf * factors[name]).astype(np.float32).astype(float) for name, leaf in floats.items()}

    return scale_leaves


def compute_allowance_ratios(
    op: type[Op], case: OpExample, forms: list[PrimitiveForm], kernels: Mapping[str, Any] = KERNEL_PASSES
) -> Array:
    """Allowances of the fused op over those of its primitives, of all elements at all scales.

    Of several forms each is right, and has to be allowed what it is off by: the largest counts.
    """
    ratios: list[Array] = []
    for seed, scale in enumerate(SCALES):
        if "attention" in op.name and scale > 100:
            # Scores of 1e8 are off by more than 1, and their exponentials by any factor.
            continue
        change = make_scaling(case, scale)
        graphs = [pair for form in forms if (pair := build_pair(op, case, form, seed, change)) is not None]
        if not graphs:
            continue
        fused, leaves = graphs[0][0]
        names = [
            name
            for name in leaves
            if name not in ("goal", *fused.leaf_kinds, *case.sign_slots) and name in graphs[0][1][1]
        ]
        with np.errstate(all="ignore"):
            ours = estimate_rounding_allowances(fused, leaves, FP32, seed, names)
            theirs = [estimate_rounding_allowances(*primitives, FP32, seed, names) for _, primitives in graphs]
            if op.name in kernels:
                theirs.append(estimate_kernel_allowances(op, case, seed, change, FP32))
        for name in names:
            largest = np.max([their[name] for their in theirs if name in their], axis=0)
            counts = np.isfinite(largest) & (largest > 0)
            ratios.append((ours[name][counts] / largest[counts]).ravel())
    return np.concatenate(ratios) if ratios else np.ones(1)


@pytest.mark.parametrize(("op", "case", "forms"), WRITTEN)
def test_a_fused_op_allows_four_times_what_its_primitives_do_at_most(
    op: type[Op], case: OpExample, forms: list[PrimitiveForm]
) -> None:
    assert np.mean(compute_allowance_ratios(op, case, forms) <= 4) >= SHARE


def test_an_op_that_allows_much_more_would_be_caught() -> None:
    op = OP_REGISTRY["scaled_dot_product_attention"]

    def allow_hundredfold(self: Op, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        results = op.backward_with_errors(self, errors, gradient, output, *inputs)
        return tuple(None if result is None else errors(result, 100 * np.abs(result)) for result in results)

    looser = type("Loose", (op,), {"backward_with_errors": allow_hundredfold})
    assert np.mean(compute_allowance_ratios(looser, op.examples[0], PRIMITIVE_FORMS[op.name]) <= 4) < SHARE


def measure_worst_ratio(
    graph: Graph, leaves: NamedArrays, gradients: NamedArrays, names: list[str], seed: int = 0
) -> float:
    """Largest error of gradients over what float32 is allowed."""
    with np.errstate(all="ignore"):
        allowed = estimate_rounding_allowances(graph, leaves, FP32, seed, names)
        right = analytic.differentiate_analytically(graph, leaves).gradients
        errors = {name: np.abs(gradients[name].astype(float) - right[name]) for name in names}
        parts = [deviation / allowed[name] for name, deviation in errors.items()]
    # What is beyond the range of float32 is another matter.
    counts = [part[np.isfinite(error) & (error > 0)] for part, error in zip(parts, errors.values(), strict=True)]
    return max((float(count.max()) for count in counts if count.size), default=0.0)


def round_to_float32(leaves: NamedArrays) -> NamedArrays:
    return {name: leaf.astype(np.float32) if leaf.dtype.kind == "f" else leaf for name, leaf in leaves.items()}


@every_op
def test_float32_over_sixteen_decades_is_within_what_is_allowed(op: type[Op], case: OpExample) -> None:
    for seed, scale in enumerate(10.0 ** np.arange(-8, 9, 4)):
        graph, leaves = build_op_graph(op, case, seed)
        leaves = make_scaling(case, float(scale))(leaves)
        names = [name for name in leaves if name not in ("goal", *graph.leaf_kinds, *case.sign_slots)]
        with np.errstate(all="ignore"):
            routes = [
                differentiate(graph, round_to_float32(leaves)).gradients
                for differentiate in (analytic.differentiate_analytically, autograd.differentiate_by_torch)
            ]
        for gradients in routes:
            assert measure_worst_ratio(graph, leaves, gradients, names, seed) <= 1, scale


SHAPES = [(1, 2, 8, 4), (1, 1, 32, 32), (2, 2, 16, 16), (1, 1, 9, 64)]
"""Of some the kernel of PyTorch takes the sums of the scores in another order as it finds them again."""


def draw_attention(shape: tuple[int, ...], scale: float, seed: int) -> tuple[Graph, NamedArrays]:
    generator = np.random.default_rng(seed)
    leaves = {name: generator.normal(size=(1, *shape)) for name in ("q", "k", "v", "y")}
    leaves = {name: (leaf * (1 if name == "y" else scale)).astype(np.float32).astype(float)
              for name, leaf in leaves.items()}  # fmt: skip
    nodes = [
        Node("o", OP_REGISTRY["scaled_dot_product_attention"](), ("q", "k", "v", None)),
        Node("loss", OP_REGISTRY["mse_loss"](), ("o", "y")),
    ]
    return Graph(nodes, {name: leaf.shape[1:] for name, leaf in leaves.items()}), leaves


def differentiate_by_torch(leaves: NamedArrays, attend: Callable[..., Any]) -> NamedArrays:
    """Gradients in float32 by an implementation in PyTorch."""
    given = {name: torch.from_numpy(leaf[0].astype(np.float32)) for name, leaf in leaves.items()}
    wanted = [given[name].requires_grad_() for name in "qkv"]
    loss = torch.nn.functional.mse_loss(attend(*wanted), given["y"])
    return {name: gradient.numpy() for name, gradient in zip("qkv", torch.autograd.grad(loss, wanted), strict=True)}


def make_kernel_attention(backend: Any) -> Callable[..., Any]:
    def attend(*operands: Any) -> Any:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(*operands)

    return attend


def attend_by_primitives(q: Any, k: Any, v: Any) -> Any:
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v


def differentiate_in_tiles(leaves: NamedArrays, tile: int = 3) -> NamedArrays:
    """Online softmax in tiles, and a backward pass from the log-sum-exp, all in float32."""
    q, k, v, y = (leaves[name][0].astype(np.float32) for name in ("q", "k", "v", "y"))
    scale, tiles = np.float32(q.shape[-1] ** -0.5), range(0, k.shape[-2], tile)
    largest = np.full((*q.shape[:-1], 1), -np.inf, np.float32)
    total, o = np.zeros_like(largest), np.zeros_like(q)

    def compute_scores(start: int) -> Array:
        return q @ np.swapaxes(k[..., start : start + tile, :], -1, -2) * scale

    for start in tiles:
        moved = np.maximum(largest, compute_scores(start).max(axis=-1, keepdims=True))
        p, factor = np.exp(compute_scores(start) - moved), np.exp(largest - moved)
        total, o = total * factor + p.sum(axis=-1, keepdims=True), o * factor + p @ v[..., start : start + tile, :]
        largest = moved
    logarithm, o = largest + np.log(total), o / total
    g = (o - y) * np.float32(2 / y.size)
    mean = (g * o).sum(axis=-1, keepdims=True)
    gradients = {name: np.zeros_like(q) for name in "qkv"}
    for start in tiles:
        here = slice(start, start + tile)
        p = np.exp(compute_scores(start) - logarithm)
        by_scores = p * (g @ np.swapaxes(v[..., here, :], -1, -2) - mean) * scale
        gradients["q"] += by_scores @ k[..., here, :]
        gradients["k"][..., here, :] = np.swapaxes(by_scores, -1, -2) @ q
        gradients["v"][..., here, :] = np.swapaxes(p, -1, -2) @ g
    return gradients


KERNELS: dict[str, Callable[[NamedArrays], NamedArrays]] = {
    "flash": lambda leaves: differentiate_by_torch(leaves, make_kernel_attention(SDPBackend.FLASH_ATTENTION)),
    "math": lambda leaves: differentiate_by_torch(leaves, make_kernel_attention(SDPBackend.MATH)),
    "primitives": lambda leaves: differentiate_by_torch(leaves, attend_by_primitives),
    "tiles": differentiate_in_tiles,
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_of_any_kernel_is_within_what_is_allowed(kernel: str, shape: tuple[int, ...]) -> None:
    for seed, scale in enumerate((1e-8, 1e-4, 0.3, 1.0, 3.0, 10.0, 30.0)):
        graph, leaves = draw_attention(shape, scale, seed)
        assert measure_worst_ratio(graph, leaves, KERNELS[kernel](leaves), ["q", "k", "v"], seed) <= 1, scale


def judge_attention(scale: float, seed: int, change: Callable[[NamedArrays], NamedArrays], **fields: Any) -> str:
    """The verdict on gradients that PyTorch found in float32, as changed, or on our own where none are given."""
    graph, leaves = draw_attention((1, 2, 6, 4), scale, seed)
    given = {name: leaf[0].tolist() for name, leaf in leaves.items()}
    nodes = [{"name": node.name, "op": node.op.name, "inputs": list(node.operands)} for node in graph.nodes]
    body: dict[str, Any] = {
        "tensors": {"y": given.pop("y")},
        "weights": given,
        "model": {"nodes": nodes},
        "include": [],
    }
    if not fields:
        gradients = change(KERNELS["flash"](leaves))
        fields = {"candidate": {
            name: {"datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in gradients.items()
        }}  # fmt: skip
    return check(body | fields | {"include": []})["outcome"]


@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0])
def test_float32_attention_is_decided_by_default(scale: float) -> None:
    for seed in range(3):
        assert judge_attention(scale, seed, dict, dtype="float32") == "pass"
        assert judge_attention(scale, seed, dict) == "pass"
        assert judge_attention(scale, seed, lambda gradients: gradients | {"k": 0 * gradients["k"]}) == "fail"


def normalise_in_one_pass(x: Any) -> Any:
    mean = x.mean(-1, keepdim=True)
    return (x - mean) * torch.rsqrt(((x * x).mean(-1, keepdim=True) - mean * mean).clamp(min=0) + 1e-5)


def normalise_with_expanded_product(x: Any) -> Any:
    mean = x.mean(-1, keepdim=True)
    rate = torch.rsqrt((x - mean).square().mean(-1, keepdim=True) + 1e-5)
    return x * rate - mean * rate


@pytest.mark.parametrize(
    ("normalise", "offsets"),
    [
        (lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:]), (0, 3, 100, 1e4)),
        (normalise_with_expanded_product, (0, 3, 100, 1e4)),
        (normalise_in_one_pass, (0, 1)),
    ],
)
def test_layer_norm_of_any_kind_is_within_what_is_allowed(normalise: Any, offsets: tuple[float, ...]) -> None:
    for seed, offset in enumerate(offsets):
        for count in (5, 64, 1024):
            generator = np.random.default_rng([seed, count])
            x, y = (generator.normal(size=(4, count)).astype(np.float32) for _ in range(2))
            x += np.float32(offset)
            nodes = [
                Node("z", OP_REGISTRY["layer_norm"](normalized_shape=count), ("x", None, None)),
                Node("loss", OP_REGISTRY["mse_loss"](), ("z", "y")),
            ]
            leaves = {"x": x[None].astype(float), "y": y[None].astype(float)}
            given = torch.from_numpy(x).requires_grad_()
            torch.nn.functional.mse_loss(normalise(given), torch.from_numpy(y)).backward()
            graph = Graph(nodes, {"x": x.shape, "y": y.shape})
            assert measure_worst_ratio(graph, leaves, {"x": given.grad.numpy()}, ["x"]) <= 1, (offset, count)


def draw_rows(scale: float) -> Iterator[tuple[Array, Array]]:
    for seed in range(4):
        generator = np.random.default_rng(seed)
        yield (generator.normal(size=(8, 7)) * scale).astype(np.float32), generator.integers(0, 7, 8)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 10.0, 30.0, 1e4])
def test_cross_entropy_from_a_log_sum_exp_is_within_what_is_allowed(scale: float) -> None:
    for x, labels in draw_rows(scale):
        graph = Graph([Node("loss", OP_REGISTRY["cross_entropy"](), ("x", "y", None))], {"x": x.shape, "y": (8,)},
                      {"y": "index"})  # fmt: skip
        given = torch.from_numpy(x).requires_grad_()
        own = given.gather(1, torch.from_numpy(labels)[:, None])[:, 0]
        (torch.logsumexp(given, 1) - own).mean().backward()
        leaves = {"x": x[None].astype(float), "y": labels[None]}
        assert measure_worst_ratio(graph, leaves, {"x": given.grad.numpy()}, ["x"]) <= 1


@pytest.mark.parametrize("name", ["silu", "softplus", "elu", "gelu"])
def test_far_out_where_the_slope_is_one_an_activation_allows_some_units(name: str) -> None:
    x = np.geomspace(50, 1e8, 200)[None].astype(np.float32).astype(float)
    graph = Graph([Node("y", OP_REGISTRY[name](), ("x",)), Node("loss", OP_REGISTRY["sum"](), ("y",))], {"x": (200,)})
    assert estimate_rounding_allowances(graph, {"x": x}, FP32, 0, ["x"])["x"].max() <= 64 * FP32.unit_roundoff
