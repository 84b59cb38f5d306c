"""The gradient of a function that stays with the caller."""

from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradcheckd
from gradcheckd import GradientError, ProblemError, RequestError, Service, TensorError
from gradcheckd.arrays import to_number

POINT = np.array([0.5, -1.5, 2.0])


def loss(w: Any) -> Any:
    """sum_i sin(w_i) w_(i-1)"""
    return (np.sin(w) * np.roll(w, 1)).sum()


def gradient(w: Any) -> Any:
    return np.cos(w) * np.roll(w, 1) + np.sin(np.roll(w, -1))


def compute_wrong_gradient(w: Any) -> Any:
    return gradient(w) * [1, 1.0001, 1]


def test_a_right_gradient_passes(service: Service) -> None:
    report = service.check_function(loss, POINT, gradient, evaluations="full")
    assert (report.outcome, report.passed) == ("pass", True)
    assert report.evaluations == len(report.verdicts["x"].directions) * 14 + 19
    assert report.noise < 1e-15
    assert report.missed["probability"] == pytest.approx(0.001)
    assert report.text().startswith("gradcheckd: pass\n")


def test_a_wrong_element_is_found(service: Service) -> None:
    told: list[tuple[int, int]] = []
    report = service.check_function(
        loss,
        POINT,
        compute_wrong_gradient(POINT),
        directions="coordinates",
        evaluations="full",
        progress=lambda *step: told.append(step),
    )
    assert report.outcome == "fail"
    outcomes = {direction.index: direction.outcome for direction in report.verdicts["x"].directions}
    assert outcomes == {(0,): "pass", (1,): "fail", (2,): "pass"}
    assert told == [(done, report.evaluations) for done in range(1, report.evaluations + 1)]
    assert report.verdicts["x"].taylor is not None


def test_names_many_tensors_and_every_option(service: Service) -> None:
    point = {"w": POINT, "b": 0.25}
    report = service.check_function(
        lambda p: loss(p["w"]) + p["b"] ** 2,
        point,
        lambda p: {"w": gradient(p["w"]), "b": 2 * p["b"]},
        directions={"kind": "random", "count": 2},
        scale=0.5,
        seed=3,
        candidate_dtype="FP32",
        relative_error=1e-3,
    )
    assert report.passed
    assert {name: len(verdict.directions) for name, verdict in report.verdicts.items()} == {"w": 2, "b": 2}
    assert report.missed["single_element"]["relative_error"] == 1e-3


TORCH = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize("dtype", TORCH.values(), ids=TORCH)
def test_a_loss_of_torch_gets_tensors_of_torch(service: Service, dtype: torch.dtype) -> None:
    def sum_squares(w: torch.Tensor) -> torch.Tensor:
        assert w.dtype == dtype
        return (w.double() ** 2).sum()

    point = torch.tensor([1.0, -2.0, 0.5], dtype=dtype, requires_grad=True)
    sum_squares(point).backward()
    assert service.check_function(sum_squares, point, point.grad, directions="coordinates").outcome == "pass"
    assert point.grad is not None
    assert service.check_function(sum_squares, point, -point.grad, directions="coordinates").outcome == "fail"


@pytest.mark.parametrize("make", [list, np.asarray, lambda w: np.asarray(w, np.float32)], ids=["list", "f64", "f32"])
def test_points_of_lists_and_of_float32(service: Service, make: Any) -> None:
    kinds: set[Any] = set()

    def sum_squares(w: Any) -> float:
        kinds.add(w.dtype)
        w *= 1  # The loss may write to what it gets.
        return float(w @ w)

    assert service.check_function(sum_squares, make([1.0, 2.0]), make([2.0, 4.0])).passed
    assert len(kinds) == 1


def test_an_assertion_has_the_report(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", url)
    assert gradcheckd.assert_function(loss, POINT, gradient).passed
    assert gradcheckd.check_function(loss, POINT, compute_wrong_gradient).outcome == "fail"
    with pytest.raises(GradientError, match=r"x: one element: x\[1\]"):
        gradcheckd.assert_function(loss, POINT, compute_wrong_gradient, directions="coordinates")


def test_an_error_of_the_loss_says_at_which_point(service: Service) -> None:
    def raise_error(_: Any) -> float:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        service.check_function(raise_error, POINT, POINT)
    assert caught.value.__notes__ == ["gradcheckd: raised by the function at the base"]


NUMBERS = {
    "an array": lambda w: np.array([[np.sum(w**2)]]),
    "of NumPy": lambda w: np.longdouble(np.sum(w**2)),
    "of torch": lambda w: torch.tensor([np.sum(w**2)], requires_grad=True),
    "of jax": lambda w: jnp.asarray(np.sum(w**2)),
    "of torch in bfloat16": lambda w: torch.tensor([np.sum(w**2)], dtype=torch.bfloat16),
    "a fraction": lambda w: sum(Fraction(float(value)) ** 2 for value in w),
    "a whole number": lambda _: 3,
}


@pytest.mark.parametrize("loss", NUMBERS.values(), ids=NUMBERS)
def test_loss_may_be_a_number_of_any_library(loss: Any) -> None:
    assert to_number(loss(np.array([1.0, 0.5])), "it") in (1.25, 3)


MANY = {
    "many": (
        lambda _: np.zeros((4, 2)),
        r"The function returned an array of shape \(4, 2\); it must return one number",
    ),
    "many of torch": (lambda _: torch.zeros(3), r"an array of shape \(3,\); it must"),
    "none": (lambda _: None, "The function returned None; it must"),
    "text": (lambda _: "1.5", r"The function returned '1.5' \(str\); it must"),
    "text in an array": (lambda _: np.array("1.5"), "The function returned '1.5'"),
    "a complex number": (lambda _: 1j, "The function returned 1j"),
    "a list": (lambda _: [1.0], r"The function returned \[1.0\] \(list\)"),
}


@pytest.mark.parametrize(("loss", "message"), MANY.values(), ids=MANY)
def test_loss_of_several_numbers_is_refused(service: Service, loss: Any, message: str) -> None:
    with pytest.raises(TensorError, match=message) as caught:
        service.check_function(loss, POINT, POINT)
    assert not hasattr(caught.value, "__notes__"), "the loss did not raise it"


def test_a_loss_that_is_not_finite_is_refused_with_its_points(service: Service) -> None:
    with pytest.raises(ProblemError, match="losses"):
        service.check_function(lambda _: float("nan"), POINT, POINT)


def test_a_gradient_of_another_shape_is_refused(service: Service) -> None:
    with pytest.raises(ProblemError, match="/candidate/x: its shape is"):
        service.check_function(loss, POINT, POINT[:2])


def test_a_loss_that_is_no_function_is_refused(service: Service) -> None:
    with pytest.raises(TensorError, match="The function takes a point; float was given"):
        service.check_function(1.0, POINT, POINT)  # type: ignore[arg-type]


def test_single_array_for_a_named_point_is_refused(service: Service) -> None:
    with pytest.raises(TensorError, match="The candidate is one ndarray; expected a mapping with 'w'"):
        service.check_function(lambda at: loss(at["w"]), {"w": POINT}, POINT)


def test_bounds_and_scales_of_elements_are_kept(service: Service) -> None:
    """A logarithm that has no value beyond its bounds, at a point with an element on one of them."""
    at = np.array([0.0, 2.99, 1.0])
    seen: list[Any] = []

    def record_point(w: Any) -> float:
        seen.append(w)
        return float(np.sum(np.sqrt(w + 1)) - np.log(3 - w[1]))

    right = 0.5 / np.sqrt(at + 1) + [0, 1 / (3 - at[1]), 0]
    scale = np.array([0.5, 0.25, 0.25])
    for factor, outcome in ((1, "pass"), (1.001, "fail")):
        report = service.check_function(
            record_point,
            at,
            factor * right,
            directions="coordinates",
            bounds={"min": [0, 1, -1], "max": 3},
            scale=scale,
        )
        assert report.outcome == outcome
    moved = np.abs(np.array(seen) - at).max(axis=0)
    assert (np.min(seen, axis=0) >= [0, 1, -1]).all()
    assert (np.max(seen, axis=0) < [np.inf, 3, 3]).all()
    assert moved.tolist() == [0.0625, pytest.approx(0.004, abs=0.004), 0.03125]


def test_gradients_are_named_where_the_point_is(service: Service) -> None:
    def sum_named_squares(at: Any) -> float:
        return float(np.sum(at["w"] * at["w"]) * np.sqrt(at["b"]))

    point = {"w": POINT, "b": np.array(0.25, np.float32)}
    right = {"w": 2 * POINT * 0.5, "b": np.sum(POINT * POINT)}
    options = {"scale": {"w": 0.5}, "bounds": {"b": {"min": 0.0}}, "tolerance": {"rtol": 1e-4}}
    assert service.check_function(sum_named_squares, point, right, **options).outcome == "pass"
    wrong = right | {"b": right["b"] * 1.001}
    assert service.check_function(sum_named_squares, point, wrong, **options).outcome == "fail"


def test_a_tolerance_takes_the_place_of_rounding(service: Service) -> None:
    off = gradient(POINT) * (1 + 1e-5)
    assert service.check_function(loss, POINT, off).outcome == "fail"
    assert service.check_function(loss, POINT, off, tolerance={"rtol": 1e-4}).outcome == "pass"
    assert service.check_function(loss, POINT, off, tolerance={"rtol": 1e-6}).outcome == "fail"
    assert service.check_function(loss, POINT, off, tolerance={"rtol": 1e-15}).outcome == "inconclusive"


def test_a_loss_that_returns_none_has_no_value_there(service: Service) -> None:
    """On one side alone: the other one decides."""

    def evaluate_upper_half(w: Any) -> Any:
        return None if (w < POINT).any() else loss(w)

    for given, outcome in ((gradient, "pass"), (compute_wrong_gradient, "fail")):
        report = service.check_function(evaluate_upper_half, POINT, given, directions="coordinates", seed=3)
        assert report.outcome in (outcome, "inconclusive")
    with pytest.raises(TensorError, match="returned None"):
        service.check_function(lambda _: None, POINT, gradient)


@pytest.mark.parametrize("bounds", [0, {"min": 0}, {"w": 0}, [0, 1]])
def test_bounds_of_another_form_are_refused(service: Service, bounds: Any) -> None:
    with pytest.raises(RequestError, match="bounds have min, max or both, as in bounds="):
        service.check_function(lambda at: loss(at["w"]), {"w": POINT}, {"w": gradient(POINT)}, bounds=bounds)


def test_few_evaluations_suffice_for_a_right_gradient(service: Service) -> None:
    calls: list[float] = []

    def count_call(w: Any) -> Any:
        calls.append(0.0)
        return loss(w)

    report = service.check_function(count_call, POINT, gradient)
    assert report.passed
    assert len(calls) == report.evaluations == 23
    assert report.missed["probability"] == pytest.approx(0.002)


def test_a_wrong_gradient_takes_all_evaluations(service: Service) -> None:
    steps: list[tuple[int, int]] = []
    report = service.check_function(
        loss, POINT, compute_wrong_gradient(POINT), evaluations="few", progress=lambda *step: steps.append(step)
    )
    assert report.outcome == "fail"
    assert report.evaluations == 75
    assert [done for done, _ in steps] == list(range(1, 76))
    assert {total for _, total in steps} == {23, 75}
    full = service.check_function(loss, POINT, compute_wrong_gradient(POINT), evaluations="full")
    assert [direction.judged for direction in full.verdicts["x"].directions] == [
        direction.judged for direction in report.verdicts["x"].directions
    ]


def test_outputs_take_few_evaluations_too(service: Service) -> None:
    right = service.check_function(np.sin, POINT, vjp=lambda w, c: c * np.cos(w))
    assert (right.outcome, right.evaluations) == ("pass", 23)
    flipped = service.check_function(np.sin, POINT, vjp=lambda w, c: -c * np.cos(w))
    assert (flipped.outcome, flipped.evaluations) == ("fail", 75)


def test_a_tolerance_or_float32_takes_all_evaluations_at_once(service: Service) -> None:
    assert service.check_function(loss, POINT, gradient, tolerance={"rtol": 1e-3}).evaluations == 75
    single = POINT.astype(np.float32)
    assert service.check_function(loss, single, gradient(single)).evaluations > 60


def test_evaluations_of_another_kind_are_refused(service: Service) -> None:
    with pytest.raises(RequestError, match='evaluations is "full" or "few"'):
        service.check_function(loss, POINT, gradient, evaluations="some")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="derivatives take all evaluations"):
        service.check_function(loss, POINT, evaluations="few")
