"""`POST /v1/check`: request to numerics to report. Knows no Flask."""

import numpy as np

from schemas.report import CheckReport
from schemas.tensor import Encoding
from service.checking import language
from service.checking.answer import Findings, report
from service.checking.asked import asked
from service.checking.budget import planned
from service.checking.diagnosing import diagnosed
from service.checking.differentiating import differentiated
from service.checking.judge import Judge
from service.checking.question import Limits
from service.checking.stopwatch import Stopwatch
from service.numerics.gradients.finite_difference import Progress

__all__ = ["Limits", "check"]


def check(
    body: object, limits: Limits | None = None, progress: Progress | None = None, encoding: Encoding | None = None
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

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it.
    """
    watch = Stopwatch()
    limits = limits or Limits()
    request, problem = asked(body, limits, language.parsed)
    with watch.stage("finite_difference"):
        plan = planned(problem, limits)
    # Overflow and NaN are findings here; they are looked for in the results.
    with np.errstate(all="ignore"):
        routes = differentiated(problem, plan, watch, limits, progress)
        with watch.stage("verdict"):
            judge = Judge(problem, routes)
            verdicts = {name: judge.of(name) for name in problem.names}
            disputes = {name: found for name in problem.names if (found := judge.dispute(name))}
        with watch.stage("diagnosis"):
            diagnoses = diagnosed(problem, judge, verdicts, routes.evaluations)
        findings = Findings(verdicts, disputes, diagnoses)
        return report(problem, routes, judge, findings, watch, encoding or request.encoding)
