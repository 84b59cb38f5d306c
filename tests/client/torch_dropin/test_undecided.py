"""Checks that cannot be decided go to torch's own comparison, with a warning that says why."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

import gradcheckd
from gradcheckd import InconclusiveGradientWarning
from gradcheckd.torch import GradientMismatchError, gradcheck, gradgradcheck
from tests.client.torch_dropin.planted_functions import draw, flip_sign, make_square


def make_kink_point() -> Tensor:
    return torch.zeros(3, dtype=torch.float64).requires_grad_()


def compute_abs_with_zero_gradient(x: Tensor) -> Tensor:
    """Return |x| with the gradient 0 at 0, as central differences have it."""
    return x.abs()


def test_undecided_check_that_torch_accepts_passes_with_a_warning() -> None:
    with pytest.warns(InconclusiveGradientWarning, match="could not decide.*output0/input0: .*kink") as caught:
        assert gradcheck(compute_abs_with_zero_gradient, make_kink_point())
    assert caught[0].filename == __file__


def test_undecided_check_of_second_order_warns_at_the_caller() -> None:
    with pytest.warns(InconclusiveGradientWarning) as caught:
        assert gradgradcheck(lambda x: x * x.abs(), make_kink_point())
    assert caught[0].filename == __file__


def test_undecided_check_that_torch_refuses_fails_with_the_reason() -> None:
    with pytest.warns(InconclusiveGradientWarning), pytest.raises(GradcheckError) as caught:
        gradcheck(torch.nn.functional.leaky_relu, make_kink_point())
    assert not isinstance(caught.value, GradientMismatchError)
    assert "gradcheckd could not decide" in caught.value.__notes__[0]


@pytest.mark.parametrize("fast_mode", [False, True])
def test_torch_compares_at_the_tolerances_of_the_caller(fast_mode: bool) -> None:
    with pytest.warns(InconclusiveGradientWarning, match=r"atol=1e-05, rtol=0\.0001"):
        assert gradcheck(compute_abs_with_zero_gradient, make_kink_point(), rtol=1e-4, fast_mode=fast_mode)


def test_a_tolerance_wider_than_a_kink_decides() -> None:
    assert gradcheck(torch.relu, make_kink_point(), atol=2.0)


@pytest.mark.parametrize(
    ("func", "x", "reason"),
    [
        (torch.add, torch.tensor([0.0, torch.nan], dtype=torch.float64), "not a finite number"),
        (torch.add, torch.tensor([0.0, torch.inf], dtype=torch.float64), "not 0 where the input is infinite"),
        (lambda x, _: x.to_dense(), draw(3, 3, dtype=torch.float32).detach().to_mkldnn(), "layout of MKLDNN"),
    ],
)
def test_points_that_cannot_be_sent_are_left_to_torch(func: Callable[..., Tensor], x: Tensor, reason: str) -> None:
    with pytest.warns(InconclusiveGradientWarning, match=reason):
        gradcheck(lambda x: func(x, 0), x.requires_grad_(), atol=1e6, raise_exception=False)


def test_forward_mode_of_sparse_inputs_is_left_to_torch() -> None:
    x = torch.eye(2, dtype=torch.float64).to_sparse().requires_grad_()
    options = {"masked": True, "check_forward_ad": True, "check_undefined_grad": False}
    # Torch cannot either.
    with pytest.raises(NotImplementedError):
        torch.autograd.gradcheck(torch.Tensor.to_dense, x, **options)
    with (
        pytest.warns(InconclusiveGradientWarning, match="Forward mode of sparse inputs, .* is not judged"),
        pytest.raises(NotImplementedError),
    ):
        gradcheck(torch.Tensor.to_dense, x, **options)


def test_wrong_output_beside_an_undecided_one_fails() -> None:
    with pytest.raises(GradientMismatchError, match="output 1 with respect to input 1"):
        gradcheck(lambda x, y: (x.relu(), make_square(flip_sign)(y)), (make_kink_point(), draw(3)))


def test_a_service_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", "http://127.0.0.1:1")
    with pytest.raises(gradcheckd.UnreachableError):
        gradcheck(torch.sin, draw(3))


def test_refusals_beside_the_point_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise gradcheckd.ProblemError({"status": 401, "title": "Unauthorized", "detail": "no key"})

    monkeypatch.setattr(gradcheckd, "check_function", refuse)
    with pytest.raises(gradcheckd.ProblemError, match="Unauthorized"):
        gradcheck(torch.sin, draw(3))


def test_points_that_are_too_large_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise gradcheckd.ProblemError({"status": 413, "title": "Too large", "detail": "Send less"})

    monkeypatch.setattr(gradcheckd, "check_function", refuse)
    with pytest.warns(InconclusiveGradientWarning, match="Send less"):
        assert gradcheck(torch.sin, draw(3))
