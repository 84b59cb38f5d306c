"""The method `auto`: all elements where the limits allow, else random directions."""

from schemas.report import ChosenMethod
from service.checks.common.limits import Limits
from service.checks.graph.cost_estimate import estimate_check
from service.checks.graph.problem import Problem

AUTOMATIC_DIRECTIONS = 4
"""Random directions where the limits do not allow all elements, unless the request names a number."""


def choose_automatic_method(problem: Problem, limits: Limits) -> Problem:
    """Return the problem with the settings that `auto` stands for, or as it is with another method.

    A sample of the elements is no choice: its pass would say nothing of the others, while directions miss an error
    anywhere with a stated probability.
    """
    spec = problem.request.finite_difference
    if spec.method != "auto":
        return problem
    by_element = problem.with_difference_settings(method="adaptive", projections=None)
    plan, estimate = estimate_check(by_element, limits)
    if plan is not None and estimate.fits_with_room(by_element, limits):
        return by_element
    count = spec.projections or AUTOMATIC_DIRECTIONS
    return problem.with_difference_settings(method="adaptive", projections=count)


def describe_chosen_method(problem: Problem) -> ChosenMethod:
    """Return the settings that `auto` chose, in the form of a request."""
    count = problem.projection_count
    return {"method": "adaptive"} if count is None else {"method": "adaptive", "projections": count}
