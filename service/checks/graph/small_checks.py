"""Small checks: so cheap by their estimate that they get permits of their own."""

from dataclasses import replace

from schemas.problem_details import InvalidRequestError
from service.checks.graph import model_language
from service.checks.graph.budget import check_model_size
from service.checks.graph.cost_estimate import estimate_check
from service.checks.graph.parse import parse_problem
from service.checks.graph.problem import Limits

MAX_BODY_BYTES = 2**18
"""Bytes of a body that is looked at for it."""
MAX_ESTIMATED_BYTES = 2**25
"""Bytes of memory that a small check may be estimated to take: twice what the smallest model is."""
MAX_ESTIMATED_WORK = 5 * 10**7
"""Operations that it may be estimated to take: as a rule some tenths of a second, the diagnosis included."""
_BYTES_AN_ELEMENT = 64
"""Bytes, at least, of the estimate for each element: of more elements there is no need to ask for the rest."""


def is_small_check(body: object | None, limits: Limits) -> bool:
    """Tell whether a request is small, in no more memory and time than a small check takes.

    One that is invalid is small, as it is refused at once. One that is refused for what it would take is not: what
    would fit has to be found.

    Parameters
    ----------
    body
        The request, as parsed from JSON; None for one that is too large to be looked at.
    limits
        What it may take.
    """
    if body is None:
        return False
    small = replace(
        limits,
        elements=min(limits.elements, MAX_ESTIMATED_BYTES // _BYTES_AN_ELEMENT),
        bytes=min(limits.bytes, MAX_ESTIMATED_BYTES),
        work=min(limits.work, MAX_ESTIMATED_WORK),
    )
    try:
        _, problem = parse_problem(body, small, model_language.parse_check_request)
        check_model_size(problem, small)
    except InvalidRequestError as error:
        return error.reason != "over-budget"
    plan, estimate = estimate_check(problem, small)
    return plan is not None and estimate.describe_excess(small) is None
