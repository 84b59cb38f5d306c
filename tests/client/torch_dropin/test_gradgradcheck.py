"""Second derivatives: right ones pass, planted errors of a double backward fail."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gradcheckd.torch import GradientMismatchError, gradgradcheck
from tests.client.torch_dropin.planted_functions import (
    double_one,
    draw,
    flip_sign,
    keep,
    make_square,
    scale_all,
    scale_one,
)

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "elementwise": (torch.tanh, (draw(3),)),
    "matrix product": (torch.matmul, (draw(2, 3), draw(3, 2, seed=1))),
    "several outputs": (lambda x: (x.sin(), x.exp(), x > 0), (draw(3),)),
    "complex": (lambda z: z * z.abs(), (draw(2, dtype=torch.complex128),)),
    "float32": (torch.tanh, (draw(3, dtype=torch.float32),)),
    "input without a gradient": (lambda x, n, y: x * y + n, (draw(3), 2, torch.ones(3))),
    "no second derivative": (lambda x: 2 * x, (draw(3),)),
    "unused input": (lambda x, y: x.sin(), (draw(3), draw(3))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_second_derivative_passes(name: str) -> None:
    func, inputs = FUNCTIONS[name]
    assert gradgradcheck(func, inputs)


@pytest.mark.parametrize("name", ["elementwise", "matrix product", "several outputs"])
def test_forward_over_reverse_passes(name: str) -> None:
    func, inputs = FUNCTIONS[name]
    assert gradgradcheck(func, inputs, check_fwd_over_rev=True)
    assert gradgradcheck(func, inputs, check_fwd_over_rev=True, check_rev_over_rev=False, check_undefined_grad=False)


def make_cube(alter: Callable[[Tensor], Tensor], alter_tangent: Callable[[Tensor], Tensor] = keep) -> Any:
    """Return the cube with a right gradient, of which the derivative is altered."""
    square = make_square(alter, alter_tangent)

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x**3

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return 3 * square(ctx.saved_tensors[0]) * gradient

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor) -> Tensor:
            return 3 * ctx.saved_tensors[0] ** 2 * tangent

    return Cube.apply


@pytest.mark.parametrize("alter", [scale_one, double_one, flip_sign, scale_all])
def test_planted_error_of_a_second_derivative_fails(alter: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(GradientMismatchError, match=r"^Jacobian mismatch for output 0 with respect to input 0"):
        gradgradcheck(make_cube(alter), draw(3))


def test_planted_error_of_forward_over_reverse_fails() -> None:
    func = make_cube(keep, scale_all)
    assert gradgradcheck(func, draw(3))
    with pytest.raises(GradientMismatchError, match="forward mode mismatch for output 0 with respect to input 0"):
        gradgradcheck(func, draw(3), check_fwd_over_rev=True)
    with pytest.raises(GradientMismatchError, match="forward mode mismatch"):
        gradgradcheck(func, draw(3), check_fwd_over_rev=True, check_rev_over_rev=False, check_undefined_grad=False)


def test_given_grad_outputs_are_those_of_the_check() -> None:
    seen: list[Tensor] = []
    func = make_square(lambda gradient: seen.append(gradient.detach()) or gradient)
    upstream = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    x = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(func, x, upstream)
    assert torch.equal(seen[0], upstream)
    assert gradgradcheck(func, (x,), (upstream.detach(),)), "one that needs no gradient is not moved"


@pytest.mark.parametrize("noncontiguous", [False, True])
def test_random_grad_outputs_may_be_non_contiguous(noncontiguous: bool) -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            seen.append(gradient.is_contiguous())
            return 2 * gradient

    seen: list[bool] = []
    assert gradgradcheck(Twice.apply, draw(3, 4), gen_non_contig_grad_outputs=noncontiguous)
    assert seen[0] is not noncontiguous


@pytest.mark.parametrize(
    "options",
    [
        {"check_rev_over_rev": False},
        {"check_rev_over_rev": False, "check_fwd_over_rev": True},
        {
            "check_rev_over_rev": False,
            "check_fwd_over_rev": True,
            "check_undefined_grad": False,
            "check_batched_grad": True,
        },
    ],
)
def test_contradictory_modes_are_refused_as_by_torch(options: dict[str, bool]) -> None:
    for check in (gradgradcheck, torch.autograd.gradgradcheck):
        with pytest.raises(AssertionError):
            check(torch.tanh, draw(3), **options)


def test_raise_exception_false_returns_false() -> None:
    assert gradgradcheck(make_cube(flip_sign), draw(3), raise_exception=False) is False


def test_masked_sparse_input_passes() -> None:
    x = torch.eye(2, dtype=torch.float64).to_sparse().requires_grad_()

    def func(x: Tensor) -> Tensor:
        return torch.sparse.sum(x * x).reshape(1)

    # Gradients of sparse inputs are sparse outputs, which torch's checker refuses, too.
    for check in (gradgradcheck, torch.autograd.gradgradcheck):
        with pytest.raises(ValueError, match="Sparse output is not supported"):
            check(func, x, masked=True)
