"""`POST /v1/curve`: request to numerics to answer. Knows no Flask."""

import numpy as np

from schemas.curve import CurveReport, EngineDifference
from schemas.datatype import Array
from schemas.report import Number
from schemas.tensor import spelled
from service.checking import element, language
from service.checking.asked import asked
from service.checking.budget import check_bytes, check_size, check_work
from service.checking.deadline import clock_of
from service.checking.fitting import SMALLER
from service.checking.question import Limits, Problem
from service.numerics import curve as numerics
from service.numerics.gradients import analytic, finite_difference
from service.numerics.gradients.finite_difference import Progress

_REMEDY = "Take a smaller model, or a tensor nearer to the loss"


def curve(body: object, limits: Limits | None = None, progress: Progress | None = None) -> CurveReport:
    """Answer a request.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        What it may take.
    progress
        Is told of the evaluations of the curve, and then of those of the engine; may raise to stop them.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it.
    """
    limits = limits or Limits()
    clock = clock_of(limits.seconds)
    with clock.watching():
        with clock.refusing(SMALLER, "element"):
            request, problem = asked(body, limits, language.parsed_curve, element.chosen)
        flat = element.flat(request.element, problem.graph)
        with clock.refusing(_REMEDY, "model"):
            with clock.during("the curve was being planned"):
                _check_budget(problem, flat, limits)
            # Overflow and NaN are findings here.
            with np.errstate(all="ignore"):
                return _report(problem, flat, clock.counting(progress))


def _check_budget(problem: Problem, flat: int, limits: Limits) -> None:
    """Refuse what would take too much, before anything is allocated."""
    check_size(problem, limits)
    (name,), graph = problem.names, problem.graph
    before = finite_difference.needs_of_planning(graph, problem.names)
    differences = max(before.bytes, numerics.bytes_of(graph, name))
    check_bytes(problem, limits, differences, "curve", _REMEDY, "model")
    check_work(problem, limits, numerics.work(graph, name) + before.work, "curve", _REMEDY, "model")
    plan = finite_difference.planned(graph, problem.wide, problem.names, problem.method, {name: np.array([flat])})
    differences = numerics.bytes_of(graph, name) + finite_difference.needs_of(plan).bytes
    check_bytes(problem, limits, differences, "curve", _REMEDY, "model")
    check_work(problem, limits, numerics.work(graph, name) + plan.work, "curve", _REMEDY, "model")


def _report(problem: Problem, flat: int, progress: Progress) -> CurveReport:
    (name,) = problem.names
    by_hand = analytic.differentiate(problem.graph, problem.leaves, dtype=problem.dtype).gradients[name]
    found = numerics.curve(problem.graph, problem.wide, name, flat, progress)
    progress(name, found.evaluations, found.evaluations)
    report: CurveReport = {
        "analytic": spelled(float(by_hand.flat[flat])),
        "steps": found.steps.tolist(),
        "forward": _listed(found.forward),
        "central": _listed(found.central),
        "engine": _engine(problem, flat, progress),
    }
    if found.complex_step is not None:
        report["complex_step"] = _listed(found.complex_step)
    return report


def _engine(problem: Problem, flat: int, progress: Progress) -> EngineDifference:
    """What the engine says of the element alone."""
    (name,) = problem.names
    wanted = {name: np.array([flat])}
    difference = finite_difference.differentiate(
        problem.graph, problem.wide, problem.names, problem.method, problem.request.seed, progress, wanted
    )[name]
    return {
        "value": spelled(float(difference.value.flat[flat])),
        "error_bound": spelled(float(difference.error_bound.flat[flat])),
        "step": spelled(float(difference.steps.flat[flat])),
    }


def _listed(numbers: Array) -> list[Number]:
    return [spelled(each) for each in numbers.tolist()]
