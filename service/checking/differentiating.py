"""The gradients of a problem by the three routes."""

from service.checking import language
from service.checking.deadline import Clock, clock_of
from service.checking.question import Limits, Problem
from service.checking.routes import Projected, Routes
from service.checking.stopwatch import Stopwatch
from service.numerics import projection
from service.numerics.gradients import analytic, autograd, finite_difference
from service.numerics.gradients.autograd import Autograd
from service.numerics.gradients.finite_difference import Difference, Plan, Progress
from service.numerics.graph import InvalidModelError


def differentiated(
    problem: Problem, plan: Plan, watch: Stopwatch, limits: Limits, told: Progress | None = None
) -> Routes:
    """Differentiate by each route, one after the other.

    Parameters
    ----------
    problem, plan, limits
        What is asked for, how it is differenced, and what it may take.
    watch
        Takes the time of each.
    told
        Is told how far the finite differences are, the last time that they are done.

    Raises
    ------
    OutOfTimeError
        At a pause after the time is over.
    """
    clock = clock_of(limits.seconds)
    with clock.watching():
        return _differentiated(problem, plan, watch, clock, told)


def _differentiated(problem: Problem, plan: Plan, watch: Stopwatch, clock: Clock, told: Progress | None) -> Routes:
    with watch.stage("analytic"), clock.during("the analytic gradient was being computed"):
        by_hand = analytic.differentiate(problem.graph, problem.leaves, dtype=problem.dtype)
    with watch.stage("autograd"), clock.during("the gradient was being computed by PyTorch"):
        by_torch = _by_torch(problem)
    with watch.stage("finite_difference"):
        progress = clock.counting(told)
        progress(problem.names[0], 0, plan.evaluations)
        routes = Routes(by_hand, by_torch, *_differences(problem, plan, progress))
    if told is not None:
        told(problem.names[-1], routes.evaluations, routes.evaluations)
    return routes


def _by_torch(problem: Problem) -> Autograd:
    try:
        return autograd.differentiate(problem.graph, problem.leaves, problem.reported, problem.dtype.name)
    except InvalidModelError as errors:
        raise language.refused(errors, problem.request) from errors


def _differences(
    problem: Problem, plan: Plan, progress: Progress
) -> tuple[dict[str, Difference], dict[str, Projected]]:
    """Differences by element, and those along directions where these are asked for instead."""
    if problem.projections is not None:
        return _along(problem, problem.projections, plan, progress)
    by_element = finite_difference.differentiate(
        problem.graph, problem.wide, problem.names, seed=problem.request.seed, progress=progress, plan=plan
    )
    return by_element, {}


def _along(
    problem: Problem, count: int, plan: Plan, progress: Progress
) -> tuple[dict[str, Difference], dict[str, Projected]]:
    """Differences along random directions: nothing of single elements, and what there is instead."""
    shapes, seed = problem.graph.shapes, problem.request.seed
    directions = {name: projection.drawn(count, shapes[name], seed, name) for name in problem.names}
    found = finite_difference.differentiate_along(
        problem.graph, problem.wide, directions, problem.method, seed, progress, plan
    )
    return (
        {name: finite_difference.nothing_by_element(shapes[name], found[name].evaluations) for name in problem.names},
        {name: Projected(directions[name], found[name]) for name in problem.names},
    )
