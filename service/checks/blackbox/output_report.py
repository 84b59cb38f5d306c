"""From the judgements of outputs to their report on the wire."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import numpy as np

from schemas.outputs import DotTestEntry, JudgedProduct
from schemas.plan import JudgedVerdict, JudgeReport
from schemas.problem_details import escape_name
from schemas.report import OutcomeName
from schemas.tensor import encode_number
from service.checks.blackbox.derivatives import (
    TensorEncoder,
    build_derivatives,
    describe_bounds,
    list_derivative_shapes,
)
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.output_judgements import OutputJudgements
from service.checks.blackbox.report import NOTHING_JUDGED, describe_single_miss, find_largest_remainder
from service.checks.blackbox.verdict_entries import build_gradient_verdict, build_product_verdict
from service.checks.common.summary import summarize
from service.numerics.verdict import gradient_verdict
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.outcome import Outcome


def build_output_report(
    plan: EvaluationPlan, judgements: OutputJudgements, target_error: float, encode: TensorEncoder
) -> JudgeReport:
    """Build the report of a judgement of outputs.

    Parameters
    ----------
    plan
        Plan with outputs.
    judgements
        Judgements on all products.
    target_error
        Relative error of one element, whose probability to be missed is reported.
    encode
        Function that encodes an array for the answer.
    """
    outcome = _combine_outcomes(judgements)
    report: JudgeReport = {
        "outcome": cast("OutcomeName", outcome.wire_name),
        "summary": " ".join(_summarize(outcome, judgements, target_error)),
        "verdicts": dict(_build_verdicts(plan, judgements, target_error)),
        "noise": encode_number(judgements.noise),
        "deterministic": judgements.is_deterministic,
        "outputs": {name: list(array.shape) for name, array in plan.cotangents.items()},
        "evaluations": plan.layout.evaluation_count,
    }
    if judgements.gradients:
        name = find_largest_remainder(judgements.gradients)
        missed = max(judgements.gradients, key=lambda name: judgements.gradients[name].single_miss_probability)
        gradients = cast("Mapping[str, JudgedVerdict]", report["verdicts"])
        report["taylor"] = {"name": name, **gradients[name]["taylor"]}
        report["missed"] = gradients[missed]["missed"]
    if judgements.dot_tests:
        report["dot_tests"] = judgements.dot_tests
    if judgements.derivatives:
        report["derivatives"] = build_derivatives(plan, judgements.derivatives, encode)
    return report


def _combine_outcomes(judgements: OutputJudgements) -> Outcome:
    outcomes = [verdict.outcome for verdict in judgements.verdicts.values()]
    outcomes += [_find_outcome(test) for test in judgements.dot_tests]
    return gradient_verdict.combine_outcomes(outcomes) if outcomes else Outcome.INCONCLUSIVE


def _find_outcome(test: DotTestEntry) -> Outcome:
    return next(outcome for outcome in Outcome if outcome.wire_name == test["outcome"])


def _build_verdicts(
    plan: EvaluationPlan, judgements: OutputJudgements, target_error: float
) -> Iterator[tuple[str, JudgedVerdict | JudgedProduct]]:
    """Yield the verdicts by name, in the order of the outputs and then of the tensors."""
    shapes, counts = list_derivative_shapes(plan), judgements.missing_counts
    for output in plan.cotangents:
        for name, point in plan.layout.points.items():
            pair = f"{output}/{name}"
            if pair in judgements.gradients:
                judgement = judgements.gradients[pair]
                yield (
                    pair,
                    build_gradient_verdict(pair, point.values.shape, judgement, target_error, counts[pair]),
                )
            if pair in judgements.jacobians:
                judgement = judgements.jacobians[pair]
                yield pair, build_product_verdict(pair, shapes[pair], judgement, target_error, counts[pair])
        if output in judgements.directional:
            judgement = judgements.directional[output]
            yield output, build_product_verdict(output, None, judgement, target_error, counts[output])


def _summarize(outcome: Outcome, judgements: OutputJudgements, target_error: float) -> Iterator[str]:
    """Yield the sentences of the summary: those on the verdicts with the worst outcome, then the rest."""
    groups = [
        {name: judgement.verdict for name, judgement in judgements.gradients.items()},
        {name: _drop_zero_remark(judgement.verdict) for name, judgement in judgements.jacobians.items()},
        {f"{name} (jvp)": _drop_zero_remark(judgement.verdict) for name, judgement in judgements.directional.items()},
    ]
    texts = [*_summarize_groups(outcome, [group for group in groups if group])]
    tests = [test for test in judgements.dot_tests if _find_outcome(test) == outcome]
    if not texts and tests:
        texts = [f"{outcome.wire_name}: the products contradict each other."]
    yield from texts or [NOTHING_JUDGED]
    if outcome == Outcome.PASS and judgements.gradients:
        yield describe_single_miss(judgements.gradients, target_error)
    yield from _describe_bug(judgements)
    if outcome != Outcome.PASS:
        yield from map(_describe_dot_test, tests[:1])
    if judgements.derivatives and not judgements.verdicts:
        yield describe_bounds(bounds for _, bounds in judgements.derivatives.values())


def _drop_zero_remark(verdict: GradientVerdict) -> GradientVerdict:
    """Drop the remark that a derivative is 0 if only some of its rows are: most Jacobians have such rows."""
    return replace(verdict, zero_tolerance=None) if np.isfinite(verdict.smallest_detectable_error) else verdict


def _summarize_groups(outcome: Outcome, groups: list[dict[str, GradientVerdict]]) -> Iterator[str]:
    """Yield a sentence for each group of verdicts with the outcome; the first one names the outcome."""
    prefix = f"{outcome.wire_name}: "
    leading = [
        group
        for group in groups
        if gradient_verdict.combine_outcomes([verdict.outcome for verdict in group.values()]) == outcome
    ]
    for number, group in enumerate(leading):
        text = summarize(outcome, group)
        yield text if number == 0 else _capitalize(text.removeprefix(prefix))


def _capitalize(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _describe_bug(judgements: OutputJudgements) -> Iterator[str]:
    """Yield the explanation of the first bug that explains a failing product."""
    judged = [*judgements.gradients.values(), *judgements.jacobians.values(), *judgements.directional.values()]
    bug = next((judgement.diagnosis for judgement in judged if judgement.diagnosis is not None), None)
    if bug is not None:
        yield bug.explanation


def _describe_dot_test(test: DotTestEntry) -> str:
    vjp, jvp, allowed = (float(test[part]) for part in ("vjp", "jvp", "allowed"))
    return (
        f"The vjp and the jvp of {escape_name(test['name'])} contradict each other: along direction "
        f"{test['direction']} they give {vjp:.10g} and {jvp:.10g}, and rounding explains {allowed:.1e}."
    )
