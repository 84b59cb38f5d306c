"""Autograd functions whose backward pass has a bug, and right ones of unusual forms."""

from typing import Any

import torch
from torch import Tensor, nn


class Swish(torch.autograd.Function):
    """x sigmoid(x) w^T; `detach` and `no_grad` in its forward pass stop no gradient."""

    factor = 1.0

    @classmethod
    def scale(cls, gradient: Tensor) -> Tensor:
        return cls.factor * gradient

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        with torch.no_grad():
            gate = torch.sigmoid(x.detach())
        return (x * gate) @ w.data.t()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, w = ctx.saved_tensors
        gate = torch.sigmoid(x)
        by_x, by_w = None, None
        if ctx.needs_input_grad[0]:
            by_x = Swish.scale(gradient @ w * (gate + x * gate * (1 - gate)))
        if ctx.needs_input_grad[1]:
            # Its memory is not contiguous.
            by_w = ((x * gate).t() @ gradient).t()
        return by_x, by_w


class SplitSquare(torch.autograd.Function):
    """Two outputs, the newer form with `setup_context`, and an argument that is no tensor."""

    sign = 1.0

    @staticmethod
    def forward(x: Tensor, power: int) -> tuple[Tensor, Tensor]:
        return x**power, x.sin()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.power = inputs[1]

    @staticmethod
    def backward(ctx: Any, by_power: Tensor, by_sine: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return by_power * ctx.power * x ** (ctx.power - 1) + SplitSquare.sign * by_sine * x.cos(), None


class NumpySquare(torch.autograd.Function):
    """Leaves torch, so that nothing can trace it."""

    factor = 2.0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(x.detach().numpy() ** 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return NumpySquare.factor * ctx.saved_tensors[0] * gradient


class SwishBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.w = nn.Linear(3, 4), nn.Parameter(torch.ones(2, 4) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return Swish.apply(self.fc(x), self.w)


class NumpyBlock(nn.Module):
    """A module with a function that nothing can trace, and what it computes in plain torch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return NumpySquare.apply(self.fc(x))

    def compute_plainly(self, x: Tensor) -> Tensor:
        return self.fc(x) ** 2


class StraightThrough(torch.autograd.Function):
    """Rounding that hands its gradient through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient
