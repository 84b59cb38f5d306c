"""Verdicts do not depend on the unit of the loss or of the point, as far as float64 has numbers for both."""

import json

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import plan_evaluations

POINTS = {
    "of one unit": np.array([0.7, -1.3, 0.4, 1.9]),
    "of several units": np.array([0.7e9, -1.3, 0.4e-7, 1.9e4]),
}
WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0])
CHANGES = {
    "right": lambda c: c,
    "zero": lambda c: 0 * c,
    "of the other sign": lambda c: -c,
    "times 1.001": lambda c: 1.001 * c,
    "times 1.001 in one": lambda c: np.where(np.arange(4) == 1, 1.001 * c, c),
    "the largest number in one": lambda c: np.where(np.arange(4) == 1, 1.7e308, c),
    "the largest number": lambda c: np.full(4, -1.7e308),
}
LOSS_EXPONENTS = [-1074, -1040, -1010, -500, 0, 1000, 1020]
POINT_EXPONENTS = {"FP64": [-900, -500, 0, 500, 900], "FP32": [-60, 0, 60]}


def evaluate(points, units):
    x = points / units
    return (WEIGHTS * np.sin(x)).sum(axis=-1) + 0.3 * x.prod(axis=-1)


def differentiate(units, x):
    return (WEIGHTS * np.cos(x / units) + 0.3 * (x / units).prod() / (x / units)) / units


def encode(values):
    words = {np.inf: "Infinity", -np.inf: "-Infinity"}
    return [words.get(value, "NaN" if value != value else value) for value in np.ravel(values).tolist()]


def judge_changes(point, kind, loss_exponent, point_exponent, datatype="FP64", **fields):
    """Return the reports on each change of the gradient, or None if the plan is refused."""
    units = 2.0 ** np.rint(np.log2(np.abs(POINTS[point])))
    with np.errstate(all="ignore"):
        x = np.ldexp(POINTS[point], point_exponent)
        if datatype == "FP32":
            x = x.astype(np.float32).astype(float)
        body = {
            "point": {"w": {"datatype": datatype, "shape": [4], "data": encode(x)}},
            "directions": {"kind": kind},
            "seed": 4,
        }
        try:
            planned = plan_evaluations(json.loads(json.dumps(body | fields.pop("plan", {}))))
        except InvalidRequestError:
            return None
        moved = np.ldexp(np.array(planned.points["w"].array, float), -point_exponent)
        losses = np.ldexp(evaluate(moved, units), loss_exponent)
        gradient = np.ldexp(differentiate(units, np.ldexp(x, -point_exponent)), loss_exponent - point_exponent)
        candidates = {name: change(gradient) for name, change in CHANGES.items()}
    reports = {}
    for name, candidate in candidates.items():
        tensor = {"datatype": "FP64", "shape": [4], "data": encode(candidate)}
        request = {"plan": dict(planned.plan), "losses": encode(losses), "candidate": {"w": tensor}} | fields
        try:
            reports[name] = judge_losses(json.loads(json.dumps(request)))
        except InvalidRequestError:
            return None
    return reports


def list_outcomes(reports):
    return {name: report["outcome"] for name, report in reports.items()}


def list_passing(reports):
    """Return the wrong candidates that pass."""
    return {name for name, report in reports.items() if report["outcome"] == "pass" and name != "right"}


BASE_CASES = [(point, kind) for point in POINTS for kind in ("coordinates", "random")]


@pytest.mark.parametrize(("point", "kind"), BASE_CASES)
def test_right_candidates_pass_and_wrong_ones_fail(point, kind):
    outcomes = list_outcomes(judge_changes(point, kind, 0, 0))
    assert outcomes.pop("right") == "pass"
    assert set(outcomes.values()) == {"fail"}


@pytest.mark.parametrize(("point", "kind"), BASE_CASES)
def test_verdicts_are_the_same_in_every_unit(point, kind):
    """Of losses of 2^k and points of 2^j, where the gradient has all its digits."""
    expected = judge_changes(point, kind, 0, 0)
    generator, units = np.random.default_rng(1), np.rint(np.log2(np.abs(POINTS[point])))
    count = 0
    while count < 25:
        k, j = (int(exponent) for exponent in generator.integers(-980, 1020, 2))
        gradient_exponents = k - j - units
        if gradient_exponents.min() < -930 or gradient_exponents.max() > 1015 or abs(j) + np.abs(units).max() > 940:
            continue
        count += 1
        scaled = judge_changes(point, kind, k, j)
        assert list_outcomes(scaled) == list_outcomes(expected), (k, j)
        for name in ("right", "times 1.001"):
            verdicts = [reports[name]["verdicts"]["w"] for reports in (scaled, expected)]
            assert verdicts[0]["smallest_detectable_error"] == verdicts[1]["smallest_detectable_error"], (k, j)


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize("kind", ["coordinates", "random"])
@pytest.mark.parametrize("point", POINTS)
def test_no_magnitude_makes_a_fault_or_lets_a_wrong_candidate_pass(point, kind, datatype):
    """Losses of 2^-1074 to 2^1020, of points as far as their datatype reaches."""
    judged, units = 0, 2.0 ** np.rint(np.log2(np.abs(POINTS[point])))
    for k in LOSS_EXPONENTS:
        for j in POINT_EXPONENTS[datatype]:
            reports = judge_changes(point, kind, k, j, datatype)
            with np.errstate(all="ignore"):
                gradient = np.ldexp(4 / units, k - j)
            if reports is None or not np.isfinite(gradient).all():
                continue
            judged += 1
            assert reports["right"]["outcome"] != "fail", (k, j)
            # A loss of a few of the smallest numbers need not change over the steps: 0 is right as far as it shows.
            allowed = {"zero"} if k < -1060 else set()
            if (gradient < 1e-300).any():
                # So it is of a gradient that is 0 in float64.
                allowed |= {"zero", "of the other sign", "times 1.001", "times 1.001 in one"}
            assert list_passing(reports) <= allowed, (k, j)
    assert judged >= 15
