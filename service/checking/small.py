"""Which checks are small: so cheap by their estimate that they may run beside all others, in places of their own."""

from dataclasses import replace

from schemas.problem import InvalidRequestError
from service.checking import language
from service.checking.asked import asked
from service.checking.budget import check_size
from service.checking.estimate import estimated
from service.checking.question import Limits

SMALL_BODY = 2**18
"""Bytes of a body that is looked at for it."""
SMALL_BYTES = 2**25
"""Bytes of memory that a small check may be estimated to take: twice what the smallest model is."""
SMALL_WORK = 5 * 10**7
"""Operations that it may be estimated to take: as a rule some tenths of a second, the diagnosis included."""
_OF_AN_ELEMENT = 64
"""Bytes, at least, of the estimate for each element: of more elements there is no need to ask for the rest."""


def is_small(body: object | None, limits: Limits) -> bool:
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
        elements=min(limits.elements, SMALL_BYTES // _OF_AN_ELEMENT),
        bytes=min(limits.bytes, SMALL_BYTES),
        work=min(limits.work, SMALL_WORK),
    )
    try:
        _, problem = asked(body, small, language.parsed)
        check_size(problem, small)
    except InvalidRequestError as error:
        return error.reason != "over-budget"
    plan, estimate = estimated(problem, small)
    return plan is not None and estimate.over(small) is None
