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

from service.check import check
from service.numerics.precision import PRECISIONS
from service.numerics.reference import Reference
from service.numerics import verdict
from tests.random_reports import FAMILIES, Body, posed

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

REPORTS = int(os.environ.get("REPORTS", "200"))
PARTS = 4


def reported(body: Body, candidate: Any) -> Any:
    return check(body | {"candidate": {"w": np.asarray(candidate).tolist()}})


def elements(report: Any) -> list[dict[str, Any]]:
    """All of them, by index."""
    found = report["verdicts"]["w"]["worst"]
    assert len(found) == report["verdicts"]["w"]["elements"]["total"]
    return sorted(found, key=lambda each: each["index"])


def numbers(report: Any, field: str) -> Any:
    return np.array([float(each[field]) for each in elements(report)])


def promised(report: Any, arithmetic: str) -> Any:
    """Which elements pass and are not negligible, by what the report lists of them."""
    sizes, allowed = np.abs(numbers(report, "reference")), numbers(report, "allowed")
    passed = np.array([each["outcome"] == "pass" for each in elements(report)])
    largest = sizes[sizes > numbers(report, "error_bound")].max(initial=0)
    small = sizes + allowed <= PRECISIONS[arithmetic].matters * largest
    found = report["verdicts"]["w"]["elements"]
    assert found["negligible"] == np.count_nonzero(passed & small & (largest > 0))
    return np.flatnonzero(passed & ~small & (largest > 0))


def worth(report: Any) -> float:
    """The error that would have been found: by the summary where it says so."""
    said = re.search(r"a relative error of (\S+) would have been found", report["summary"])
    return float(said[1] if said else report["verdicts"]["w"]["smallest_detectable_error"])


def pushed(report: Any, generator: np.random.Generator) -> Any:
    """A candidate that just passes wherever something does: each element is off by what is allowed, to either side."""
    signs = np.where(generator.random(len(elements(report))) < 0.5, -1, 1)
    with np.errstate(invalid="ignore"):
        return numbers(report, "reference") + 0.999 * signs * numbers(report, "allowed")


def errors(body: Body, arithmetic: str, candidate: Any, shape: tuple[int, ...]) -> list[str]:
    """Outcomes where an element that the report vouches for is off by as much as it says."""
    report = reported(body, candidate.reshape(shape))
    found = []
    for element in promised(report, arithmetic)[:2]:
        for sign in (-1, 1):
            wrong = candidate.copy()
            wrong[element] += sign * worth(report) * abs(wrong[element])
            found.append(reported(body, wrong.reshape(shape))["outcome"])
    return found


def run(seeds: range) -> tuple[Counter[str], Counter[str], list[int]]:
    """Outcomes of what is right and of what is wrong, and seeds of what is mistaken."""
    right, wrong, mistaken = Counter[str](), Counter[str](), []
    for seed in seeds:
        problem, arithmetic, body = posed(seed)
        gradient, shape = problem.gradient(arithmetic), problem.leaves["w"].shape
        if not np.isfinite(gradient).all():
            continue
        report = reported(body, gradient)
        edge = pushed(report, np.random.default_rng(seed))
        outcomes = [
            each
            for one in (gradient.ravel(), edge)
            if np.isfinite(one).all()
            for each in errors(body, arithmetic, one, shape)
        ]
        right[report["outcome"]] += 1
        wrong.update(outcomes)
        if report["outcome"] == "fail" or "pass" in outcomes:
            mistaken.append(seed)
    return right, wrong, mistaken


@pytest.mark.parametrize("part", range(PARTS))
def test_what_a_report_says_that_it_would_have_found_it_finds(part):
    right, wrong, mistaken = run(range(part * REPORTS // PARTS, (part + 1) * REPORTS // PARTS))
    assert mistaken == []
    assert right["fail"] == wrong["pass"] == 0
    # Beside what is not mistaken, what is decided at all.
    assert right["pass"] >= 0.3 * right.total()
    assert wrong["fail"] >= 0.9 * wrong.total() > 0.2 * REPORTS / PARTS
