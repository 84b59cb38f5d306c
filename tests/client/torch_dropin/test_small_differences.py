"""Differences of amplified rounding are no findings of a suite; those of a planted error are."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import gradcheckd
from gradcheckd.torch import GradientMismatchError, gradcheck, use_directions
from gradcheckd.torch.small_differences import find_real_failures
from tests.client.torch_dropin.planted_functions import double_one, draw, keep, make_square

ROUNDOFF = 2.0**-53


def scale(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda gradient: factor * gradient


@pytest.mark.parametrize(("directions", "forward"), [("random", False), ("coordinates", False), ("random", True)])
def test_difference_of_half_the_digits_passes(directions: Any, forward: bool) -> None:
    func = make_square(scale(1 + 1e-9))
    assert (
        gradcheckd.check_function(lambda x: x * x, draw(3), vjp=lambda x, c: 2 * x * c * (1 + 1e-9)).outcome == "fail"
    )
    with use_directions(directions):
        assert gradcheck(func, draw(4, 5), check_forward_ad=forward, check_backward_ad=not forward)


@pytest.mark.parametrize("directions", ["random", "coordinates"])
@pytest.mark.parametrize("forward", [False, True])
def test_larger_difference_fails(directions: Any, forward: bool) -> None:
    func = make_square(scale(1 + 1e-7))
    with use_directions(directions), pytest.raises(GradientMismatchError):
        gradcheck(func, draw(4, 5), check_forward_ad=forward, check_backward_ad=not forward)


@pytest.mark.parametrize(("dtype", "passes"), [(torch.float32, True), (torch.float16, False)])
def test_sign_of_a_small_element_is_no_small_difference_in_narrow_datatypes(dtype: Any, passes: bool) -> None:
    lines = (make_judged_element("fail", -2.0, 2e-5), make_judged_element("pass", 0.0, 1.0))
    report: Any = SimpleNamespace(verdicts={"y/x": SimpleNamespace(outcome="fail", directions=lines)}, dot_tests=())
    assert (not find_real_failures(report, torch.finfo(dtype).eps / 2)) == passes


@pytest.mark.parametrize("forward", [False, True])
def test_doubled_element_fails_in_float16(forward: bool) -> None:
    with use_directions("coordinates"), pytest.raises(GradientMismatchError):
        gradcheck(
            make_square(double_one),
            draw(4, dtype=torch.float16, seed=1),
            check_forward_ad=forward,
            check_backward_ad=not forward,
        )


@pytest.mark.parametrize("forward", [False, True])
def test_wrong_element_that_random_directions_see_as_a_small_difference_fails(forward: bool) -> None:
    sizes = torch.tensor([1.0, 3e-9, 0.5, 1.0] * 5, dtype=torch.float64)

    def func(x: Tensor) -> Tensor:
        return sizes * make_square(double_one)(x)

    with use_directions("random"), pytest.raises(GradientMismatchError, match="input 0"):
        gradcheck(func, draw(20), check_forward_ad=forward, check_backward_ad=not forward)


def test_small_difference_of_many_elements_passes_along_random_directions() -> None:
    with use_directions("random"):
        assert gradcheck(make_square(scale(1 + 1e-9)), draw(300))


def test_both_modes_may_differ_by_half_the_digits() -> None:
    assert gradcheck(make_square(scale(1 + 1e-9), scale(1 - 1e-9)), draw(3), check_forward_ad=True)


def make_judged_element(outcome: str, error: float, reference: float = 1.0) -> Any:
    return SimpleNamespace(outcome=outcome, judged=reference * (1 + error), reference=reference)


@pytest.mark.parametrize(("reference", "found"), [(1e-3, ["y/x"]), (1e-10, [])])
def test_small_element_beside_large_ones_counts_unless_it_is_rounding(reference: float, found: list[str]) -> None:
    lines = (make_judged_element("fail", 1e-4, reference), make_judged_element("pass", 0.0, 1e3))
    report: Any = SimpleNamespace(verdicts={"y/x": SimpleNamespace(outcome="fail", directions=lines)}, dot_tests=())
    assert find_real_failures(report, ROUNDOFF) == found


@pytest.mark.parametrize(
    ("error", "failed", "listed", "found"),
    [(1e-9, 1, True, []), (1e-7, 1, True, ["y/x"]), (float("nan"), 1, True, ["y/x"]), (1e-9, 2, False, ["y/x"])],
)
def test_verdict_counts_by_its_largest_difference(error: float, failed: int, listed: bool, found: list[str]) -> None:
    lines = (make_judged_element("fail", error), make_judged_element("pass", 0.0))
    verdict = SimpleNamespace(
        outcome="fail",
        directions=lines if listed else (),
        worst=lines,
        elements=SimpleNamespace(failed=failed),
    )
    report: Any = SimpleNamespace(verdicts={"y/x": verdict}, dot_tests=())
    assert find_real_failures(report, ROUNDOFF) == found


@pytest.mark.parametrize(
    ("jvp", "found"), [(1 + 1e-9, []), (1.001, ["dot test y/x"]), (float("nan"), ["dot test y/x"])]
)
def test_dot_test_counts_by_its_difference(jvp: float, found: list[str]) -> None:
    test = SimpleNamespace(name="y/x", outcome="fail", vjp=1.0, jvp=jvp)
    report: Any = SimpleNamespace(verdicts={}, dot_tests=(test,))
    assert find_real_failures(report, ROUNDOFF) == found


def make_steep(alter: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return x^-4, with its gradient altered."""

    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**-4

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return alter(-4 * x**-5 * gradient)

    return Steep.apply


def test_element_that_a_coarse_difference_hides_is_looked_at_alone() -> None:
    point = torch.linspace(0.5, 2, 25)
    # Near its pole, along random directions, the function has a difference of two digits.
    point[:2] = torch.tensor([0.14, 0.42])
    point.requires_grad_()
    assert gradcheck(make_steep(keep), point)
    with use_directions("random"):
        assert gradcheck(make_steep(double_one), point)
    with pytest.raises(GradientMismatchError, match="input 0"):
        gradcheck(make_steep(double_one), point)
