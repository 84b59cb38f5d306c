"""Losses with points of their own: exceptions, kinks, and further rounds with smaller moves."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import gradcheckd
from gradcheckd import (
    BlackBoxReport,
    FunctionError,
    GradientError,
    InconclusiveGradientWarning,
    RequestError,
    Service,
)
from gradcheckd.arrays import TypedTensor, to_tensor
from gradcheckd.function_evaluation import PointValues
from gradcheckd.further_rounds import is_constant_near_base

W, B = np.array([0.5, -1.5, 2.0]), np.array([0.25])


def loss(w: Any, b: Any) -> Any:
    return (np.sin(w) * b).sum()


def gradient(point: Any) -> Any:
    w, b = point
    return np.cos(w) * b, np.sin(w).sum().reshape(1)


def compute_wrong_gradient(point: Any) -> Any:
    return gradient(point)[0], 1.001 * gradient(point)[1]


def test_a_tuple_is_a_point_of_several_arrays(service: Service) -> None:
    report = service.check_function(loss, (W, B), gradient, bounds=({"min": -2}, None), scale=(0.5, 0.25))
    assert (report.outcome, list(report.verdicts)) == ("pass", ["input0", "input1"])
    report = service.check_function(loss, [W, B], compute_wrong_gradient, bounds={"min": -3}, scale={"input0": 0.5})
    outcomes = {name: verdict.outcome for name, verdict in report.verdicts.items()}
    assert outcomes == {"input0": "pass", "input1": "fail"}


def test_a_tuple_of_equal_shapes_is_not_stacked(service: Service) -> None:
    report = service.check_function(lambda a, b: float(a @ b), (W, 2 * W), lambda point: (point[1], point[0]))
    assert (report.outcome, list(report.verdicts)) == ("pass", ["input0", "input1"])


def make_logarithm(distance: float) -> Any:
    """A logarithm that raises outside its domain, which ends at a distance from the point 1."""

    def function(w: Any) -> float:
        if (w <= 1 - distance).any():
            raise ArithmeticError("the logarithm has no value")
        return float(np.log(w - (1 - distance)).sum())

    return function


CLOSE = np.array([1.0])


@pytest.mark.parametrize(("distance", "rounds"), [(0.25, 1), (1e-3, 2), (5e-5, 3)])
def test_an_exception_counts_as_no_value_and_smaller_moves_find_the_derivative(
    service: Service, distance: float, rounds: int
) -> None:
    right = 1 / (CLOSE - (1 - distance))
    for factor, outcome in ((1, "pass"), (1.001, "fail")):
        report = service.check_function(make_logarithm(distance), CLOSE, factor * right, directions="coordinates")
        assert (report.outcome, report.rounds) == (outcome, rounds)


def test_a_scale_of_the_caller_is_kept(service: Service) -> None:
    report = service.check_function(make_logarithm(1e-3), CLOSE, [1000.0], directions="coordinates", scale=1.0)
    assert (report.outcome, report.rounds) == ("inconclusive", 1)
    number, error = report.exceptions[0]
    assert (type(error), str(error)) == (ArithmeticError, "the logarithm has no value")
    assert number >= 3
    assert report.verdicts["x"].without_value > 0
    line = f"the first, at point {number}: ArithmeticError: the logarithm has no value"
    assert line in report.text()
    other: BlackBoxReport = pickle.loads(pickle.dumps(report))
    assert [str(exception) for _, exception in other.exceptions] == [
        str(exception) for _, exception in report.exceptions
    ]
    assert other.text() == report.text()


def test_exceptions_that_do_not_pickle_arrive_as_text(service: Service) -> None:
    class LocalError(Exception):
        pass

    def function(w: Any) -> Any:
        if w[0] < 1:
            raise LocalError("mine")
        return float(w @ w)

    report = service.check_function(function, CLOSE, 2 * CLOSE, directions="coordinates", scale=1.0)
    other: BlackBoxReport = pickle.loads(pickle.dumps(report))
    assert isinstance(report.exceptions[0][1], LocalError)
    assert (type(other.exceptions[0][1]), str(other.exceptions[0][1])) == (FunctionError, "LocalError('mine')")


def test_a_kink_beside_the_point_takes_smaller_moves(service: Service) -> None:
    point = np.array([1.0, 1.0])

    def compute_kinked_loss(w: Any) -> float:
        return float(np.abs(w - 0.999).sum())

    assert service.check_function(compute_kinked_loss, point, np.ones(2), directions="coordinates").outcome == "pass"
    assert service.check_function(compute_kinked_loss, point, [1.0, -1.0], directions="coordinates").outcome == "fail"


def test_a_kink_at_the_point_stays_inconclusive(service: Service) -> None:
    report = service.check_function(
        lambda w: float(np.abs(w).sum()), np.zeros(2), np.zeros(2), directions="coordinates"
    )
    assert (report.outcome, report.rounds) == ("inconclusive", 3)


def test_noise_takes_no_further_round(service: Service) -> None:
    """Smaller moves would only make it worse."""
    noise = np.random.default_rng(0)

    def compute_noisy_loss(w: Any) -> float:
        return float(w @ w) + 1e-2 * noise.standard_normal()

    report = service.check_function(compute_noisy_loss, W, 2 * W, directions="coordinates")
    assert (report.outcome, report.rounds) == ("inconclusive", 1)


def round_to_bfloat16(array: Any) -> Any:
    return torch.tensor(array).bfloat16().double().numpy()


@pytest.mark.parametrize("directions", ["coordinates", "random"])
def test_no_round_with_smaller_moves_judges_a_sum_of_rounded_parts(service: Service, directions: str) -> None:
    """The function is constant there: a right gradient would fail, and one of 0 pass."""
    for seed in range(10):
        generator = np.random.default_rng(seed)
        point, weights = generator.normal(size=(2, int(generator.integers(1, 9))))
        right = weights * np.cos(point)
        for factor, refused in ((1, "fail"), (0, "pass"), (-1, "pass")):
            report = service.check_function(
                lambda w, weights=weights: float(weights @ round_to_bfloat16(np.sin(w))),
                point,
                factor * right,
                directions=directions,
            )
            assert report.outcome != refused
        derivatives = service.check_function(
            lambda w, weights=weights: float(weights @ round_to_bfloat16(np.sin(w))), point
        )
        is_known = np.isfinite(derivatives.error_bounds)
        assert (np.abs(derivatives.values - right) <= derivatives.error_bounds)[is_known].all()


def test_a_round_on_one_stair_does_not_count(service: Service) -> None:
    """It is asked for beside the end of a domain, and the values beside the point are all the same."""

    def evaluate_stairs(w: Any) -> float | None:
        return float(np.round(10 * w).sum()) / 10 if (w > 0.9).all() else None

    point = np.array([0.98])
    for candidate in (0.0, 1.0):
        report = service.check_function(
            evaluate_stairs, point, [candidate], directions="coordinates", evaluations="full"
        )
        assert report.outcome == "inconclusive"
    assert service.check_function(evaluate_stairs, point).error_bounds[0] > 0.1


def test_values_near_the_base_are_constant_or_not() -> None:
    assert is_constant_near_base(PointValues([1.0] * 11 + [2.0], {}, ()))
    assert not is_constant_near_base(PointValues([1.0] * 10 + [2.0] * 2, {}, ()))
    assert not is_constant_near_base(PointValues([1.0] * 10 + [None], {}, ()))
    constant, changing = (to_tensor(array, "y") for array in (np.ones((12, 2)), np.arange(24.0).reshape(12, 2)))
    assert isinstance(constant, TypedTensor)
    assert isinstance(changing, TypedTensor)
    assert is_constant_near_base(PointValues([], {"a": constant}, ()))
    assert not is_constant_near_base(PointValues([], {"a": constant, "b": changing}, ()))


def test_rounds_end_if_a_datatype_has_no_nearer_numbers(service: Service) -> None:
    point = np.ones(1, np.float16)

    def evaluate_base_alone(w: Any) -> Any:
        return 1.0 if w[0] == 1 else None

    report = service.check_function(evaluate_base_alone, point, point, directions="coordinates")
    assert (report.outcome, report.rounds) == ("inconclusive", 1)
    derivatives = service.check_function(evaluate_base_alone, point)
    assert (derivatives.rounds, derivatives.error_bounds.tolist()) == (1, [np.inf])


def test_missing_values_on_all_sides_take_every_round(service: Service) -> None:
    report = service.check_function(lambda w: 1.0 if w[0] == 1 else None, CLOSE, CLOSE, directions="coordinates")
    assert (report.outcome, report.rounds) == ("inconclusive", 3)


def test_a_function_that_writes_to_its_input_is_refused(service: Service) -> None:
    def write(w: Any) -> float:
        w += 1
        return float(w @ w)

    with pytest.raises(FunctionError, match="changed its input 'x' in place, at the base"):
        service.check_function(write, W, 2 * W)


def test_inconclusive_raises_or_warns(service: Service) -> None:
    arguments = (lambda w: float(np.abs(w).sum()), np.zeros(2), np.zeros(2))
    with pytest.raises(GradientError):
        service.assert_function(*arguments)
    with pytest.warns(InconclusiveGradientWarning) as caught:
        report = service.assert_function(*arguments, inconclusive="warn")
    assert (report.outcome, str(caught[0].message)) == ("inconclusive", report.summary)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert service.assert_function(lambda w: w @ w, W, 2 * W, inconclusive="warn").passed
    with pytest.raises(GradientError):
        service.assert_function(lambda w: w @ w, W, -2 * W, inconclusive="warn")
    with pytest.raises(RequestError, match=r'inconclusive is "raise" or "warn"; "?\'ignore'):
        service.assert_function(*arguments, inconclusive="ignore")  # type: ignore[arg-type]


def test_the_warning_of_the_module_names_the_caller(url: str) -> None:
    arguments = (lambda w: float(np.abs(w).sum()), np.zeros(1), np.zeros(1))
    with pytest.warns(InconclusiveGradientWarning) as caught:
        gradcheckd.assert_function(*arguments, url=url, inconclusive="warn")
    assert caught[0].filename == __file__


def test_parameters_that_do_not_go_together_are_refused(service: Service) -> None:
    with pytest.raises(RequestError, match="cotangents go with vjp"):
        service.check_function(lambda w: w @ w, W, 2 * W, cotangents=1.0)
    with pytest.raises(RequestError, match="Give it alone"):
        service.check_function(lambda w: w @ w, W, 2 * W, vjp=lambda point, cotangents: point)
