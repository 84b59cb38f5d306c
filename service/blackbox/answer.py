"""From the verdicts to the report on the wire."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from schemas.plan import (
    JudgedDirection,
    JudgedVerdict,
    JudgeReport,
    MissedCoordinates,
    MissedRandom,
    SingleElement,
    Taylor,
)
from schemas.problem import plain
from schemas.tensor import spelled
from service.checking import entries
from service.checking.summary import summary
from service.numerics import verdict
from service.numerics.blackbox.judging import Judged
from service.numerics.blackbox.known import runs
from service.numerics.blackbox.layout import Layout
from service.numerics.blackbox.noise import Noise
from service.numerics.outcome import Outcome
from service.numerics.pausing import pausing
from service.numerics.tiles import Array
from service.numerics.verdict import Worst


def report(layout: Layout, losses: Array, noise: Noise, judged: Mapping[str, Judged], sought: float) -> JudgeReport:
    """Put the report together."""
    judged = {name: _with_gaps(each, *_gaps(layout, name, losses)) for name, each in pausing(judged.items())}
    outcome = verdict.overall([each.verdict.outcome for each in judged.values()])
    verdicts = {name: _verdict(layout, name, losses, each, sought) for name, each in pausing(judged.items())}
    farthest = max(judged, key=lambda name: _intercept(judged[name]))
    missing = max(judged, key=lambda name: judged[name].single)
    return {
        "outcome": cast("Any", outcome.text),
        "summary": _summary(outcome, judged, sought),
        "verdicts": verdicts,
        "noise": spelled(noise.deviation),
        "deterministic": noise.exact,
        "taylor": {"name": farthest, **verdicts[farthest]["taylor"]},
        "missed": verdicts[missing]["missed"],
        "evaluations": layout.evaluations,
    }


def _intercept(judged: Judged) -> float:
    size = abs(judged.taylor.intercept)
    return np.inf if np.isnan(size) else size


def _summary(outcome: Outcome, judged: Mapping[str, Judged], sought: float) -> str:
    said = summary(outcome, {name: each.verdict for name, each in judged.items()})
    if outcome == Outcome.PASS:
        name, worst = max(judged.items(), key=lambda each: each[1].single)
        return (
            f"{said} An error of {sought:.1e} of a single element of {plain(name)} would have been missed with "
            f"probability {worst.single:.2g}."
        )
    bugs = [each.diagnosis.explanation for each in judged.values() if each.diagnosis is not None]
    return f"{said} {bugs[0]}" if bugs else said


def _gaps(layout: Layout, name: str, losses: Array) -> tuple[int, int, bool]:
    """At how many points of a tensor the loss has no value, of how many; and whether it has too few near the base."""
    own = np.isnan(layout.of(name, losses))
    return int(np.count_nonzero(own)), own.size, not runs(layout.near(name, losses))


def _with_gaps(judged: Judged, missing: int, points: int, unheard: bool) -> Judged:
    """Say of a tensor that could not be judged where the loss has no value."""
    if judged.verdict.outcome != Outcome.INCONCLUSIVE or not (missing or unheard):
        return judged
    where = f"at {missing} of the {points} points to which this tensor was moved"
    if unheard:
        where = "at most of the points next to the base, so that nothing is known of its noise"
    said = f"The loss has no value {where}: {_WITHOUT_VALUE}"
    return replace(judged, verdict=replace(judged.verdict, reason=f"{judged.verdict.reason} {said}"))


_WITHOUT_VALUE = "give a smaller scale, or plan with bounds within which it has one."


def _verdict(layout: Layout, name: str, losses: Array, judged: Judged, sought: float) -> JudgedVerdict:
    found, bug = judged.verdict, judged.diagnosis
    by_element = layout.lines[name].elements is not None
    return {
        "outcome": cast("Any", found.outcome.text),
        "reason": found.reason if bug is None else f"{found.reason} {bug.explanation}",
        "elements": entries.elements(found),
        "smallest_detectable_error": spelled(found.smallest_detectable_error),
        "worst": [entries.worst(each) for each in found.worst],
        "diagnoses": entries.diagnoses([] if bug is None else [bug]),
        "directions": [_direction(each, by_element) for each in judged.directions],
        "noise": spelled(judged.noise.deviation),
        "taylor": _taylor(judged),
        "missed": _missed(judged, sought),
        "without_value": _gaps(layout, name, losses)[0],
    }


def _direction(found: Worst, by_element: bool) -> JudgedDirection:
    told = entries.direction(found)
    return cast("Any", {"index": list(found.index), **told} if by_element else told)


def _taylor(judged: Judged) -> Taylor:
    found = judged.taylor
    return {
        "direction": found.direction,
        "steps": found.steps.tolist(),
        "remainders": [spelled(each) for each in found.remainders.tolist()],
        "slope": spelled(found.slope),
        "intercept": spelled(found.intercept),
        "factor": spelled(found.factor),
    }


def _missed(judged: Judged, sought: float) -> MissedRandom | MissedCoordinates:
    single: SingleElement = {"relative_error": sought, "probability": judged.single}
    assert judged.verdict.missed is not None
    return cast("Any", {**entries.missed(judged.verdict.missed), "single_element": single})
