"""A second derivative that is rounding of others is not called wrong; one beside it that is wrong, is."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gradcheckd import InconclusiveGradientWarning
from gradcheckd.torch import GradientMismatchError, gradgradcheck, use_directions
from tests.client.torch_dropin.planted_functions import draw


class Identity(torch.autograd.Function):
    """The identity; its gradient is that of a subclass."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass


class RightOnce(Identity):
    """The identity with a right gradient, whose own gradient is off by 1e-4."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return WrongOnce.apply(gradient)


class WrongOnce(Identity):
    """The identity with a gradient off by 1e-4."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 1.0001 * gradient


def attend(x: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    return torch.softmax(weights @ x, 0) @ values


def draw_saturated() -> tuple[Tensor, Tensor, Tensor]:
    """Draw inputs with scores so far apart that the largest probability is 1 to rounding."""
    generator = torch.Generator().manual_seed(0)
    x, weights, values = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((3,), (3, 3), (3, 2))
    )
    return x.requires_grad_(), (40 * weights).requires_grad_(), values.requires_grad_()


EVERYWHERE = pytest.mark.parametrize("directions", ["coordinates", "random"])


@EVERYWHERE
def test_rounding_of_a_saturated_softmax_is_undecided(directions: Any) -> None:
    with use_directions(directions), pytest.warns(InconclusiveGradientWarning, match="rounding of others"):
        assert gradgradcheck(attend, draw_saturated())


@EVERYWHERE
def test_wrong_second_derivative_beside_that_rounding_is_found(directions: Any) -> None:
    def func(x: Tensor, weights: Tensor, values: Tensor) -> Tensor:
        return attend(x, weights, RightOnce.apply(values) ** 2)

    with use_directions(directions), pytest.raises(GradientMismatchError, match="output2/input2: probable bug: scaled"):
        gradgradcheck(func, draw_saturated())


@EVERYWHERE
def test_small_second_derivative_beside_large_ones_is_judged(directions: Any) -> None:
    def func(x: Tensor, y: Tensor) -> Tensor:
        return 1e6 * x**3 + RightOnce.apply(y) ** 3

    with use_directions(directions), pytest.raises(GradientMismatchError, match="output 1"):
        gradgradcheck(func, (draw(3), draw(3, seed=1)))
