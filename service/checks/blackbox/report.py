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
    outcome = gradient_verdict.combine_outcomes([each.verdict.outcome for each in judgements.values()])
    verdicts = {
        name: _build_verdict(layout, name, losses, judgement, target_error)
        for name, judgement in iterate_interruptibly(judgements.items())
    }
    farthest = max(judgements, key=lambda name: _compute_intercept(judgements[name]))
    missing = max(judgements, key=lambda name: judgements[name].single_miss_probability)
    return {
        "outcome": cast("Any", outcome.wire_name),
        "summary": _summarize(outcome, judgements, target_error),
        "verdicts": verdicts,
        "noise": encode_number(noise.deviation),
        "deterministic": noise.is_deterministic,
        "taylor": {"name": farthest, **verdicts[farthest]["taylor"]},
        "missed": verdicts[missing]["missed"],
        "evaluations": layout.evaluation_count,
    }


def _compute_intercept(judged: TensorJudgement) -> float:
    size = abs(judged.remainder_test.fit_intercept)
    return np.inf if np.isnan(size) else size


def _summarize(outcome: Outcome, judgements: Mapping[str, TensorJudgement], target_error: float) -> str:
    summary = summarize(outcome, {name: judgement.verdict for name, judgement in judgements.items()})
    if outcome == Outcome.PASS:
        name, worst = max(judgements.items(), key=lambda item: item[1].single_miss_probability)
        return (
            f"{summary} An error of {target_error:.1e} of a single element of {escape_name(name)} would have been "
            f"missed with probability {_format_probability(worst.single_miss_probability)}."
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
    missing = np.isnan(layout.tensor_losses(name, losses))
    return int(np.count_nonzero(missing)), missing.size, not find_longest_finite_runs(layout.near_losses(name, losses))


def _explain_missing_values(judged: TensorJudgement, missing: int, points: int, base_missing: bool) -> TensorJudgement:
    """Add the points without a value to the reason of an inconclusive verdict."""
    if judged.verdict.outcome != Outcome.INCONCLUSIVE or not (missing or base_missing):
        return judged
    where = f"at {missing} of the {points} points to which this tensor was moved"
    if base_missing:
        where = "at most of the points next to the base, so that nothing is known of its noise"
    reason = f"{judged.verdict.reason} The loss has no value {where}: {_MISSING_VALUE_REMEDY}"
    return replace(judged, verdict=replace(judged.verdict, reason=reason))


_MISSING_VALUE_REMEDY = "give a smaller scale, or plan with bounds within which it has one."


def _build_verdict(
    layout: EvaluationLayout, name: str, losses: Array, judged: TensorJudgement, target_error: float
) -> JudgedVerdict:
    found, bug = judged.verdict, judged.diagnosis
    by_element = layout.lines[name].moved_elements is not None
    report: JudgedVerdict = {
        "outcome": cast("Any", found.outcome.wire_name),
        "reason": found.reason if bug is None else f"{found.reason} {bug.explanation}",
        "elements": report_entries.build_element_counts(found),
        "smallest_detectable_error": encode_number(found.smallest_detectable_error),
        "worst": [report_entries.build_worst_element(each) for each in found.worst_elements],
        "diagnoses": report_entries.build_diagnoses([] if bug is None else [bug]),
        "directions": [_build_direction(each, by_element) for each in judged.direction_results],
        "noise": encode_number(judged.noise.deviation),
        "taylor": _build_taylor(judged),
        "missed": _build_miss_probability(judged, target_error),
        "without_value": _count_missing_values(layout, name, losses)[0],
    }
    if by_element and found.outcome == Outcome.FAIL:
        report["pattern"] = _describe_error_pattern(name, layout.points[name].values.shape, judged.direction_results)
    return report


def _describe_error_pattern(name: str, shape: tuple[int, ...], results: Sequence[ElementResult]) -> str:
    """Describe which of the elements that were moved are wrong, and what they have in common."""
    judged, reference, allowed_error = (np.full(shape, np.nan) for _ in range(3))
    wrong, decided = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    for result in results:
        index = result.index
        judged[index], reference[index], allowed_error[index] = (
            result.judged_value, result.reference, result.allowed_error
        )  # fmt: skip
        wrong[index] = result.outcome == Outcome.FAIL
        decided[index] = result.outcome != Outcome.INCONCLUSIVE
    return error_pattern.describe_error_pattern(escape_name(name), judged, reference, allowed_error, wrong, decided)


def _build_direction(result: ElementResult, by_element: bool) -> JudgedDirection:
    entry = report_entries.build_direction(result)
    return cast("Any", {"index": list(result.index), **entry} if by_element else entry)


def _build_taylor(judged: TensorJudgement) -> Taylor:
    test = judged.remainder_test
    return {
        "direction": test.direction,
        "steps": test.steps.tolist(),
        "remainders": [encode_number(remainder) for remainder in test.remainders.tolist()],
        "slope": encode_number(test.convergence_order),
        "intercept": encode_number(test.fit_intercept),
        "factor": encode_number(test.fit_factor),
    }


def _build_miss_probability(judged: TensorJudgement, target_error: float) -> MissedRandom | MissedCoordinates:
    single: SingleElement = {"relative_error": target_error, "probability": judged.single_miss_probability}
    assert judged.verdict.detection_limit is not None
    return cast(
        "Any", {**report_entries.build_miss_probability(judged.verdict.detection_limit), "single_element": single}
    )
