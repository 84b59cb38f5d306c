"""What a verdict found, as it stands in a report: of a check, and of a judgement by losses alone."""

from collections.abc import Iterable
from typing import Any, cast

from schemas.report import Diagnosis, DirectionReport, Elements, MissedAlong, MissedInSample, WorstElement
from schemas.tensor import spelled
from service.numerics import faults
from service.numerics.outcome import Outcome
from service.numerics.projection import Missed
from service.numerics.verdict import Verdict, Worst, WrongElements


def elements(found: Verdict) -> Elements:
    """How many elements came out how."""
    return {
        "total": found.total,
        "pass": found.counts[Outcome.PASS],
        "negligible": found.negligible,
        "fail": found.counts[Outcome.FAIL],
        "inconclusive": found.counts[Outcome.INCONCLUSIVE],
        "not_examined": found.not_examined,
    }


def direction(found: Worst) -> DirectionReport:
    """One direction."""
    return {
        "reference": spelled(found.reference),
        "judged": spelled(found.judged),
        "route": cast("Any", found.route),
        "error_bound": spelled(found.error_bound),
        "allowed": spelled(found.allowed),
        "outcome": cast("Any", found.outcome.text),
    }


def worst(found: Worst) -> WorstElement:
    """One element."""
    return {
        "index": list(found.index),
        "route": cast("Any", found.route),
        "reference": spelled(found.reference),
        "judged": spelled(found.judged),
        "error_bound": spelled(found.error_bound),
        "allowed": spelled(found.allowed),
        "ratio": spelled(found.ratio),
        "outcome": cast("Any", found.outcome.text),
    }


def missed(found: Missed | WrongElements) -> MissedAlong | MissedInSample:
    """What may have been missed."""
    if isinstance(found, WrongElements):
        return {"wrong_elements": found.wrong_elements, "probability": found.probability}
    return {"relative_l2": spelled(found.relative_l2), "probability": found.probability}


def diagnoses(found: Iterable[faults.Diagnosis]) -> list[Diagnosis]:
    """The probable bugs."""
    return [{"name": each.name, "explanation": each.explanation, "fit": spelled(each.fit)} for each in found]
