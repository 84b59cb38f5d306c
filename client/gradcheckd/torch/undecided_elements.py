"""Elements that a failing check leaves undecided, and the moves of a further look at them.

A check that fails ends there: no further round decides its other elements. If all that fails is small
(small_differences.py), they still have to be decided, since one of them may be wrong by more. That takes each element
by itself: along random directions smaller moves have wider bounds, which hide it.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from gradcheckd.arrays import Array
from gradcheckd.report import BlackBoxReport
from gradcheckd.report_parts import Index, Verdict
from gradcheckd.torch.moved_input import MovedInput

Place = tuple[str, Index | None]
"""Name of a verdict, and the index of an element; None for its directions."""

FURTHER_LOOKS = 2
_SHRINK_FACTOR = 2.0**-5
"""Size of the moves of each look by that of the one before, as in the rounds of `gradcheckd.check_function`."""


def find_undecided(report: BlackBoxReport) -> frozenset[Place]:
    """Return the places of all undecided elements and directions."""
    return frozenset(place for name, verdict in report.verdicts.items() for place in _list_undecided(name, verdict))


def _list_undecided(name: str, verdict: Verdict) -> Iterator[Place]:
    for line in verdict.directions:
        if line.outcome == "inconclusive":
            yield name, line.index
    # Of a Jacobian-vector product only the worst elements are listed.
    if not verdict.directions and verdict.elements.inconclusive:
        yield name, None


def shrink_moves(inputs: Iterable[MovedInput], look: int) -> dict[str, Array]:
    """Return smaller scales of all elements for a further look, 1 or later."""
    factor = _SHRINK_FACTOR**look
    return {moved.name: factor * _measure_scales(moved.base.double().numpy(force=True)) for moved in inputs}


def _measure_scales(numbers: Array) -> Array:
    sizes = np.abs(numbers)
    typical = float(np.median(sizes[sizes > 0])) if sizes.any() else 1.0
    return np.maximum(sizes, typical)


def describe_undecided(report: BlackBoxReport) -> str:
    """Return the first verdict with an undecided part, and its reason."""
    for name, verdict in report.verdicts.items():
        if verdict.outcome == "inconclusive":
            return f"{name}: {verdict.reason}"
    for name, verdict in report.verdicts.items():
        if count := sum(1 for _ in _list_undecided(name, verdict)):
            return f"{name}: {count} of its elements or directions stay undecided beside rounding"
    return report.summary
