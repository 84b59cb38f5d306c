"""The probable bugs of the candidates that fail."""

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.datatype import Array
from schemas.problem_details import escape_name
from service.checks.graph.judge import Judge
from service.checks.graph.problem import Problem
from service.numerics.core.interrupts import OutOfTimeError
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.diagnose import NO_TIME_EXPLANATION, diagnose_gradients
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.outcome import Outcome


def diagnose_failures(
    problem: Problem, judge: Judge, verdicts: Mapping[str, GradientVerdict], evaluations: int
) -> dict[str, list[BugExplanation]]:
    """Name the probable bugs of the candidates that fail, by name.

    There is no diagnosis if the sources of a gradient disagree: no right gradient is known to start from. A diagnosis
    that runs out of time ends with the bugs it has found.

    Parameters
    ----------
    problem, judge, verdicts
        The check so far.
    evaluations
        Evaluations of the loss by the check: a diagnosis takes no more.
    """
    failed_names = [
        name for name, verdict in verdicts.items() if verdict.outcome == Outcome.FAIL and name in problem.candidate
    ]
    try:
        return _diagnose_names(problem, judge, failed_names, evaluations)
    except OutOfTimeError:
        return {name: [NO_TIME_EXPLANATION] for name in failed_names}


def _diagnose_names(
    problem: Problem, judge: Judge, failed_names: Sequence[str], evaluations: int
) -> dict[str, list[BugExplanation]]:
    wrong_elements = {
        name: _find_wrong_elements(problem, judge, name) for name in failed_names if not judge.find_disagreement(name)
    }
    if not wrong_elements:
        return {}
    return diagnose_gradients(
        build_context(problem), wrong_elements, evaluations * problem.graph.estimate_cost().total_work
    )


def _find_wrong_elements(problem: Problem, judge: Judge, name: str) -> Array:
    if judge.has_comparable_candidate(name):
        return judge.find_wrong_elements(name)
    return np.ones(problem.candidate[name].array.shape, np.bool_)


def build_context(problem: Problem) -> DiagnosisContext:
    """Bring a check into the terms of the diagnosis.

    In float64 whatever the dtype: what a bug makes is compared to the last digit that the candidate has.
    """
    values = problem.graph.forward(problem.float64_leaves)
    return DiagnosisContext(
        problem.graph,
        values,
        problem.graph.backward(values),
        {name: tensor.array.astype(np.float64) for name, tensor in problem.candidate.items()},
        {name: problem.get_precision(name) for name in problem.candidate},
        problem.names,
        problem.request.seed,
        escape_name,
        {
            name: recipe
            for name, recipe in ((name, problem.get_recipe(name)) for name in problem.candidate)
            if problem.declared_recipe is not None or not recipe.is_uniform
        },
    )
