"""Differences of a derivative too small for a suite of tests: rounding that a formula amplifies, or its constants.

The service calls a derivative wrong that is off by more than rounding. Formulas that subtract large numbers, or hold a
constant in too few digits, are off by 1e-10 of a derivative in float64, and are what their authors meant.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from gradcheckd.report import BlackBoxReport
from gradcheckd.report_parts import Judged, Verdict

_SIZE_UNITS = 1024.0
"""Unit roundoffs, in units of the root mean square of all derivatives of a verdict."""


def find_real_failures(report: BlackBoxReport, unit_roundoff: float) -> list[str]:
    """Return the verdicts that fail by more than a suite of tests should mind.

    Parameters
    ----------
    report
        Report of a check.
    unit_roundoff
        That of the least precise datatype of the check.

    Returns
    -------
    list of str
        Names of verdicts, and of tests of both modes against each other.
    """
    failures = [
        name
        for name, verdict in report.verdicts.items()
        if verdict.outcome == "fail" and not _is_small(verdict, unit_roundoff)
    ]
    return failures + [
        f"dot test {test.name}"
        for test in report.dot_tests
        if test.outcome == "fail" and not abs(test.vjp - test.jvp) <= _relative(unit_roundoff) * abs(test.vjp)
    ]


def get_small_tolerance(unit_roundoff: float, size: float) -> dict[str, float]:
    """Return the same limits as a tolerance, for derivatives of a size."""
    return {"rtol": _relative(unit_roundoff), "atol": _SIZE_UNITS * unit_roundoff * size}


def _is_small(verdict: Verdict, unit_roundoff: float) -> bool:
    lines = verdict.directions or verdict.worst
    failed = [line for line in lines if line.outcome == "fail"]
    # Of a Jacobian-vector product only the worst elements are listed.
    if not verdict.directions and len(failed) < verdict.elements.failed:
        return False
    size = _measure_size(lines)
    return bool(failed) and all(
        abs(line.judged - line.reference)
        <= _relative(unit_roundoff) * abs(line.reference) + _SIZE_UNITS * unit_roundoff * size
        for line in failed
    )


def _relative(unit_roundoff: float) -> float:
    """Return the allowed relative difference: half of the digits."""
    return float(np.sqrt(unit_roundoff))


def _measure_size(lines: Sequence[Judged]) -> float:
    return _root_mean_square(line.reference for line in lines if np.isfinite(line.reference))


def _root_mean_square(numbers: Iterable[float]) -> float:
    array = np.fromiter(numbers, np.float64)
    largest = float(np.abs(array).max(initial=0.0))
    return largest * float(np.sqrt(np.mean((array / largest) ** 2))) if largest else 0.0
