"""Each parameter of torch's checkers does here what it does there."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

import gradcheckd
from gradcheckd.torch import GradientMismatchError, gradcheck, gradgradcheck, use_directions
from tests.client.torch_dropin.planted_functions import draw, flip_sign, keep, make_square, scale_all


def list_parameters(function: Callable[..., Any]) -> list[tuple[Any, ...]]:
    """Return name, kind and default of each parameter."""
    parameters = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]


@pytest.mark.parametrize(
    ("own", "original"),
    [(gradcheck, torch.autograd.gradcheck), (gradgradcheck, torch.autograd.gradgradcheck)],
)
def test_signatures_are_those_of_torch(own: Callable[..., Any], original: Callable[..., Any]) -> None:
    assert list_parameters(own) == list_parameters(original)
    assert "eps: float = 1e-06, atol: float = 1e-05, rtol: float = 0.001" in str(inspect.signature(own))


def test_raise_exception_false_returns_false() -> None:
    assert gradcheck(make_square(flip_sign), draw(3), raise_exception=False) is False
    assert gradcheck(make_square(keep), draw(3), raise_exception=False) is True


@pytest.mark.parametrize("tolerance", [{"rtol": 0.01}, {"atol": 1.0}, {"rtol": 0.01, "atol": 1e-3}])
def test_a_given_tolerance_is_that_of_the_check(tolerance: dict[str, float]) -> None:
    assert gradcheck(make_square(scale_all), draw(3), **tolerance)


@pytest.mark.parametrize("tolerance", [{"rtol": 1e-4}, {"atol": 1e-6}, {"rtol": 1e-4, "atol": 1e-6}, {"eps": 0.1}])
def test_errors_beyond_a_given_tolerance_fail(tolerance: dict[str, float]) -> None:
    with pytest.raises(GradientMismatchError):
        gradcheck(make_square(scale_all), draw(3), **tolerance)


def test_torchs_defaults_are_no_tolerance() -> None:
    assert torch.autograd.gradcheck(make_square(lambda g: 1.0005 * g), draw(3))
    with pytest.raises(GradientMismatchError):
        gradcheck(make_square(lambda g: 1.0005 * g), draw(3))
    # As a number of the caller's it is one.
    assert gradcheck(make_square(lambda g: 1.0005 * g), draw(3), rtol=1e-3, atol=1e-5)


def test_a_tight_tolerance_refuses_no_gradient_that_is_right_to_rounding() -> None:
    assert gradcheck(torch.tanh, draw(3, dtype=torch.float32), atol=1e-12, rtol=0.0)


def make_unsteady_square(size: float) -> Callable[[Tensor], Tensor]:
    runs = [0]

    def alter(gradient: Tensor) -> Tensor:
        runs[0] += 1
        return gradient + size * (runs[0] % 2)

    return make_square(alter)


def test_nondet_tol_bounds_two_backward_passes() -> None:
    with pytest.raises(GradcheckError, match="Backward is not reentrant"):
        gradcheck(make_unsteady_square(1e-13), draw(3))
    # Torch's test of zero gradients would see the difference, too; the tolerance counts for both passes here.
    with pytest.raises(GradcheckError, match="backward not multiplied by grad_output"):
        gradcheck(make_unsteady_square(1e-15), draw(3), nondet_tol=1e-12)
    with pytest.raises(GradcheckError, match="Backward is not reentrant"):
        gradcheck(make_unsteady_square(1e-3), draw(3), nondet_tol=1e-6)


class RefusesUndefined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> Tensor:
        if gradient is None:
            raise RuntimeError("no gradient")
        return 2 * gradient


@pytest.mark.filterwarnings("ignore:Backwards compatibility")
def test_check_undefined_grad_tests_undefined_gradients() -> None:
    assert gradcheck(RefusesUndefined.apply, draw(3), check_undefined_grad=False)
    with pytest.raises(GradcheckError, match="Expected backward function to handle undefined output grads"):
        gradcheck(RefusesUndefined.apply, draw(3))


def test_gradient_must_be_multiplied_by_the_upstream_one() -> None:
    # The gradient is right along with any cotangent but 0.
    class Jumps(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return 2 * gradient if gradient.any() else torch.ones_like(gradient)

    with pytest.raises(GradcheckError, match="backward not multiplied by grad_output"):
        gradcheck(Jumps.apply, draw(3))


def test_check_grad_dtypes_tests_the_datatypes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gradcheck(torch.tanh, draw(3), check_grad_dtypes=True, check_forward_ad=True)
    differentiate = torch.autograd.grad
    # Autograd itself converts gradients to the datatype of their input.
    monkeypatch.setattr(
        torch.autograd,
        "grad",
        lambda *arguments, **options: [gradient.float() for gradient in differentiate(*arguments, **options)],
    )
    with pytest.raises(GradcheckError, match=r"dtype mismatch: torch\.float32; input 0 has torch\.float64"):
        gradcheck(lambda x: 2 * x, draw(3), check_grad_dtypes=True)


class RefusesBatches(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.tensor([2 * float(number) for number in gradient], dtype=gradient.dtype)


@pytest.mark.filterwarnings("ignore")
def test_check_batched_grad_tests_vmap_over_backward() -> None:
    assert gradcheck(torch.tanh, draw(3), check_batched_grad=True)
    assert gradcheck(RefusesBatches.apply, draw(3))
    with pytest.raises(GradcheckError, match="While computing batched gradients"):
        gradcheck(RefusesBatches.apply, draw(3), check_batched_grad=True)


@pytest.mark.filterwarnings("ignore")
def test_check_batched_forward_grad_tests_vmap_over_forward_mode() -> None:
    assert gradcheck(torch.tanh, draw(3), check_forward_ad=True, check_batched_forward_grad=True)

    def copy_through_list(tangent: Tensor) -> Tensor:
        return torch.tensor(tangent.tolist(), dtype=tangent.dtype)

    func = make_square(keep, copy_through_list)
    assert gradcheck(func, draw(3), check_forward_ad=True, check_undefined_grad=False)
    with pytest.raises(GradcheckError, match="While computing batched gradients"):
        gradcheck(func, draw(3), check_forward_ad=True, check_batched_forward_grad=True, check_undefined_grad=False)


def test_check_forward_ad_judges_forward_mode() -> None:
    func = make_square(keep, scale_all)
    assert gradcheck(func, draw(3))
    message = "Jacobian computed with forward mode mismatch for output 1 with respect to input 1: "
    with pytest.raises(GradientMismatchError, match=message) as caught:
        gradcheck(lambda x, y: (x * y, func(y)), (draw(3), draw(3)), check_forward_ad=True)
    assert "Forward and backward mode differ for output 1 with respect to input 1: " in str(caught.value)
    with pytest.raises(GradientMismatchError, match=message):
        gradcheck(lambda x, y: (x * y, func(y)), (draw(3), draw(3)), check_forward_ad=True, check_backward_ad=False)


def test_check_backward_ad_false_leaves_backward_out() -> None:
    func = make_square(scale_all, keep)
    assert gradcheck(func, draw(3), check_forward_ad=True, check_backward_ad=False)
    with pytest.raises(GradientMismatchError, match=r"^Jacobian mismatch for output 0 with respect to input 0"):
        gradcheck(func, draw(3), check_forward_ad=True)


@pytest.mark.parametrize(
    "options",
    [
        {"check_backward_ad": False},
        {"check_batched_grad": True, "check_backward_ad": False, "check_forward_ad": True},
        {"check_batched_forward_grad": True},
    ],
)
def test_contradictory_modes_are_refused_as_by_torch(options: dict[str, bool]) -> None:
    for check in (gradcheck, torch.autograd.gradcheck):
        with pytest.raises(AssertionError):
            check(torch.tanh, draw(3), **options)


def test_inputs_that_torch_refuses_are_refused() -> None:
    for check in (gradcheck, torch.autograd.gradcheck):
        with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
            check(torch.tanh, torch.ones(3))
        with pytest.raises(RuntimeError, match="The 0th input has a dimension with stride 0"):
            check(torch.tanh, torch.ones(1, dtype=torch.float64).expand(3).requires_grad_())
        with pytest.raises(ValueError, match="Sparse output is not supported"):
            check(lambda x: x.to_sparse(), draw(3))


def test_fast_mode_takes_random_directions() -> None:
    # One element of ten thousand is 1e-4 too large: random directions cannot see that.
    def count_evaluations(**options: Any) -> int:
        count = [0]

        def func(x: Tensor) -> Tensor:
            count[0] += 1
            return x.sin()

        assert gradcheck(func, draw(12), **options)
        return count[0]

    assert count_evaluations(fast_mode=True) < 40 < count_evaluations(fast_mode=False)
    with use_directions("random"):
        assert count_evaluations(fast_mode=False) < 40


def test_unknown_directions_are_refused() -> None:
    with pytest.raises(gradcheckd.RequestError, match="'automatic', 'random', 'coordinates'; 'all' was given"):  # noqa: SIM117
        with use_directions("all"):  # pyright: ignore[reportArgumentType]
            pass
