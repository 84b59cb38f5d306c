"""Entries of a verdict in a report, of a check and of a judgement by losses alone."""

from collections.abc import Iterable
from typing import Any, cast

from schemas.report import Diagnosis, DirectionReport, Elements, MissedAlong, MissedInSample, WorstElement
from schemas.tensor import encode_number
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict, SampleMissRate
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit


def build_element_counts(verdict: GradientVerdict) -> Elements:
    """Count the elements by outcome."""
    return {
        "total": verdict.element_count,
        "pass": verdict.outcome_counts[Outcome.PASS],
        "negligible": verdict.negligible_count,
        "fail": verdict.outcome_counts[Outcome.FAIL],
        "inconclusive": verdict.outcome_counts[Outcome.INCONCLUSIVE],
        "not_examined": verdict.unexamined_count,
    }


def build_direction(result: ElementResult) -> DirectionReport:
    """Build the entry of a direction."""
    return {
        "reference": encode_number(result.reference),
        "judged": encode_number(result.judged_value),
        "route": cast("Any", result.source),
        "error_bound": encode_number(result.error_bound),
        "allowed": encode_number(result.allowed_error),
        "outcome": cast("Any", result.outcome.wire_name),
    }


def build_worst_element(result: ElementResult) -> WorstElement:
    """Build the entry of an element."""
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
    """Build the entry of the errors that may have been missed."""
    if isinstance(miss, SampleMissRate):
        return {"wrong_elements": miss.wrong_elements, "probability": miss.probability}
    return {"relative_l2": encode_number(miss.relative_l2), "probability": miss.probability}


def build_diagnoses(diagnoses_found: Iterable[BugExplanation]) -> list[Diagnosis]:
    """Build the entries of the probable bugs."""
    return [
        {"name": bug.bug_name, "explanation": bug.explanation, "fit": encode_number(bug.relative_residual)}
        for bug in diagnoses_found
    ]
