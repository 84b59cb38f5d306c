"""Bugs written as people write them, in PyTorch, and nowhere near the catalogue: each is failed and named."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.grad import conv2d_weight  # pyright: ignore[reportUnknownVariableType]

from schemas.datatype import Array
from tests.solved_problems import SolvedProblem

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

Backward = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
Tensors = dict[str, torch.Tensor]
Candidate = dict[str, Array]


class _Wrong(torch.autograd.Function):
    """A value whose gradient is whatever one makes of it."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, backward: Backward, *inputs: torch.Tensor) -> torch.Tensor:
        ctx.wrong = backward
        return value.detach().clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (None, None, *ctx.wrong(*gradients))


def replace_backward(value: torch.Tensor, backward: Backward, *inputs: torch.Tensor) -> torch.Tensor:
    apply: Any = _Wrong.apply  # pyright: ignore[reportUnknownMemberType]
    return apply(value, backward, *inputs)


def make_node(name: str, op: str, *inputs: str | float, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "inputs": list(inputs), **attributes}


def draw_normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape)


CLASSIFIER: dict[str, Any] = {
    "tensors": {"x": draw_normal(6, 5), "y": np.array([0, 2, 1, 2, 2, 3]), "c": np.array([0.5, 2.0, 1.2, 0.7])},
    "weights": {"w1": draw_normal(7, 5), "b1": draw_normal(7), "w2": draw_normal(4, 7), "b2": draw_normal(4)},
    "nodes": [
        make_node("z1", "linear", "x", "w1", "b1"),
        make_node("a1", "tanh", "z1"),
        make_node("z2", "linear", "a1", "w2", "b2"),
        make_node("loss", "cross_entropy", "z2", "y", "c"),
    ],
}


def compute_classifier_loss(t: Tensors, bug: str) -> torch.Tensor:
    z1 = _apply_linear(t["x"], t["w1"], t["b1"], bug)
    z2 = functional.linear(_apply_tanh(z1, bug), t["w2"], t["b2"])
    p, q, w = torch.softmax(z2.detach(), 1), functional.one_hot(t["y"], 4), t["c"]
    sample_weights = w[t["y"]][:, None]
    made = {
        "no target": sample_weights * p / sample_weights.sum(),
        "no target, no weights": p / sample_weights.sum(),
        "no class weights": (p - q) / sample_weights.sum(),
        "no class weights at all": (p - q) / len(p),
        "sum": sample_weights * (p - q),
        "target less p": sample_weights * (q - p) / sample_weights.sum(),
        "diagonal": sample_weights * q * (p - 1) / sample_weights.sum(),
        "diagonal on top": sample_weights * (p - q) * p * (1 - p) / sample_weights.sum(),
    }
    loss = functional.cross_entropy(z2, t["y"], w)
    return replace_backward(loss, lambda g: (g * made[bug],), z2) if bug in made else loss


def _apply_tanh(z: torch.Tensor, bug: str) -> torch.Tensor:
    a = torch.tanh(z)
    slopes = {"slope 1": 1 + 0 * z, "at the output": 1 - torch.tanh(a) ** 2, "1 - z^2": 1 - z**2}
    return replace_backward(a, lambda g: (g * slopes[bug].detach(),), z) if bug in slopes else a


def _apply_linear(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, bug: str) -> torch.Tensor:
    counts = {
        "overwritten in the loop": [0] * (len(x) - 1) + [1],
        "first sample": [1] + [0] * (len(x) - 1),
        "third sample": [0, 0, 1] + [0] * (len(x) - 3),
        "last sample twice": [1] * (len(x) - 1) + [2],
        "averaged": [1 / len(x)] * len(x),
    }
    z = functional.linear(x, w, b)
    if bug not in counts:
        return z
    many = torch.tensor(counts[bug], dtype=x.dtype)[:, None]
    return replace_backward(z, lambda g: (g @ w.detach(), (many * g).T @ x.detach(), (many * g).sum(0)), x, w, b)


PICTURES: dict[str, Any] = {
    "tensors": {"x": draw_normal(2, 2, 8, 7), "y": draw_normal(2, 3, 3, 3)},
    "weights": {
        "k": draw_normal(4, 2, 3, 3),
        "g": draw_normal(4) + 2,
        "h": draw_normal(4),
        "m": draw_normal(3, 4, 2, 2),
    },
    "nodes": [
        make_node("z", "conv2d", "x", "k", padding=1),
        make_node("n", "batch_norm", "z", "g", "h"),
        make_node("p", "max_pool2d", "n", kernel_size=3, stride=2),
        make_node("q", "conv2d", "p", "m", padding=[1, 1]),
        make_node("o", "narrow", "q", dim=2, start=0, length=3),
        make_node("u", "narrow", "o", dim=3, start=0, length=3),
        make_node("loss", "mse_loss", "u", "y"),
    ],
}


def compute_picture_loss(t: Tensors, bug: str) -> torch.Tensor:
    z = _apply_conv(t["x"], t["k"], bug)
    mean, variance = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), correction=0, keepdim=True)
    mean = mean.detach() if bug in ("mean held", "both held") else mean
    variance = variance.detach() if bug in ("variance held", "both held") else variance
    unit = (z - mean) / (variance + 1e-5).sqrt()
    if bug == "no gain":
        gained = unit * t["g"].detach()[:, None, None]
        n = replace_backward(gained, lambda g: (g, (g * unit.detach()).sum((0, 2, 3))), unit, t["g"])
    else:
        n = unit * t["g"][:, None, None]
    p = _apply_pool(n + t["h"][:, None, None], bug)
    q = functional.conv2d(p, t["m"], padding=1)
    return functional.mse_loss(q[:, :, :3, :3], t["y"])


def _apply_conv(x: torch.Tensor, k: torch.Tensor, bug: str) -> torch.Tensor:
    z = functional.conv2d(x, k, padding=1)
    padded = functional.pad(x.detach(), (2, 2, 2, 2))

    def differentiate_by_kernel(g: torch.Tensor, top: int = 1, left: int = 1) -> torch.Tensor:
        height, width = x.shape[2] + 2, x.shape[3] + 2
        read = padded[:, :, top : top + height, left : left + width]
        return conv2d_weight(read, k.shape, g)

    made: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "kernel backwards": lambda g: differentiate_by_kernel(g).flip(2, 3),
        "kernel backwards in a row": lambda g: differentiate_by_kernel(g).flip(3),
        "padding off by one": lambda g: differentiate_by_kernel(g, 0, 0),
        "a column off": lambda g: differentiate_by_kernel(g, 1, 2),
    }
    return replace_backward(z, lambda g: (made[bug](g),), k) if bug in made else z


def _apply_pool(n: torch.Tensor, bug: str) -> torch.Tensor:
    p, places = functional.max_pool2d(n, 3, 2, return_indices=True)

    def overwrite_gradients(g: torch.Tensor) -> tuple[torch.Tensor]:
        flat = torch.zeros_like(n).flatten(2)
        for window in range(places.flatten(2).shape[2]):
            flat.scatter_(2, places.flatten(2)[..., window, None], g.flatten(2)[..., window, None])
        return (flat.reshape(n.shape),)

    return replace_backward(p, overwrite_gradients, n) if bug == "windows written over" else p


WORDS: dict[str, Any] = {
    "tensors": {"i": np.array([3, 0, 3, 1, 2, 0, 3]), "y": draw_normal(7, 5)},
    "weights": {"e": draw_normal(5, 4), "u": draw_normal(4, 4), "v": draw_normal(4, 4)},
    "nodes": [
        make_node("r", "embedding", "i", "e"),
        make_node("q", "linear", "r", "u"),
        make_node("k", "linear", "r", "v"),
        make_node("kt", "transpose", "k", dim0=0, dim1=1),
        make_node("s0", "matmul", "q", "kt"),
        make_node("s", "mul", "s0", 0.5),
        make_node("p", "softmax", "s", dim=-1),
        make_node("a", "matmul", "p", "r"),
        make_node("b", "add", "a", "r"),
        make_node("o", "linear", "b", "e"),
        make_node("loss", "mse_loss", "o", "y", reduction="sum"),
    ],
}


def compute_word_loss(t: Tensors, bug: str) -> torch.Tensor:
    e = t["e"]
    rows = e[t["i"]]
    order = {"last word kept": range(7), "first word kept": range(6, -1, -1)}

    def overwrite_gradients(g: torch.Tensor) -> tuple[torch.Tensor]:
        kept = torch.zeros_like(e)
        for at in order[bug]:
            kept[t["i"][at]] = g[at]
        return (kept,)

    r = (
        replace_backward(rows, overwrite_gradients, e)
        if bug in order
        else rows.detach()
        if bug == "output only"
        else rows
    )
    q, k = _square(r, t["u"], bug), r @ t["v"].T
    s = q @ k.T
    scaled = replace_backward(0.5 * s, lambda g: (g,), s) if bug == "scale forgotten" else 0.5 * s
    p = torch.softmax(scaled, -1)
    jacobians = {"p (1 - p)": p * (1 - p), "p": p}
    if bug in jacobians:
        p = replace_backward(p, lambda g: (g * jacobians[bug].detach(),), scaled)
    b = (p.detach() if bug == "weights held" else p) @ r + (r.detach() if bug == "no residual" else r)
    out = e.detach() if bug == "embedding only" else e
    return (b @ out.T - t["y"]).square().sum()


def _square(r: torch.Tensor, u: torch.Tensor, bug: str) -> torch.Tensor:
    q = r @ u.T
    return replace_backward(q, lambda g: (g @ u.detach().T, g.T @ r.detach()), r, u) if bug == "not transposed" else q


MODELS: dict[str, tuple[dict[str, Any], Callable[[Tensors, str], torch.Tensor]]] = {
    "classifier": (CLASSIFIER, compute_classifier_loss),
    "pictures": (PICTURES, compute_picture_loss),
    "words": (WORDS, compute_word_loss),
}

BUGS = [
    ("classifier", "no target", "missing_one_hot"),
    ("classifier", "no target, no weights", "missing_one_hot"),
    ("classifier", "no class weights", "channel_factor_missing"),
    ("classifier", "no class weights at all", "channel_factor_missing"),
    ("classifier", "sum", "scaled"),
    ("classifier", "target less p", "sign_flipped"),
    ("classifier", "diagonal", "softmax_jacobian_diagonal_only"),
    ("classifier", "diagonal on top", "softmax_jacobian_diagonal_only"),
    ("classifier", "slope 1", "missing_activation_derivative"),
    ("classifier", "at the output", "activation_derivative_at_output"),
    ("classifier", "1 - z^2", "activation_derivative_at_output"),
    ("classifier", "overwritten in the loop", "last_sample_only"),
    ("classifier", "first sample", "last_sample_only"),
    ("classifier", "third sample", "last_sample_only"),
    ("classifier", "last sample twice", "double_counted"),
    ("classifier", "averaged", "scaled"),
    ("pictures", "kernel backwards", "kernel_flipped"),
    ("pictures", "kernel backwards in a row", "kernel_flipped"),
    ("pictures", "padding off by one", "shifted"),
    ("pictures", "a column off", "shifted"),
    ("pictures", "mean held", "missing_mean_path"),
    ("pictures", "variance held", "missing_variance_path"),
    ("pictures", "both held", "missing_mean_path"),
    ("pictures", "no gain", "channel_factor_missing"),
    ("pictures", "windows written over", "scatter_without_accumulate"),
    ("words", "last word kept", "scatter_without_accumulate"),
    ("words", "first word kept", "scatter_without_accumulate"),
    ("words", "output only", "shared_weight_last_use_only"),
    ("words", "embedding only", "shared_weight_last_use_only"),
    ("words", "scale forgotten", "scaled"),
    ("words", "p (1 - p)", "softmax_jacobian_diagonal_only"),
    ("words", "p", "softmax_jacobian_diagonal_only"),
    ("words", "weights held", "detached"),
    ("words", "no residual", "detached"),
    ("words", "not transposed", "transposed"),
]


@lru_cache
def solve_model(model: str) -> SolvedProblem:
    spec = MODELS[model][0]
    leaves = {part: {name: array.tolist() for name, array in spec[part].items()} for part in ("tensors", "weights")}
    return SolvedProblem({**leaves, "model": {"nodes": spec["nodes"]}})


def compute_gradients(model: str, bug: str, dtype: torch.dtype = torch.float64) -> Candidate:
    """What the model has for gradients with a bug, in a dtype."""
    spec, loss = MODELS[model]
    leaves = {name: torch.tensor(values) for part in ("tensors", "weights") for name, values in spec[part].items()}
    leaves = {name: leaf.to(dtype) if leaf.is_floating_point() else leaf for name, leaf in leaves.items()}
    weights = {name: leaves[name].requires_grad_() for name in spec["weights"]}
    torch.autograd.backward(loss({**leaves, **weights}, bug))
    return {
        name: np.zeros(weight.shape) if weight.grad is None else weight.grad.double().numpy()
        for name, weight in weights.items()
    }


@pytest.mark.parametrize("model", MODELS)
def test_without_a_bug_nothing_is_failed(model: str) -> None:
    assert solve_model(model).list_bug_names(compute_gradients(model, "none")) == {}
    assert solve_model(model).list_bug_names(compute_gradients(model, "none", torch.float32), "FP32") == {}


@pytest.mark.parametrize(("dtype", "datatype"), [(torch.float64, None), (torch.float32, "FP32")], ids=["64", "32"])
@pytest.mark.parametrize(("model", "bug", "name"), BUGS)
def test_a_bug_is_named_in_every_gradient_that_it_changes(
    model: str, bug: str, name: str, dtype: torch.dtype, datatype: str | None
) -> None:
    right, gradients = compute_gradients(model, "none"), compute_gradients(model, bug, dtype)
    changed = {
        tensor
        for tensor, g in right.items()
        if np.linalg.norm(gradients[tensor] - g) > 1e-3 * np.linalg.norm(g) and g.any()
    }
    named = solve_model(model).list_bug_names(gradients, datatype)
    assert changed
    assert {bug for bug, names in named.items() if name in names} == changed == named.keys()
