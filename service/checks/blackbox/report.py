"""From the verdicts of a judgement to its report on the wire."""

from collections.abc import Mapping, Sequence
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
from schemas.problem_details import escape_name
from schemas.tensor import encode_number
from service.checks.common import report_entries
from service.checks.common.summary import summarize
from service.numerics.blackbox.candidate_judge import TensorJudgement
from service.numerics.blackbox.incomplete_lines import find_longest_finite_runs
from service.numerics.blackbox.layout import EvaluationLayout
from service.numerics.blackbox.noise import LossNoise
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.diagnosis import error_pattern
from service.numerics.verdict import gradient_verdict
from service.numerics.verdict.gradient_verdict import ElementResult
from service.numerics.verdict.outcome import Outcome


def build_judge_report(
    layout: EvaluationLayout,
    losses: Array,
    noise: LossNoise,
    judgements: Mapping[str, TensorJudgement],
    target_error: float,
) -> JudgeReport:
    """Build the report of a judgement.

    Parameters
    ----------
    layout
        Layout of the evaluations.
    losses
        Losses, shape (evaluations,); NaN for missing values.
    noise
        Noise of the loss.
    judgements
        Judgements by name of the tensor.
    target_error
        Relative error of one element, whose probability to be missed is reported.
    """
    judgements = {
        name: _explain_missing_values(judgement, *_count_missing_values(layout, name, losses))
        for name, judgement in iterate_interruptibly(judgements.items())
    }
    outcome = gradient_verdict.combine_outcomes([judgement.verdict.outcome for judgement in judgements.values()])
    verdicts = {
        name: _build_verdict(layout, name, losses, judgement, target_error)
        for name, judgement in iterate_interruptibly(judgements.items())
    }
    name_with_largest_remainder = max(judgements, key=lambda name: _compute_intercept(judgements[name]))
    name_with_largest_miss = max(judgements, key=lambda name: judgements[name].single_miss_probability)
    return {
        "outcome": cast("Any", outcome.wire_name),
        "summary": _summarize(outcome, judgements, target_error),
        "verdicts": verdicts,
        "noise": encode_number(float(noise.deviation)),
        "deterministic": bool(noise.is_deterministic),
        "taylor": {"name": name_with_largest_remainder, **verdicts[name_with_largest_remainder]["taylor"]},
        "missed": verdicts[name_with_largest_miss]["missed"],
        "evaluations": layout.evaluation_count,
    }


def _compute_intercept(judgement: TensorJudgement) -> float:
    intercept = abs(judgement.remainder_test.fit_intercept)
    return np.inf if np.isnan(intercept) else intercept


def _summarize(outcome: Outcome, judgements: Mapping[str, TensorJudgement], target_error: float) -> str:
    summary = summarize(outcome, {name: judgement.verdict for name, judgement in judgements.items()})
    if outcome == Outcome.PASS:
        name, judgement = max(
            judgements.items(), key=lambda name_and_judgement: name_and_judgement[1].single_miss_probability
        )
        return (
            f"{summary} An error of {target_error:.1e} of a single element of {escape_name(name)} would have been "
            f"missed with probability {_format_probability(judgement.single_miss_probability)}."
        )
    bugs = [judgement.diagnosis.explanation for judgement in judgements.values() if judgement.diagnosis is not None]
    return f"{summary} {bugs[0]}" if bugs else summary


def _format_probability(probability: float) -> str:
    # The digits of a smaller probability say nothing more.
    return "< 1e-6" if 0 < probability < 1e-6 else f"{probability:.2g}"


def _count_missing_values(layout: EvaluationLayout, name: str, losses: Array) -> tuple[int, int, bool]:
    """Count the points of a tensor without a value of the loss, and all its points.

    The third result tells whether too few points near the base have values.
    """
    is_missing = np.isnan(layout.select_tensor_losses(name, losses))
    return (
        int(np.count_nonzero(is_missing)),
        is_missing.size,
        not find_longest_finite_runs(layout.select_near_losses(name, losses)),
    )


def _explain_missing_values(
    judgement: TensorJudgement, missing_count: int, point_count: int, is_base_missing: bool
) -> TensorJudgement:
    """Add the points without a value to the reason of an inconclusive verdict."""
    if judgement.verdict.outcome != Outcome.INCONCLUSIVE or not (missing_count or is_base_missing):
        return judgement
    location = f"at {missing_count} of the {point_count} points to which this tensor was moved"
    if is_base_missing:
        location = "at most of the points next to the base, so that nothing is known of its noise"
    reason = f"{judgement.verdict.reason} The loss has no value {location}: {_MISSING_VALUE_REMEDY}"
    return replace(judgement, verdict=replace(judgement.verdict, reason=reason))


_MISSING_VALUE_REMEDY = "give a smaller scale, or plan with bounds within which it has one."


def _build_verdict(
    layout: EvaluationLayout, name: str, losses: Array, judgement: TensorJudgement, target_error: float
) -> JudgedVerdict:
    verdict, bug = judgement.verdict, judgement.diagnosis
    by_element = layout.lines[name].moved_elements is not None
    report: JudgedVerdict = {
        "outcome": cast("Any", verdict.outcome.wire_name),
        "reason": verdict.reason if bug is None else f"{verdict.reason} {bug.explanation}",
        "elements": report_entries.build_element_counts(verdict),
        "smallest_detectable_error": encode_number(verdict.smallest_detectable_error),
        "worst": [report_entries.build_worst_element(result) for result in verdict.worst_elements],
        "diagnoses": report_entries.build_diagnoses([] if bug is None else [bug]),
        "directions": [_build_direction(result, by_element) for result in judgement.direction_results],
        "noise": encode_number(float(judgement.noise.deviation)),
        "taylor": _build_taylor(judgement),
        "missed": _build_miss_probability(judgement, target_error),
        "without_value": _count_missing_values(layout, name, losses)[0],
    }
    if by_element and verdict.outcome == Outcome.FAIL:
        report["pattern"] = _describe_error_pattern(name, layout.points[name].values.shape, judgement.direction_results)
    return report


def _describe_error_pattern(name: str, shape: tuple[int, ...], results: Sequence[ElementResult]) -> str:
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
        {**report_entries.build_miss_probability(judgement.verdict.detection_limit), "single_element": single_element},
    )
