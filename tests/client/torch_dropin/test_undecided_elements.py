"""A small failure hides no other element: what it leaves undecided is decided by smaller moves."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import gradcheckd
from gradcheckd import InconclusiveGradientWarning
from gradcheckd.torch import GradientMismatchError, gradcheck, use_directions

POLE = 0.99
EVERYWHERE = pytest.mark.parametrize("directions", ["coordinates", "random"])


def make_point() -> Tensor:
    return torch.tensor([1.5, 1.0], dtype=torch.float64).requires_grad_()


def divide_beside_pole(factor: float) -> Callable[[Tensor], Tensor]:
    """Return x_0^2 with a gradient off by 1e-9, and 1 / (x_1 - 0.99) with a gradient off by a factor."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return torch.stack([x[0] ** 2, 1 / (x[1] - POLE)])

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return gradient * torch.stack([2 * x[0] * (1 + 1e-9), -factor / (x[1] - POLE) ** 2])

    return Function.apply


def test_element_beside_a_pole_is_left_undecided_at_first() -> None:
    func = divide_beside_pole(1.0)
    report = gradcheckd.check_function(
        func, make_point(), vjp=lambda x, c: torch.autograd.grad(func(x), x, c)[0], directions="coordinates"
    )
    assert [line.outcome for line in report.verdicts["y/x"].directions] == ["fail", "inconclusive"]


@EVERYWHERE
def test_right_element_passes_beside_a_small_failure(directions: Any) -> None:
    with use_directions(directions):
        assert gradcheck(divide_beside_pole(1.0), make_point())


@EVERYWHERE
@pytest.mark.parametrize("factor", [1.0001, 2.0, -1.0])
def test_wrong_element_is_found_beside_a_small_failure(factor: float, directions: Any) -> None:
    with use_directions(directions), pytest.raises(GradientMismatchError):
        gradcheck(divide_beside_pole(factor), make_point())


def test_element_that_no_move_decides_leaves_the_check_to_torch() -> None:
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return torch.stack([x[0] ** 2, x[1].abs()])

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return gradient * torch.stack([2 * x[0] * (1 + 1e-9), x[1].sign()])

    point = torch.tensor([1.5, 0.0], dtype=torch.float64).requires_grad_()
    with use_directions("coordinates"), pytest.warns(InconclusiveGradientWarning, match="output0/input0: 1 of its"):
        assert gradcheck(Function.apply, point)
