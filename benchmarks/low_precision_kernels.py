"""A kernel family: problems of a kind, the kernel emulated, its model, its recipe and its bugs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.low_precision_formats import Format, Machine

Tensors = Mapping[str, Tensor]
ACCUMULATED_NARROWLY = "accumulated in 16 bits"
BLOCK_LOST = "a block of a sum lost"


@dataclass(frozen=True)
class Problem:
    """A problem of a kernel family, at a point.

    Attributes
    ----------
    tensors
        Tensors that are read and have no gradient, and labels.
    weights
        Tensors whose gradients the kernel returns.
    options
        Sizes and attributes of the kernel.
    """

    tensors: Tensors
    weights: Tensors
    options: Mapping[str, Any]

    @property
    def leaves(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {**self.tensors, **self.weights}


class Draw:
    """A source of the tensors of a problem: sizes, scales and equal rows at random."""

    def __init__(self, generator: np.random.Generator, format_: Format) -> None:
        self.generator = generator
        self._format = format_

    def size(self, low: int, high: int) -> int:
        """Draw a length, from low to high."""
        return int(self.generator.integers(low, high + 1))

    def scale(self, low: float = 1e-3) -> float:
        """Draw a scale between `low` and 1; each decade is as likely."""
        return float(10 ** self.generator.uniform(np.log10(low), 0))

    def chance(self, probability: float) -> bool:
        """Draw whether something of a probability happens."""
        return bool(self.generator.random() < probability)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Draw a normal tensor."""
        return self.read(scale * self.generator.normal(size=shape))

    def rows(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Draw a normal tensor; now and then all its rows are equal."""
        array = scale * self.generator.normal(size=shape)
        if self.chance(0.1):
            array[...] = array[..., :1, :]
        return self.read(array)

    def upstream(self, *shape: int) -> Tensor:
        """Draw an upstream gradient: normal, or that of a mean, the same for all."""
        if self.chance(0.2):
            return self.read(np.full(shape, 1 / np.prod(shape)))
        return self.rows(*shape, scale=self.scale())

    def read(self, array: Any) -> Tensor:
        """Return an array as the kernel reads it."""
        return self._format.read(torch.tensor(array, dtype=torch.float32))


class Kernel(ABC):
    """A kernel family. Gradients are returned in float32, before the rounding of the output."""

    name: ClassVar[str]
    bugs: ClassVar[Sequence[str]]

    @abstractmethod
    def draw(self, draw: Draw) -> Problem:
        """Draw a problem."""

    @abstractmethod
    def run(self, problem: Problem, machine: Machine, bug: str | None = None) -> dict[str, Tensor]:
        """Return the gradients that the kernel computes, with a bug or without."""

    @abstractmethod
    def compute_loss(self, leaves: Tensors, options: Mapping[str, Any]) -> Tensor:
        """Return the loss by PyTorch's functions, in the dtype of the leaves."""

    @abstractmethod
    def describe_model(self, problem: Problem) -> str:
        """Return the model as a check takes it."""

    @abstractmethod
    def list_casts(self, problem: Problem) -> Sequence[str]:
        """Return the places at which the kernel rounds, as its author would name them."""

    def make_recipe(self, problem: Problem, format_: Format) -> dict[str, Any]:
        """Return the recipe of the kernel in a format."""
        recipe: dict[str, Any] = {"accumulate": "FP32", "output": format_.stored}
        if format_.stored != "FP32":
            recipe["inputs"] = format_.name
            recipe["casts"] = dict.fromkeys(self.list_casts(problem), format_.stored)
        if format_.name == "TF32":
            recipe["products"] = "TF32"
        return recipe

    def differentiate(self, problem: Problem, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the gradients by PyTorch in a dtype."""
        leaves = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in problem.leaves.items()
        }
        weights = {name: leaves[name].clone().requires_grad_() for name in problem.weights}
        loss = self.compute_loss(leaves | weights, problem.options)
        return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
