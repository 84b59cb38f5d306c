"""The probable bugs of the candidates that fail."""

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.datatype import Array
from schemas.problem import plain
from service.checking.judge import Judge
from service.checking.question import Problem
from service.numerics import faults
from service.numerics.faults import Diagnosis, Scene
from service.numerics.outcome import Outcome
from service.numerics.pausing import OutOfTimeError
from service.numerics.verdict import Verdict


def diagnosed(
    problem: Problem, judge: Judge, verdicts: Mapping[str, Verdict], evaluations: int
) -> dict[str, list[Diagnosis]]:
    """Name the probable bugs, by the name of the candidate; nothing is said of those that did not fail.

    Nothing either where our routes disagree among themselves: there is no right gradient to start from. Where the time
    is over before all was tried, what was found is said.

    Parameters
    ----------
    problem, judge, verdicts
        The check so far.
    evaluations
        Of the loss, that the check took: a diagnosis takes no more.
    """
    failed = [name for name, each in verdicts.items() if each.outcome == Outcome.FAIL and name in problem.candidate]
    try:
        return _diagnosed(problem, judge, failed, evaluations)
    except OutOfTimeError:
        return {name: [faults.NO_TIME] for name in failed}


def _diagnosed(problem: Problem, judge: Judge, failed: Sequence[str], evaluations: int) -> dict[str, list[Diagnosis]]:
    wrong = {name: _wrong(problem, judge, name) for name in failed if not judge.dispute(name)}
    if not wrong:
        return {}
    return faults.diagnose(scene_of(problem), wrong, evaluations * problem.graph.cost().at_once)


def _wrong(problem: Problem, judge: Judge, name: str) -> Array:
    if judge.comparable(name):
        return judge.wrong(name)
    return np.ones(problem.candidate[name].array.shape, np.bool_)


def scene_of(problem: Problem) -> Scene:
    """Bring a check into the terms of the diagnosis.

    In float64 whatever the dtype: what a bug makes is compared to the last digit that the candidate has.
    """
    values = problem.graph.forward(problem.wide)
    return Scene(
        problem.graph,
        values,
        problem.graph.reverse(values),
        {name: each.array.astype(np.float64) for name, each in problem.candidate.items()},
        {name: problem.precision(name) for name in problem.candidate},
        problem.names,
        problem.request.seed,
        plain,
    )
