"""Small checks: so cheap by their estimate that they get permits of their own."""

from dataclasses import replace

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import MAX_SMALL_BYTES, MAX_SMALL_WORK, Limits
from service.checks.graph import model_language
from service.checks.graph.budget import check_model_size
from service.checks.graph.cost_estimate import estimate_check
from service.checks.graph.parse import parse_problem

_BYTES_AN_ELEMENT = 64
"""Bytes of the estimate for each element, at least: more elements than fit need no estimate."""


def is_small_check(body: object | None, limits: Limits) -> bool:
    """Return whether a request takes no more memory and time than a small check.

    An invalid request is small, because it is refused at once. A request over its limits is not: its refusal suggests
    requests that fit, which takes time.

    Parameters
    ----------
    body
        The request, as parsed from JSON; None for one larger than `MAX_SMALL_BODY_BYTES`.
    limits
        Limits of the request.
    """
    if body is None:
        return False
    small_limits = replace(
        limits,
        elements=min(limits.elements, MAX_SMALL_BYTES // _BYTES_AN_ELEMENT),
        bytes=min(limits.bytes, MAX_SMALL_BYTES),
        work=min(limits.work, MAX_SMALL_WORK),
    )
    try:
        _, problem = parse_problem(body, small_limits, model_language.parse_check_request)
        check_model_size(problem, small_limits)
    except InvalidRequestError as error:
        return error.reason != "over-budget"
    # Joint directions may leave every tensor to directions of its own.
    plan, estimate = estimate_check(problem.without_joint_directions(), small_limits)
    return plan is not None and estimate.describe_excess(small_limits) is None
