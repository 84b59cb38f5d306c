"""Entries of the verdicts of a judgement: on gradients along lines, and on products element by element."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from schemas.outputs import JudgedProduct
from schemas.plan import JudgedDirection, JudgedVerdict, MissedCoordinates, MissedRandom, SingleElement, Taylor
from schemas.problem_details import escape_name
from schemas.tensor import encode_number
from service.checks.common import report_entries
from service.numerics.blackbox.candidate_judge import TensorJudgement
from service.numerics.blackbox.output_judge import ProductJudgement
from service.numerics.core.batching import Shape
from service.numerics.diagnosis import error_pattern
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict, list_results
from service.numerics.verdict.outcome import Outcome


def build_gradient_verdict(
    name: str, shape: Shape, judgement: TensorJudgement, target_error: float, without_value: int
) -> JudgedVerdict:
    """Build the entry of a gradient: of a loss, or of an output with its cotangent.

    Parameters
    ----------
    name
        Name of the verdict.
    shape
        Shape of the gradient.
    judgement
        Judgement on the gradient.
    target_error
        Relative error of one element, whose probability to be missed is reported.
    without_value
        Number of points without a value.
    """
    verdict, by_element = judgement.verdict, judgement.verdict.direction_results is None
    report: dict[str, Any] = {
        **_build_common_fields(verdict, judgement.diagnosis),
        "directions": [_build_direction(result, by_element) for result in judgement.direction_results],
        "noise": encode_number(float(judgement.noise.deviation)),
        "taylor": _build_taylor(judgement),
        "missed": _build_miss_probability(judgement, target_error),
        "without_value": without_value,
    }
    if by_element and verdict.outcome == Outcome.FAIL:
        report["pattern"] = _describe_error_pattern(name, shape, judgement.direction_results)
    return cast("JudgedVerdict", report)


def build_product_verdict(
    name: str, shape: Shape | None, judgement: ProductJudgement, target_error: float, without_value: int
) -> JudgedProduct:
    """Build the entry of a Jacobian, or of Jacobian-vector products.

    Parameters
    ----------
    name
        Name of the verdict.
    shape
        Shape of the Jacobian; None for Jacobian-vector products, in which no pattern is sought.
    judgement
        Judgement on them.
    target_error
        Relative error of one element, whose probability to be missed is reported.
    without_value
        Number of points without a value.
    """
    verdict = judgement.verdict
    report: dict[str, Any] = {
        **_build_common_fields(verdict, judgement.diagnosis),
        "noise": encode_number(judgement.noise),
        "missed": _build_product_miss(judgement, target_error),
        "without_value": without_value,
    }
    if shape is not None and verdict.outcome == Outcome.FAIL:
        report["pattern"] = _describe_error_pattern(name, shape, list_results(judgement.entries))
    return cast("JudgedProduct", report)


def _build_common_fields(verdict: GradientVerdict, bug: BugExplanation | None) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome.wire_name,
        "reason": verdict.reason if bug is None else f"{verdict.reason} {bug.explanation}",
        "elements": report_entries.build_element_counts(verdict),
        "smallest_detectable_error": encode_number(verdict.smallest_detectable_error),
        "worst": [report_entries.build_worst_element(result) for result in verdict.worst_elements],
        "diagnoses": report_entries.build_diagnoses([] if bug is None else [bug]),
    }


def _describe_error_pattern(name: str, shape: Shape, results: Sequence[ElementResult]) -> str:
    """Describe which of the elements that were moved are wrong, and what they have in common."""
    judged_values, references, allowed_errors = (np.full(shape, np.nan) for _ in range(3))
    is_wrong, is_decided = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    for result in results:
        index = result.index
        judged_values[index], references[index], allowed_errors[index] = (
            result.judged_value, result.reference, result.allowed_error
        )  # fmt: skip
        is_wrong[index] = result.outcome == Outcome.FAIL
        is_decided[index] = result.outcome != Outcome.INCONCLUSIVE
    return error_pattern.describe_error_pattern(
        escape_name(name), judged_values, references, allowed_errors, is_wrong, is_decided
    )


def _build_direction(result: ElementResult, by_element: bool) -> JudgedDirection:
    entry = report_entries.build_direction(result)
    return cast("Any", {"index": list(result.index), **entry} if by_element else entry)


def _build_taylor(judgement: TensorJudgement) -> Taylor:
    test = judgement.remainder_test
    return {
        "direction": test.direction,
        "steps": test.steps.tolist(),
        "remainders": [encode_number(remainder) for remainder in test.remainders.tolist()],
        "slope": encode_number(test.convergence_order),
        "intercept": encode_number(test.fit_intercept),
        "factor": encode_number(test.fit_factor),
    }


def _build_miss_probability(judgement: TensorJudgement, target_error: float) -> MissedRandom | MissedCoordinates:
    single_element: SingleElement = {"relative_error": target_error, "probability": judgement.single_miss_probability}
    assert judgement.verdict.detection_limit is not None
    return cast(
        "Any",
        {
            **report_entries.build_miss_probability(judgement.verdict.detection_limit),
            "single_element": single_element,
        },
    )


def _build_product_miss(judgement: ProductJudgement, target_error: float) -> Any:
    limit = judgement.verdict.detection_limit
    assert limit is not None
    missed: dict[str, Any] = {**report_entries.build_miss_probability(limit)}
    if judgement.single_miss_probability is not None:
        missed["single_element"] = {"relative_error": target_error, "probability": judgement.single_miss_probability}
    return missed


def format_probability(probability: float) -> str:
    """Format the probability of a miss for a sentence."""
    # The digits of a smaller probability say nothing more.
    return "< 1e-6" if 0 < probability < 1e-6 else f"{probability:.2g}"
