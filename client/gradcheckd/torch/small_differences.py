"""Differences of a derivative too small for a suite of tests: rounding that a formula amplifies, or its constants.

The service calls a derivative wrong that is off by more than rounding. Formulas that subtract large numbers, or hold a
constant in too few digits, are off by 1e-10 of a derivative in float64, and are what their authors meant.

A difference of half of the digits is small, and so is one of 1024 unit roundoffs of the other derivatives, four times
the rounding that the service allows. In datatypes narrower than float32 half of the digits are too few to tell a
rounding from an error, and no difference is small.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gradcheckd.report import BlackBoxReport
from gradcheckd.report_parts import DotTestResult, Judged, Verdict

_SIZE_UNITS = 1024.0
"""Unit roundoffs, in units of the root mean square of all derivatives of a verdict."""
_LARGEST_ROUNDOFF = 2.0**-24
"""Largest unit roundoff of a datatype in which a difference may be small: that of float32."""


def find_real_failures(
    report: BlackBoxReport, unit_roundoff: float, lost_differences: Mapping[str, float] | None = None
) -> list[str]:
    """Return the verdicts that fail by more than a suite of tests should mind.

    Parameters
    ----------
    report
        Report of a check.
    unit_roundoff
        That of the least precise datatype of the check.
    lost_differences
        Differences by the name of a verdict up to which nothing is known; none by default.

    Returns
    -------
    list of str
        Names of verdicts, and of tests of both modes against each other.
    """
    lost = lost_differences or {}
    failures = [
        name
        for name, verdict in report.verdicts.items()
        if verdict.outcome == "fail"
        and not _is_small(verdict, unit_roundoff)
        and not _is_lost(verdict, lost.get(name, 0.0))
    ]
    return failures + [
        f"dot test {test.name}"
        for test in report.dot_tests
        if test.outcome == "fail"
        and not _measure_difference(test) <= max(_relative(unit_roundoff) * abs(test.vjp), lost.get(test.name, 0.0))
    ]


def find_lost_failures(
    report: BlackBoxReport, unit_roundoff: float, lost_differences: Mapping[str, float]
) -> list[str]:
    """Return the verdicts that fail by differences of which nothing is known, and are not small."""
    return [
        name
        for name, verdict in report.verdicts.items()
        if verdict.outcome == "fail"
        and not _is_small(verdict, unit_roundoff)
        and _is_lost(verdict, lost_differences.get(name, 0.0))
    ]


def get_small_tolerance(unit_roundoff: float, size: float) -> dict[str, float] | None:
    """Return the same limits as a tolerance, for derivatives of a size; None where no difference is small."""
    if unit_roundoff > _LARGEST_ROUNDOFF:
        return None
    return {"rtol": _relative(unit_roundoff), "atol": _SIZE_UNITS * unit_roundoff * size}


def _is_small(verdict: Verdict, unit_roundoff: float) -> bool:
    if unit_roundoff > _LARGEST_ROUNDOFF:
        return False
    limit = _SIZE_UNITS * unit_roundoff * measure_size(verdict.directions or verdict.worst)
    return _fails_within(verdict, _relative(unit_roundoff), limit)


def _is_lost(verdict: Verdict, limit: float) -> bool:
    return _fails_within(verdict, 0.0, limit)


def _fails_within(verdict: Verdict, relative_limit: float, limit: float) -> bool:
    """Tell whether all that fails is off by no more than a limit."""
    failed = [line for line in verdict.directions or verdict.worst if line.outcome == "fail"]
    # Of a Jacobian-vector product only the worst elements are listed.
    if not verdict.directions and len(failed) < verdict.elements.failed:
        return False
    return bool(failed) and all(
        abs(line.judged - line.reference) <= relative_limit * abs(line.reference) + limit for line in failed
    )


def _measure_difference(test: DotTestResult) -> float:
    return abs(test.vjp - test.jvp)


def _relative(unit_roundoff: float) -> float:
    """Return the allowed relative difference: half of the digits."""
    return float(np.sqrt(unit_roundoff)) if unit_roundoff <= _LARGEST_ROUNDOFF else 0.0


def measure_size(lines: Sequence[Judged]) -> float:
    """Return the root mean square of the derivatives that are known."""
    return _root_mean_square(line.reference for line in lines if np.isfinite(line.reference))


def _root_mean_square(numbers: Iterable[float]) -> float:
    array = np.fromiter(numbers, np.float64)
    largest = float(np.abs(array).max(initial=0.0))
    return largest * float(np.sqrt(np.mean((array / largest) ** 2))) if largest else 0.0
