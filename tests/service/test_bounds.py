"""Scales and bounds, from a request to points and to a verdict."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError, PlacedError
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import PlanResult, plan_evaluations
from service.numerics.blackbox.layout import EVALUATIONS_BEFORE_STEPS
from service.numerics.core.precision import PRECISIONS
from tests.trials import split_count

LARGEST = {"FP64": 1 / 8, "FP32": 1 / 8, "FP16": 1 / 4, "BF16": 1 / 2}
"""Step of each datatype, in scales."""


def spell_numbers(values: Any) -> Any:
    if isinstance(values, list):
        return [spell_numbers(value) for value in values]
    return values if np.isfinite(values) else "Infinity" if values > 0 else "-Infinity"


def draw_request(generator: np.random.Generator, datatype: str) -> tuple[dict[str, Any], Any, Any, Any]:
    """A request with a point, scales and bounds of any size, and the point and its bounds."""
    shape = [(), (3,), (2, 2)][generator.integers(3)]
    sizes = 10.0 ** generator.uniform(-3, 2, shape) * (generator.random(shape) < 0.9)
    point = PRECISIONS[datatype].round_to_nearest(np.asarray(generator.normal(size=shape) * sizes)).reshape(shape)
    gaps = [
        np.where(generator.random(shape) < 0.3, 0, 10.0 ** generator.uniform(-4, 2, shape))
        + np.where(generator.random(shape) < 0.2, np.inf, 0)
        for _ in range(2)
    ]
    low, high = point - gaps[0], point + np.where((gaps[0] == 0) & (gaps[1] == 0), np.inf, gaps[1])
    body = {
        "point": {"w": {"datatype": datatype, "shape": list(shape), "data": point.tolist()}},
        "directions": {"kind": ["coordinates", "random"][generator.integers(2)]},
        "bounds": {"w": {"min": spell_numbers(low.tolist()), "max": spell_numbers(high.tolist())}},
        "seed": int(generator.integers(1000)),
    }
    kind = generator.integers(3)
    if kind == 1:
        body["scale"] = {"w": float(10 ** generator.uniform(-3, 2))}
    if kind == 2:
        body["scale"] = {"w": (10.0 ** generator.uniform(-3, 2, shape)).tolist()}
    return body, point, np.asarray(low), np.asarray(high)


def plan_or_refuse(body: dict[str, Any]) -> PlanResult | Sequence[PlacedError]:
    try:
        return plan_evaluations(body)
    except InvalidRequestError as error:
        return error.errors


@pytest.mark.parametrize("datatype", LARGEST)
def test_planned_points_lie_within_bounds_with_steps_of_the_scale(datatype):
    generator = np.random.default_rng(7)
    planned = 0
    for _ in range(120):
        body, at, low, high = draw_request(generator, datatype)
        result = plan_or_refuse(body)
        if not isinstance(result, PlanResult):
            assert [error["pointer"] for error in result] in (["/bounds/w"], ["/scale/w"])
            continue
        planned += 1
        points = result.points["w"].array
        assert (points[:3] == at).all()
        assert ((low <= points) & (points <= high)).all()
        assert not (((points == low) | (points == high)) & (points != at)).any(), "on a bound only where the base is"
        assert PRECISIONS[datatype].is_representable(points).all()
        again = plan_evaluations(json.loads(json.dumps(body)))
        assert again.plan == result.plan
        assert again.points["w"].array.tobytes() == points.tobytes()
        scale = body.get("scale", {}).get("w")
        if body["directions"]["kind"] == "coordinates" and scale is not None and np.ndim(scale) == at.ndim:
            moved = np.abs(points[EVALUATIONS_BEFORE_STEPS:] - at).max(axis=0) / LARGEST[datatype]
            assert (moved <= np.asarray(scale) * 1.01).all(), "no step is larger than was asked for"
    assert planned > 30


@pytest.mark.parametrize("datatype", LARGEST)
def test_without_bounds_the_largest_step_is_the_part_of_the_scale_that_is_promised(datatype):
    at = PRECISIONS[datatype].round_to_nearest(np.array([3.0, 0.1, -0.25, 0.0]))
    for scale in ([4.0, 0.5, 0.25, 1e-3], [2.5, 0.3, 0.7, 100.0], 2.0):
        body = {
            "point": {"w": {"datatype": datatype, "shape": [4], "data": at.tolist()}},
            "directions": {"kind": "coordinates"},
            "scale": {"w": scale},
        }
        points = plan_evaluations(body).points["w"].array[EVALUATIONS_BEFORE_STEPS:]
        moved = np.abs(points - at).max(axis=0) / LARGEST[datatype] / np.array(scale)
        # Down to a power of two; an element smaller than its move starts at a rounding of it.
        assert (moved > 0.5 * 0.98).all()
        assert (moved < 1.02).all()


def make_plan_request(**fields: Any) -> dict[str, Any]:
    return {"point": {"w": [1.0, 2.0], "b": 0.5}, "directions": {"kind": "coordinates"}} | fields


F32 = {"datatype": "FP32", "shape": [2], "data": [1000.0, 0.5]}
WRONG = {
    "a scale of 0": (make_plan_request(scale={"w": 0}), "/scale/w", "must be above 0; 0 was given"),
    "a negative scale of an element": (
        make_plan_request(scale={"w": [1, -1]}),
        "/scale/w",
        "at index [1] -1 was given",
    ),
    "a scale of another shape": (
        make_plan_request(scale={"w": [1, 1, 1]}),
        "/scale/w",
        "its shape is [3]; the point has [2]",
    ),
    "a scale that is infinite": (make_plan_request(scale={"w": "Infinity"}), "/scale/w", "not a finite number"),
    "a scale of truths": (
        make_plan_request(scale={"w": {"datatype": "BOOL", "shape": [2], "data": [True, True]}}),
        "/scale/w",
        "must be of numbers; datatype BOOL was given",
    ),
    "a scale without room": (
        make_plan_request(scale={"w": [1, 1e300]}),
        "/scale/w",
        "at index [1] 1e+300 was given: that leaves",
    ),
    "a scale of what is not there": (make_plan_request(scale={"z": 1}), "/scale/z", "there is no tensor 'z'"),
    "a scale too small for an element": (
        make_plan_request(point={"w": F32}, scale={"w": [1e-3, 1e-3]}),
        "/scale/w",
        "the scale 0.000976562 is too small: FP32 has no numbers that near to 1000, at index [0]; give 0.25 or more",
    ),
    "a scale too small for all": (
        make_plan_request(point={"w": F32}, scale={"w": 1e-9}),
        "/scale/w",
        "the scale 9.31323e-10 is too small",
    ),
    "bounds of what is not there": (make_plan_request(bounds={"z": {"min": 0}}), "/bounds/z", "there is no tensor 'z'"),
    "bounds that say nothing": (make_plan_request(bounds={"w": {}}), "/bounds/w", "have neither min nor max"),
    "bounds of another shape": (
        make_plan_request(bounds={"w": {"max": [3, 3, 3]}}),
        "/bounds/w/max",
        "its shape is [3]; the point has [2]",
    ),
    "bounds that are no numbers": (
        make_plan_request(bounds={"w": {"min": [0, "NaN"]}}),
        "/bounds/w/min",
        "NaN was given",
    ),
    "bounds that are no object": (make_plan_request(bounds={"w": 0}), "/bounds/w", "must be an object"),
    "an unknown side": (make_plan_request(bounds={"w": {"mn": 0}}), "/bounds/w/mn", "did you mean 'min'?"),
    "min not below max": (
        make_plan_request(bounds={"w": {"min": [1, 2], "max": [2, 2]}}),
        "/bounds/w",
        "min must be below max; at index [1] 2 was given, and as max 2",
    ),
    "bounds that exclude the point": (
        make_plan_request(bounds={"w": {"max": 1.5}}),
        "/bounds/w",
        "exclude the point: at index [1] it is 2, and max is 1.5",
    ),
    "bounds below which it lies": (
        make_plan_request(bounds={"b": {"min": 0.75}}),
        "/bounds/b",
        "it is 0.5, and min is 0.75",
    ),
    "no room for a step": (
        make_plan_request(bounds={"w": {"min": [0, 2], "max": [9, 2 + 1e-12]}}),
        "/bounds/w",
        "leave no room for a step: at index [1] the point is 2, between 2.0 and 2.000000000001",
    ),
}


@pytest.mark.parametrize(("body", "place", "said"), WRONG.values(), ids=WRONG)
def test_wrong_bound_is_reported_once_at_its_place(body, place, said):
    with pytest.raises(InvalidRequestError) as error:
        plan_evaluations(body)
    (only,) = error.value.errors
    assert only["pointer"] == place
    assert said in only["detail"]


def test_the_scale_that_is_advised_is_taken():
    for least in (0.25, 0.2):
        body = make_plan_request(point={"w": F32}, scale={"w": [least, 1e-3]})
        if least == 0.25:
            assert plan_evaluations(body).evaluations
        else:
            with pytest.raises(InvalidRequestError):
                plan_evaluations(body)


def test_bounds_errors_are_one_per_tensor():
    with pytest.raises(InvalidRequestError) as error:
        plan_evaluations(make_plan_request(scale={"w": -1, "b": [1, 2]}, bounds={"w": {"min": 7}, "b": {"max": 0}}))
    assert [entry["pointer"] for entry in error.value.errors] == ["/scale/w", "/scale/b", "/bounds/w", "/bounds/b"]


def test_one_number_leaves_elements_that_it_is_too_small_for_to_their_own_sizes():
    """As of a modulus of 2e11 beside a thickness of 2e-3: the one has no numbers a thousandth apart."""
    plan_result = plan_evaluations(
        {"point": {"w": [2.1e11, 2e-3]}, "directions": {"kind": "coordinates"}, "scale": {"w": 1e-3}}
    )
    points = plan_result.points["w"].array
    moved = np.abs(points[EVALUATIONS_BEFORE_STEPS:] - points[0]).max(axis=0) * 8
    assert moved[0] == 2.0**38
    assert moved[1] == pytest.approx(2.0**-10, rel=1e-9)
    with pytest.raises(InvalidRequestError):
        plan_evaluations({"point": {"w": [2.1e11]}, "directions": {"kind": "coordinates"}, "scale": {"w": 1e-3}})


def judge_candidate(body: dict[str, Any], loss: Any, candidate: Any, **fields: Any) -> Any:
    plan_result = plan_evaluations(body)
    losses = [loss(point) for point in plan_result.points["w"].array.astype(np.float64)]
    request = {"plan": dict(plan_result.plan), "losses": losses, "candidate": {"w": np.asarray(candidate).tolist()}}
    return judge_losses(json.loads(json.dumps(request | fields)))


def test_a_logarithm_next_to_its_bound_is_judged_with_and_without_a_scale():
    at, end = np.array([3.0, 2.0]), np.array([3.01, 2.5])

    def barrier(w: Any) -> float:
        assert (w < end).all()
        return float(-np.log(end - w).sum())

    for kind in ("coordinates", "random"):
        body = {"point": {"w": at.tolist()}, "directions": {"kind": kind}, "bounds": {"w": {"max": end.tolist()}}}
        for more in ({}, {"scale": {"w": 1e-2}}, {"scale": {"w": [1e-3, 0.1]}}):
            right = 1 / (end - at)
            assert judge_candidate(body | more, barrier, right)["outcome"] == "pass"
            assert judge_candidate(body | more, barrier, right * [1.0001, 1])["outcome"] == "fail"


def test_on_a_bound_differences_are_of_one_side():
    """3/2 w^(3/2), which has no value below 0, and a tensor of which other elements lie within."""
    body = {
        "point": {"w": [0.0, 1.0, 2.0]},
        "bounds": {"w": {"min": 0, "max": [9, 1, 9]}},
        "directions": {"kind": "coordinates"},
    }

    def loss(w: Any) -> float:
        return float(np.exp(w).sum() + w[0] * w[1] + np.sqrt(1 - w[1] + 1e-2 + w[2]))

    slope = 0.5 / np.sqrt(2.01)
    right = np.exp([0.0, 1.0, 2.0]) + np.array([1, -slope, slope])
    report = judge_candidate(body, loss, right)
    assert report["outcome"] == "pass"
    for element, wrong in enumerate((1.001, 0.999, -1)):
        off = right.copy()
        off[element] *= wrong
        directions = judge_candidate(body, loss, off)["verdicts"]["w"]["directions"]
        assert [direction["outcome"] for direction in directions] == [
            "fail" if i == element else "pass" for i in range(3)
        ]
    report = judge_candidate(body | {"directions": {"kind": "random"}}, loss, right)
    assert report["outcome"] == "pass"
    off = right * [1.001, 1, 1]
    assert judge_candidate(body | {"directions": {"kind": "random"}}, loss, off)["outcome"] == "fail"


def test_a_random_direction_is_judged_in_units_of_the_moves():
    """Elements of 1e-6 and 1e6 with gradients of 1e6 and 1e-6: both count alike where each has its scale."""
    at = np.array([1e-6, 1e6])
    body = {"point": {"w": at.tolist()}, "scale": {"w": at.tolist()}}

    def loss(w: Any) -> float:
        return float(np.sin(w / at).sum())

    right = np.cos(1) / at
    assert judge_candidate(body, loss, right)["outcome"] == "pass"
    for element in range(2):
        off = right.copy()
        off[element] *= 1.01
        assert judge_candidate(body, loss, off)["outcome"] == "fail"


def test_points_with_a_value_decide_beside_points_without():
    at = np.array([0.5, -1.5])

    def loss(w: Any) -> float | None:
        return None if w[0] > at[0] + 2.0**-8 else float(np.exp(w).sum())

    body = {"point": {"w": at.tolist()}, "directions": {"kind": "coordinates"}}
    report = judge_candidate(body, loss, np.exp(at))
    assert report["outcome"] == "pass"
    assert 0 < report["verdicts"]["w"]["without_value"] < 14
    assert judge_candidate(body, loss, np.exp(at) * [1.001, 1])["outcome"] == "fail"
    assert judge_candidate(body, loss, np.exp(at) * [1, 1.001])["outcome"] == "fail"


def test_too_few_points_with_a_value_are_inconclusive_with_a_reason():
    at = np.array([0.5, -1.5])
    body = {"point": {"w": at.tolist()}, "directions": {"kind": "coordinates"}}

    def evaluate_next_to_base(w: Any) -> float | None:
        return None if abs(w[0] - at[0]) > 2.0**-14 else float(np.exp(w).sum())

    for candidate in (np.exp(at), -np.exp(at)):
        verdict = judge_candidate(body, evaluate_next_to_base, candidate)["verdicts"]["w"]
        assert verdict["directions"][0]["outcome"] == "inconclusive"
    verdict = judge_candidate(body, evaluate_next_to_base, np.exp(at))["verdicts"]["w"]
    assert "The loss has no value at 12 of the 28 points to which this tensor was moved" in verdict["reason"]

    def evaluate_far_from_base(w: Any) -> float | None:
        return float(np.exp(w).sum()) if (w == at).all() or abs(w - at).max() > 1e-3 else None

    for candidate in (np.exp(at), -np.exp(at)):
        report = judge_candidate(body, evaluate_far_from_base, candidate)
        assert report["outcome"] == "inconclusive", "of noise that is not known"
        assert "so that nothing is known of its noise" in report["verdicts"]["w"]["reason"]
        assert report["noise"] == "NaN"


@pytest.mark.parametrize("kind", ["coordinates", "random"])
def test_a_tolerance_is_what_a_gradient_may_be_off_by(kind):
    at = np.array([0.5, -1.5, 1.0])
    body = {"point": {"w": at.tolist()}, "directions": {"kind": kind}}

    def loss(w: Any) -> float:
        return float(np.exp(w).sum())

    off = np.exp(at) * (1 + 6e-6)
    outcomes = [
        judge_candidate(body, loss, off, tolerance=tolerance)["outcome"]
        for tolerance in ({"rtol": 1e-4}, {"rtol": 1e-7}, {"rtol": 1e-15}, {"atol": 1e-3}, {"atol": 1e-9}, {})
    ]
    assert outcomes == ["pass", "fail", "inconclusive", "pass", "fail", "inconclusive"]
    assert "FP32" not in judge_candidate(body, loss, off, tolerance={"rtol": 1e-7})["verdicts"]["w"]["reason"]


def draw_problem(generator: np.random.Generator) -> tuple[Any, Any, Any, Any, Any]:
    """A loss that has no value beyond its bounds, its gradient, a point in or on them, and the bounds."""
    n = int(generator.integers(1, 6))
    low = generator.normal(size=n)
    width = 10 ** generator.uniform(-1, 1, n)
    parts = generator.choice([0.0, 1e-3, 0.1, 0.5, 0.9, 1.0], n)
    at, high = low + parts * width, low + width
    a, b = generator.normal(size=n), generator.uniform(0.5, 2, n)
    barrier = np.where((parts > 0) & (parts < 1), 0.1, 0.0)

    def loss(w: Any) -> float | None:
        if (w < low).any() or (w > high).any():
            return None
        inner = np.where(barrier > 0, w, (low + high) / 2)
        logs = np.log(inner - low) + np.log(high - inner)
        return float(np.sin((w * a).sum()) + (b * w * w / width).sum() + (barrier * logs).sum())

    def gradient(w: Any) -> Any:
        inner = np.where(barrier > 0, w, (low + high) / 2)
        return a * np.cos((w * a).sum()) + 2 * b * w / width + barrier * (1 / (inner - low) - 1 / (high - inner))

    return loss, gradient, np.minimum(at, high), low, high


@pytest.mark.no_cover
@pytest.mark.parametrize("count", split_count(300))
def test_under_bounds_right_gradients_are_not_refused_and_wrong_ones_not_passed(count):
    """Right ones, and as many with an element off by a thousandth; a loss without a value may not be asked."""
    generator = np.random.default_rng(20)
    outcomes: dict[bool, list[str]] = {True: [], False: []}
    for number in range(count):
        loss, gradient, at, low, high = draw_problem(generator)
        body = {
            "point": {"w": at.tolist()},
            "bounds": {"w": {"min": low.tolist(), "max": high.tolist()}},
            "directions": {"kind": ["coordinates", "random"][number % 2]},
            "seed": number,
        }
        right = gradient(at)
        off = right.copy()
        off[int(np.abs(right).argmax())] *= 1.001
        for candidate in (right, off):
            outcomes[candidate is right].append(judge_candidate(body, loss, candidate)["outcome"])
    assert outcomes[True].count("fail") == 0
    assert outcomes[False].count("pass") == 0
    assert outcomes[True].count("pass") >= 0.95 * count
    assert outcomes[False].count("fail") >= 0.95 * count
