"""Random requests whose gradients have sizes of many decades within one tensor, and gradients of them by PyTorch.

Tensors have ten elements at most, so that a report lists every element that it judges.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from service.numerics.tiles import Array

Body = dict[str, Any]
Generator = np.random.Generator
TORCH = {"FP64": torch.float64, "FP32": torch.float32, "BF16": torch.bfloat16, "FP16": torch.float16}
DTYPES = {"FP64": "float64", "FP32": "float32", "BF16": "bfloat16", "FP16": "float16"}
_DECADES = {"FP16": 3.0}
"""Powers of ten, either way, of the sizes within one tensor where there are not 12."""


@dataclass(frozen=True)
class Posed:
    """A model with leaves, of which `w` is differentiated by, and the same in PyTorch."""

    lines: tuple[Mapping[str, Any], ...]
    leaves: Mapping[str, Array]
    loss: Callable[[Mapping[str, Any]], Any]

    def body(self, **fields: Any) -> Body:
        """The request, beside the candidate."""
        tensors = {name: leaf.tolist() for name, leaf in self.leaves.items() if name != "w"}
        weights = {"w": self.leaves["w"].tolist()}
        return {"tensors": tensors, "weights": weights, "model": {"nodes": list(self.lines)}, "include": []} | fields

    def gradient(self, arithmetic: str) -> Array:
        """What PyTorch makes of it, in an arithmetic."""
        tensors = {name: torch.tensor(leaf).to(TORCH[arithmetic]) for name, leaf in self.leaves.items()}
        weight = tensors["w"].requires_grad_()
        (found,) = torch.autograd.grad(self.loss({**tensors, "w": weight}), weight)
        return found.double().numpy()


def _node(name: str, op: str, *inputs: str, **attributes: Any) -> Mapping[str, Any]:
    return {"name": name, "op": op, "inputs": list(inputs), **attributes}


def _spread(generator: Generator, decades: float, *shape: int) -> Array:
    signs = np.where(generator.random(shape) < 0.5, -1, 1)
    return signs * 10 ** generator.uniform(-decades, decades, shape)


def _plain(generator: Generator, decades: float) -> Posed:
    """sum a sin w: a gradient whose elements have nothing to do with one another."""
    leaves = {"w": generator.normal(size=8), "a": _spread(generator, decades, 8)}
    lines = _node("s", "sin", "w"), _node("p", "mul", "s", "a"), _node("loss", "sum", "p")
    return Posed(lines, leaves, lambda each: (torch.sin(each["w"]) * each["a"]).sum())


def _cancelling(generator: Generator, decades: float) -> Posed:
    """sum w x: columns of a large number, its negative and one that is smaller by up to 16 decades."""
    large = _spread(generator, decades, 4)
    small = large * 10 ** generator.uniform(-16, 0, 4)
    leaves = {"w": generator.normal(size=4), "x": generator.permuted(np.array([large, -large, small]), axis=0)}
    lines = _node("p", "mul", "w", "x"), _node("loss", "sum", "p")
    return Posed(lines, leaves, lambda each: (each["w"] * each["x"]).sum())


def _least_squares(generator: Generator, decades: float) -> Posed:
    """Near its solution, with columns of different sizes."""
    columns = 10 ** generator.uniform(-decades / 4, decades / 4, 4)
    x, w = generator.normal(size=(9, 4)) * columns, generator.normal(size=4) / columns
    y = x @ w + generator.normal(size=9) * 10 ** generator.uniform(-9, 0)
    lines = _node("z", "linear", "x", "w"), _node("loss", "mse_loss", "z", "y")
    return Posed(lines, {"w": w, "x": x, "y": y}, lambda each: functional.mse_loss(each["x"] @ each["w"], each["y"]))


def _softmax(generator: Generator, decades: float) -> Posed:
    """A cross-entropy, up to where it is sure of itself."""
    leaves = {"w": generator.normal(size=(2, 5)) * 10 ** generator.uniform(-1, 1.5), "y": generator.random((2, 5))}
    lines = (_node("loss", "cross_entropy", "w", "y"),)
    return Posed(lines, leaves, lambda each: functional.cross_entropy(each["w"], each["y"]))


def _attention(generator: Generator, decades: float) -> Posed:
    """The queries of one head."""
    leaves = {name: generator.normal(size=(3, 3)) * 10 ** generator.uniform(-1, 0.7) for name in "wkva"}
    lines = (
        _node("o", "scaled_dot_product_attention", "w", "k", "v"),
        _node("p", "mul", "o", "a"),
        _node("loss", "sum", "p"),
    )

    def loss(each: Mapping[str, Any]) -> Any:
        scores = each["w"] @ each["k"].T / 3**0.5
        return ((torch.softmax(scores, -1) @ each["v"]) * each["a"]).sum()

    return Posed(lines, leaves, loss)


def _nothing(generator: Generator, decades: float) -> Posed:
    """What is added to all that a softmax takes: its gradient is 0."""
    leaves = {"w": generator.normal(size=1), "x": generator.normal(size=6), "a": _spread(generator, decades / 4, 6)}
    lines = (
        _node("z", "add", "x", "w"),
        _node("s", "softmax", "z", dim=-1),
        _node("p", "mul", "s", "a"),
        _node("loss", "sum", "p"),
    )
    return Posed(lines, leaves, lambda each: (torch.softmax(each["x"] + each["w"], -1) * each["a"]).sum())


FAMILIES = (_plain, _cancelling, _least_squares, _softmax, _attention, _nothing)


def posed(seed: int) -> tuple[Posed, str, Body]:
    """Return the problem that a seed stands for, the arithmetic of its candidate, and the fields that say so."""
    generator = np.random.default_rng([seed, 0xAB])
    arithmetic = str(generator.choice(list(TORCH)))
    problem = FAMILIES[seed % len(FAMILIES)](generator, _DECADES.get(arithmetic, 12.0))
    # The check itself runs in float64, or as the candidate did.
    dtype = DTYPES[arithmetic] if generator.random() < 0.5 else "float64"
    return problem, arithmetic, problem.body(dtype=dtype, candidate_dtype=arithmetic, seed=seed)
