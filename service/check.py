"""`POST /v1/check`: request to numerics to report. Knows no Flask."""

from collections.abc import Callable
from functools import partial

import numpy as np

from schemas.report import CheckReport
from schemas.tensor import Encoding
from service.checking import language
from service.checking.answer import Findings, report
from service.checking.answering import check_answer
from service.checking.asked import asked
from service.checking.budget import planned
from service.checking.deadline import Clock, clock_of
from service.checking.diagnosing import diagnosed
from service.checking.differentiating import differentiated
from service.checking.fitting import SMALLER, fitting_the_time, place_of, what_would_fit
from service.checking.judge import Judge, Routes
from service.checking.question import Limits, Problem
from service.checking.stopwatch import Stopwatch
from service.numerics.gradients.finite_difference import Plan, Progress
from service.numerics.pausing import pausing

__all__ = ["Limits", "check"]

_DIAGNOSED = 0.9
"""Part of the time at which a diagnosis ends with what it has: the report is still to be written."""


def check(
    body: object,
    limits: Limits | None = None,
    progress: Progress | None = None,
    encoding: Encoding | None = None,
    reserve: Callable[[int], None] | None = None,
) -> CheckReport:
    """Answer a request.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        What it may take.
    progress
        Is told how far the finite differences are, the last time that they are done, and may raise to stop the check.
    encoding
        Of the tensors of the report, in place of that which the request asks for.
    reserve
        Is told of how many bytes the answer is at most, before anything is computed, and may raise to refuse it. Where
        it is given, tensors are left for `schemas.writing` to write.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it.
    """
    watch = Stopwatch()
    limits = limits or Limits()
    clock = clock_of(limits.seconds)
    with clock.watching():
        with clock.refusing(SMALLER, "with_respect_to"):
            request, problem = asked(body, limits, language.parsed)
        place = place_of(problem)
        with (
            clock.refusing(partial(what_would_fit, problem, limits), *place),
            watch.stage("finite_difference"),
            clock.during("the differences were being planned"),
        ):
            plan = planned(problem, limits)
        form = encoding or request.encoding
        if reserve is not None:
            reserve(check_answer(problem, limits, form))
        # Overflow and NaN are findings here; they are looked for in the results.
        remedy = partial(_fitting, problem, plan, limits, clock)
        with clock.refusing(remedy, *place), np.errstate(all="ignore"):
            routes = differentiated(problem, plan, watch, limits, progress)
            findings, judge = _found(problem, routes, watch, clock)
            with clock.during("the report was being written"):
                return report(problem, routes, judge, findings, watch, form, late=reserve is not None)


def _fitting(problem: Problem, plan: Plan, limits: Limits, clock: Clock) -> str:
    return fitting_the_time(problem, plan, limits, clock.done)


def _found(problem: Problem, routes: Routes, watch: Stopwatch, clock: Clock) -> tuple[Findings, Judge]:
    """Judge every name, and name the bugs of those that fail, as far as there is time for it."""
    judge = Judge(problem, routes)
    with watch.stage("verdict"), clock.during("the verdicts were being found"):
        verdicts = {name: judge.of(name) for name in pausing(problem.names)}
        disputes = {name: found for name in pausing(problem.names) if (found := judge.dispute(name))}
    with watch.stage("diagnosis"), clock.up_to(_DIAGNOSED):
        diagnoses = diagnosed(problem, judge, verdicts, routes.evaluations)
    return Findings(verdicts, disputes, diagnoses), judge
