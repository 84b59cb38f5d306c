"""Functions of torch with errors planted in their derivatives."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Alter = Callable[[Tensor], Tensor]


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Draw an input that requires a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()


def make_square(alter: Alter, alter_tangent: Alter | None = None) -> Callable[[Tensor], Tensor]:
    """Return x * x, with its gradient and its tangent altered."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x * x

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return alter(2 * x.conj() * gradient)

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return (alter_tangent or alter)(2 * x * tangent)

    return Square.apply


def keep(gradient: Tensor) -> Tensor:
    return gradient


def scale_one(gradient: Tensor) -> Tensor:
    factors = torch.ones(gradient.numel(), dtype=gradient.dtype)
    factors[1] = 1.0001
    return gradient * factors.reshape(gradient.shape)


def double_one(gradient: Tensor) -> Tensor:
    factors = torch.ones(gradient.numel(), dtype=gradient.dtype)
    factors[1] = 2
    return gradient * factors.reshape(gradient.shape)


def flip_sign(gradient: Tensor) -> Tensor:
    return -gradient


def scale_all(gradient: Tensor) -> Tensor:
    return 1.001 * gradient
