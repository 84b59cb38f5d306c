"""What a report says that it would have found it finds, and it refuses nothing that is right.

Of each random report an element that passed and is not negligible is made as wrong as the report says. The ordinary run
takes a fixed tenth of the reports; REPORTS=2000 takes all of them.
"""

import os
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from service.checks.common import summary
from service.checks.graph.check import check
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict import elementwise
from service.numerics.verdict.reference import Reference
from tests.random_requests import Body, draw_problem

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

REPORTS = int(os.environ.get("REPORTS", "200"))
PARTS = 4
EACH = 2
"""Elements of a report that are made wrong."""


def report_on(body: Body, candidate: Any) -> Any:
    return check(body | {"candidate": {"w": np.asarray(candidate).tolist()}})


def list_elements(report: Any) -> list[dict[str, Any]]:
    """All of them, by index."""
    elements = report["verdicts"]["w"]["worst"]
    assert len(elements) == report["verdicts"]["w"]["elements"]["total"]
    return sorted(elements, key=lambda element: element["index"])


def list_numbers(report: Any, field: str) -> Any:
    return np.array([float(element[field]) for element in list_elements(report)])


def find_promised_elements(report: Any, arithmetic: str) -> Any:
    """Which elements pass and are not negligible, by what the report lists of them."""
    sizes, allowed = np.abs(list_numbers(report, "reference")), list_numbers(report, "allowed")
    passed = np.array([element["outcome"] == "pass" for element in list_elements(report)])
    largest = sizes[sizes > list_numbers(report, "error_bound")].max(initial=0)
    small = sizes + allowed <= PRECISIONS[arithmetic].negligible_fraction * largest
    return np.flatnonzero(passed & ~small & (largest > 0))


def read_detectable_error(report: Any) -> float:
    """The error that would have been found: by the summary where it says so."""
    said = re.search(r"a relative error of (\S+) would have been found", report["summary"])
    return float(said[1] if said else report["verdicts"]["w"]["smallest_detectable_error"])


def push_to_allowed_error(report: Any, generator: np.random.Generator) -> Any:
    """A candidate that just passes wherever something does: each element is off by what is allowed, to either side."""
    allowed = list_numbers(report, "allowed")
    signs = np.where(generator.random(allowed.size) < 0.5, -1, 1)
    return list_numbers(report, "reference") + 0.999 * signs * np.where(np.isfinite(allowed), allowed, 0)


def find_broken_promises(body: Body, arithmetic: str, candidate: Any, shape: tuple[int, ...]) -> list[str]:
    """Outcomes where an element that the report vouches for is off by as much as it says; a pass if it says nothing."""
    report, promises = report_on(body, candidate.reshape(shape)), []
    error = read_detectable_error(report)
    for element in find_promised_elements(report, arithmetic)[:EACH]:
        for sign in (-1, 1):
            wrong = candidate.copy()
            wrong[element] += sign * error * abs(wrong[element]) if np.isfinite(error) else 0
            outcome = report_on(body, wrong.reshape(shape))["outcome"]
            promises.append(outcome if np.isfinite(error) else "pass")
    return promises


def find_family_errors(seeds: range) -> tuple[Counter[str], Counter[str], list[int]]:
    """Outcomes of what is right and of what is wrong, and seeds of what is mistaken."""
    right, wrong, mistaken = Counter[str](), Counter[str](), list[int]()
    for seed in seeds:
        problem, arithmetic, body = draw_problem(seed)
        gradient = problem.compute_gradient(arithmetic)
        if not np.isfinite(gradient).all():
            continue
        report = report_on(body, gradient)
        candidates = gradient.ravel(), push_to_allowed_error(report, np.random.default_rng(seed))
        promises = [
            promise
            for one in candidates
            if np.isfinite(one).all()
            for promise in find_broken_promises(body, arithmetic, one, gradient.shape)
        ]
        right[report["outcome"]] += 1
        wrong.update(promises)
        if report["outcome"] == "fail" or "pass" in promises:
            mistaken.append(seed)
    return right, wrong, mistaken


@pytest.mark.parametrize("part", range(PARTS))
def test_error_that_a_report_promises_to_find_is_found(part: int) -> None:
    right, wrong, mistaken = find_family_errors(range(part * REPORTS // PARTS, (part + 1) * REPORTS // PARTS))
    assert mistaken == []
    assert right["fail"] == wrong["pass"] == 0
    # Beside what is not mistaken, what is decided: of narrow arithmetics, and of what cancels, it is little.
    assert right["pass"] >= 0.5 * right.total()
    assert wrong["fail"] >= 0.9 * wrong.total() > REPORTS / PARTS


def test_along_directions_an_error_of_the_size_that_a_report_names_does_not_pass() -> None:
    """It is missed once in a thousand times; none of these is."""
    outcomes = Counter[str]()
    for seed in range(60):
        problem, arithmetic, body = draw_problem(seed)
        along = body | {"finite_difference": {"projections": 4}}
        gradient = problem.compute_gradient(arithmetic)
        report = report_on(along, gradient)
        assert report["outcome"] != "fail", seed
        error = float(report["verdicts"]["w"]["missed"]["relative_l2"])
        if report["outcome"] == "pass" and np.isfinite(error):
            off = np.random.default_rng(seed).normal(size=gradient.shape)
            for wrong in (off / np.linalg.norm(off) * np.linalg.norm(gradient), gradient):
                outcomes[report_on(along, gradient + error * wrong)["outcome"]] += 1
    assert outcomes["pass"] == 0
    assert outcomes["fail"] > 40


def test_negligible_size_is_as_the_report_states() -> None:
    some = 0
    for seed in range(0, 60, 6):
        problem, arithmetic, body = draw_problem(seed)
        report = report_on(body, problem.compute_gradient(arithmetic))
        counts = report["verdicts"]["w"]["elements"]
        assert counts["negligible"] == counts["pass"] - find_promised_elements(report, arithmetic).size
        some += counts["negligible"]
    assert some > 20


def find_negligible_by_value(self: Reference) -> Any:
    """As it was: what is small by its difference does not count, whatever it may be within what is allowed."""
    return np.abs(self.value) <= self.precision.negligible_fraction * self.largest_magnitude


def compute_allowed_once(reference: Reference) -> Any:
    """As it was: the allowed error, once."""
    with np.errstate(all="ignore"):
        return reference.allowed_error / np.abs(reference.value)


CONTROLS = {
    "elements that are small by their difference alone": (
        Reference,
        "is_negligible",
        property(find_negligible_by_value),
    ),
    "an error of what is allowed": (elementwise, "_compute_detectable_errors", compute_allowed_once),
    "an error rounded to the nearest": (summary, "_round_up", "{:.1e}".format),
}


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
def test_error_of_the_former_promise_would_be_missed(control: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*control)
    assert find_family_errors(range(60))[1]["pass"] > 0, "a negative control"
