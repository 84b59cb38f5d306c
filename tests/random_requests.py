"""Random requests whose gradients have sizes of many decades within one tensor, and gradients of them by PyTorch.

Tensors have ten elements at most, so that a report lists every element that it judges.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from service.numerics.core.batching import Array

Body = dict[str, Any]
Generator = np.random.Generator
TORCH_DTYPES = {"FP64": torch.float64, "FP32": torch.float32, "BF16": torch.bfloat16, "FP16": torch.float16}
REQUEST_DTYPES = {"FP64": "float64", "FP32": "float32", "BF16": "bfloat16", "FP16": "float16"}
_MAX_DECADES = {"FP16": 3.0}
"""Powers of ten, either way, of the sizes within one tensor where there are not 12."""


@dataclass(frozen=True)
class RandomProblem:
    """A model with leaves, of which `w` is differentiated by, and the same in PyTorch."""

    nodes: tuple[Mapping[str, Any], ...]
    leaves: Mapping[str, Array]
    loss: Callable[[Mapping[str, Any]], Any]

    def build_request(self, **fields: Any) -> Body:
        """The request, beside the candidate."""
        tensors = {name: leaf.tolist() for name, leaf in self.leaves.items() if name != "w"}
        weights = {"w": self.leaves["w"].tolist()}
        return {"tensors": tensors, "weights": weights, "model": {"nodes": list(self.nodes)}, "include": []} | fields

    def compute_gradient(self, arithmetic: str) -> Array:
        """What PyTorch makes of it, in an arithmetic."""
        tensors = {name: torch.tensor(leaf).to(TORCH_DTYPES[arithmetic]) for name, leaf in self.leaves.items()}
        weight = tensors["w"].requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss({**tensors, "w": weight}), weight)
        return gradient.double().numpy()


def _make_node(name: str, op: str, *inputs: str, **attributes: Any) -> Mapping[str, Any]:
    return {"name": name, "op": op, "inputs": list(inputs), **attributes}


def _draw_spread(generator: Generator, decades: float, *shape: int) -> Array:
    signs = np.where(generator.random(shape) < 0.5, -1, 1)
    return signs * 10 ** generator.uniform(-decades, decades, shape)


def _draw_elementwise(generator: Generator, decades: float) -> RandomProblem:
    """sum a sin w: a gradient whose elements have nothing to do with one another."""
    leaves = {"w": generator.normal(size=8), "a": _draw_spread(generator, decades, 8)}
    lines = _make_node("s", "sin", "w"), _make_node("p", "mul", "s", "a"), _make_node("loss", "sum", "p")
    return RandomProblem(lines, leaves, lambda arrays: (torch.sin(arrays["w"]) * arrays["a"]).sum())


def _draw_cancelling(generator: Generator, decades: float) -> RandomProblem:
    """sum w x: columns of a large number, its negative and one that is smaller by up to 16 decades."""
    large = _draw_spread(generator, decades, 4)
    small = large * 10 ** generator.uniform(-16, 0, 4)
    leaves = {"w": generator.normal(size=4), "x": generator.permuted(np.array([large, -large, small]), axis=0)}
    lines = _make_node("p", "mul", "w", "x"), _make_node("loss", "sum", "p")
    return RandomProblem(lines, leaves, lambda arrays: (arrays["w"] * arrays["x"]).sum())


def _draw_least_squares(generator: Generator, decades: float) -> RandomProblem:
    """Near its solution, with columns of different sizes."""
    columns = 10 ** generator.uniform(-decades / 4, decades / 4, 4)
    x, w = generator.normal(size=(9, 4)) * columns, generator.normal(size=4) / columns
    y = x @ w + generator.normal(size=9) * 10 ** generator.uniform(-9, 0)
    lines = _make_node("z", "linear", "x", "w"), _make_node("loss", "mse_loss", "z", "y")
    return RandomProblem(
        lines, {"w": w, "x": x, "y": y}, lambda arrays: functional.mse_loss(arrays["x"] @ arrays["w"], arrays["y"])
    )


def _draw_softmax(generator: Generator, decades: float) -> RandomProblem:
    """A cross-entropy, up to where it is sure of itself."""
    leaves = {"w": generator.normal(size=(2, 5)) * 10 ** generator.uniform(-1, 1.5), "y": generator.random((2, 5))}
    lines = (_make_node("loss", "cross_entropy", "w", "y"),)
    return RandomProblem(lines, leaves, lambda arrays: functional.cross_entropy(arrays["w"], arrays["y"]))


def _draw_attention(generator: Generator, decades: float) -> RandomProblem:
    """The queries of one head."""
    leaves = {name: generator.normal(size=(3, 3)) * 10 ** generator.uniform(-1, 0.7) for name in "wkva"}
    lines = (
        _make_node("o", "scaled_dot_product_attention", "w", "k", "v"),
        _make_node("p", "mul", "o", "a"),
        _make_node("loss", "sum", "p"),
    )

    def compute_loss(arrays: Mapping[str, Any]) -> Any:
        scores = arrays["w"] @ arrays["k"].T / 3**0.5
        return ((torch.softmax(scores, -1) @ arrays["v"]) * arrays["a"]).sum()

    return RandomProblem(lines, leaves, compute_loss)


def _draw_zero_gradient(generator: Generator, decades: float) -> RandomProblem:
    """What is added to all that a softmax takes: its gradient is 0."""
    leaves = {
        "w": generator.normal(size=1),
        "x": generator.normal(size=6),
        "a": _draw_spread(generator, decades / 4, 6),
    }
    lines = (
        _make_node("z", "add", "x", "w"),
        _make_node("s", "softmax", "z", dim=-1),
        _make_node("p", "mul", "s", "a"),
        _make_node("loss", "sum", "p"),
    )
    return RandomProblem(
        lines, leaves, lambda arrays: (torch.softmax(arrays["x"] + arrays["w"], -1) * arrays["a"]).sum()
    )


PROBLEM_FAMILIES = (
    _draw_elementwise,
    _draw_cancelling,
    _draw_least_squares,
    _draw_softmax,
    _draw_attention,
    _draw_zero_gradient,
)


def draw_problem(seed: int) -> tuple[RandomProblem, str, Body]:
    """Return the problem that a seed stands for, the arithmetic of its candidate, and the fields that say so."""
    generator = np.random.default_rng([seed, 0xAB])
    arithmetic = str(generator.choice(list(TORCH_DTYPES)))
    problem = PROBLEM_FAMILIES[seed % len(PROBLEM_FAMILIES)](generator, _MAX_DECADES.get(arithmetic, 12.0))
    # The check itself runs in float64, or as the candidate did.
    dtype = REQUEST_DTYPES[arithmetic] if generator.random() < 0.5 else "float64"
    return problem, arithmetic, problem.build_request(dtype=dtype, candidate_dtype=arithmetic, seed=seed)
