"""From the verdicts of a judgement of a loss to its report on the wire."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np

from schemas.plan import JudgeReport
from schemas.problem_details import escape_name
from schemas.report import OutcomeName
from schemas.tensor import encode_number
from service.checks.blackbox.derivatives import (
    TensorEncoder,
    build_derivatives,
    describe_bounds,
    scatter_derivatives,
)
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.missing_values import count_missing_values
from service.checks.blackbox.verdict_entries import build_gradient_verdict, format_probability
from service.checks.common.summary import summarize
from service.numerics.blackbox.candidate_judge import TensorJudgement
from service.numerics.blackbox.function_differences import difference_output
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout
from service.numerics.blackbox.noise import LossNoise
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.verdict import gradient_verdict
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
    missing = {name: count_missing_values(layout, [name], losses) for name in iterate_interruptibly(judgements)}
    judgements = {
        name: replace(judgement, verdict=missing[name].explain(judgement.verdict))
        for name, judgement in judgements.items()
    }
    outcome = gradient_verdict.combine_outcomes([judgement.verdict.outcome for judgement in judgements.values()])
    verdicts = {
        name: build_gradient_verdict(
            name, layout.points[name].values.shape, judgement, target_error, missing[name].missing_count
        )
        for name, judgement in iterate_interruptibly(judgements.items())
    }
    name_with_largest_remainder = find_largest_remainder(judgements)
    name_with_largest_miss = max(judgements, key=lambda name: judgements[name].single_miss_probability)
    return {
        "outcome": cast("OutcomeName", outcome.wire_name),
        "summary": _summarize(outcome, judgements, target_error),
        "verdicts": {**verdicts},
        "noise": encode_number(float(noise.deviation)),
        "deterministic": bool(noise.is_deterministic),
        "taylor": {"name": name_with_largest_remainder, **verdicts[name_with_largest_remainder]["taylor"]},
        "missed": verdicts[name_with_largest_miss]["missed"],
        "evaluations": layout.evaluation_count,
    }


def difference_loss(plan: EvaluationPlan, losses: Array) -> tuple[dict[str, tuple[Array, Array]], float]:
    """Return the derivatives of a loss with their bounds, (1, elements), by name, and the noise.

    Parameters
    ----------
    plan
        Plan of single elements.
    losses
        Losses, shape (evaluations,); NaN for missing values.
    """
    layout = plan.layout
    differences = {
        name: difference_output(layout, name, losses[:, None]) for name in iterate_interruptibly(layout.points)
    }
    deviations = [float(difference.noise.deviation[0]) for difference in differences.values()]
    return {
        name: scatter_derivatives(layout.lines[name], layout.points[name].values.size, difference.derivatives)
        for name, difference in differences.items()
    }, max(deviations, key=lambda deviation: (np.isnan(deviation), deviation))


def build_derivative_report(plan: EvaluationPlan, losses: Array, encode: TensorEncoder) -> JudgeReport:
    """Build the report of the numerical derivatives of a loss, of which no gradient was given.

    Parameters
    ----------
    plan
        Plan of single elements.
    losses
        Losses, shape (evaluations,); NaN for missing values.
    encode
        Function that encodes an array for the answer.
    """
    numbers, noise = difference_loss(plan, losses)
    return {
        "outcome": "inconclusive",
        "summary": f"{NOTHING_JUDGED} {describe_bounds(bounds for _, bounds in numbers.values())}",
        "verdicts": {},
        "noise": encode_number(noise),
        "deterministic": bool((losses[:BASE_REPEATS] == losses[0]).all()),
        "derivatives": build_derivatives(plan, numbers, encode),
        "evaluations": plan.layout.evaluation_count,
    }


NOTHING_JUDGED = "inconclusive: no gradient was given, so that none was judged."


def find_largest_remainder(judgements: Mapping[str, TensorJudgement]) -> str:
    """Return the name of the gradient whose remainder grows most with the step."""
    return max(judgements, key=lambda name: _compute_intercept(judgements[name]))


def _compute_intercept(judgement: TensorJudgement) -> float:
    intercept = abs(judgement.remainder_test.fit_intercept)
    return np.inf if np.isnan(intercept) else intercept


def _summarize(outcome: Outcome, judgements: Mapping[str, TensorJudgement], target_error: float) -> str:
    summary = summarize(outcome, {name: judgement.verdict for name, judgement in judgements.items()})
    if outcome == Outcome.PASS:
        return f"{summary} {describe_single_miss(judgements, target_error)}"
    bugs = [judgement.diagnosis.explanation for judgement in judgements.values() if judgement.diagnosis is not None]
    return f"{summary} {bugs[0]}" if bugs else summary


def describe_single_miss(judgements: Mapping[str, TensorJudgement], target_error: float) -> str:
    """Say with what probability an error of a single element would have been missed, where it is largest."""
    name, judgement = max(
        judgements.items(), key=lambda name_and_judgement: name_and_judgement[1].single_miss_probability
    )
    return (
        f"An error of {target_error:.1e} of a single element of {escape_name(name)} would have been missed with "
        f"probability {format_probability(judgement.single_miss_probability)}."
    )
