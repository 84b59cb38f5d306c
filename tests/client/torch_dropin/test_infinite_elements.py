"""Infinite elements of an input stay where they are, and the others are judged."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gradcheckd import InconclusiveGradientWarning
from gradcheckd.torch import GradientMismatchError, gradcheck, use_directions
from tests.client.torch_dropin.planted_functions import Alter, double_one, flip_sign, keep

EVERYWHERE = pytest.mark.parametrize("directions", ["coordinates", "random"])


def attend_with(alter: Alter) -> Callable[[Tensor], Tensor]:
    """Return a softmax of which scores may be masked by -inf, with its gradient altered."""

    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return torch.softmax(x, -1)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (p,) = ctx.saved_tensors
            return alter(p * (gradient - (p * gradient).sum(-1, keepdim=True)))

    return Softmax.apply


def make_scores() -> Tensor:
    return torch.tensor([[0.5, -0.3, 1.0], [0.2, -torch.inf, 0.7]], dtype=torch.float64).requires_grad_()


@EVERYWHERE
def test_right_gradient_beside_infinities_passes(directions: Any) -> None:
    scores = make_scores()
    with use_directions(directions):
        assert gradcheck(attend_with(keep), scores)
    assert torch.equal(scores, make_scores())


@EVERYWHERE
@pytest.mark.parametrize("alter", [flip_sign, double_one])
def test_wrong_gradient_beside_infinities_is_found(alter: Alter, directions: Any) -> None:
    with use_directions(directions), pytest.raises(GradientMismatchError, match="output 0 with respect to input 0"):
        gradcheck(attend_with(alter), make_scores())


def test_complex_elements_with_an_infinite_part_are_judged_by_the_other() -> None:
    x = torch.complex(torch.tensor([1.0, torch.inf]).double(), torch.tensor([0.5, 2.0]).double()).requires_grad_()
    assert gradcheck(lambda x: x.imag.square(), x)


def test_forward_mode_beside_infinities_is_left_to_torch() -> None:
    options = {"check_forward_ad": True, "check_backward_ad": False, "check_undefined_grad": False}
    with pytest.warns(InconclusiveGradientWarning, match="with infinities, is not judged"):
        gradcheck(lambda x: torch.softmax(x, -1), make_scores(), raise_exception=False, **options)
