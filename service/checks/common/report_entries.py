"""What a verdict found, as it stands in a report: of a check, and of a judgement by losses alone."""

from collections.abc import Iterable
from typing import Any, cast

from schemas.report import Diagnosis, DirectionReport, Elements, MissedAlong, MissedInSample, WorstElement
from schemas.tensor import encode_number
from service.numerics import diagnosis
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict, SampleMissRate
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit


def build_element_counts(verdict: GradientVerdict) -> Elements:
    """How many elements came out how."""
    return {
        "total": verdict.element_count,
        "pass": verdict.outcome_counts[Outcome.PASS],
        "negligible": verdict.negligible_count,
        "fail": verdict.outcome_counts[Outcome.FAIL],
        "inconclusive": verdict.outcome_counts[Outcome.INCONCLUSIVE],
        "not_examined": verdict.unexamined_count,
    }


def build_direction(result: ElementResult) -> DirectionReport:
    """One direction."""
    return {
        "reference": encode_number(result.reference),
        "judged": encode_number(result.judged_value),
        "route": cast("Any", result.source),
        "error_bound": encode_number(result.error_bound),
        "allowed": encode_number(result.allowed_error),
        "outcome": cast("Any", result.outcome.wire_name),
    }


def build_worst_element(result: ElementResult) -> WorstElement:
    """One element."""
    return {
        "index": list(result.index),
        "route": cast("Any", result.source),
        "reference": encode_number(result.reference),
        "judged": encode_number(result.judged_value),
        "error_bound": encode_number(result.error_bound),
        "allowed": encode_number(result.allowed_error),
        "ratio": encode_number(result.error_ratio),
        "outcome": cast("Any", result.outcome.wire_name),
    }


def build_miss_probability(miss: NormDetectionLimit | SampleMissRate) -> MissedAlong | MissedInSample:
    """What may have been missed."""
    if isinstance(miss, SampleMissRate):
        return {"wrong_elements": miss.wrong_elements, "probability": miss.probability}
    return {"relative_l2": encode_number(miss.relative_l2), "probability": miss.probability}


def build_diagnoses(diagnoses_found: Iterable[diagnosis.BugExplanation]) -> list[Diagnosis]:
    """The probable bugs."""
    return [
        {"name": each.bug_name, "explanation": each.explanation, "fit": encode_number(each.relative_residual)}
        for each in diagnoses_found
    ]
