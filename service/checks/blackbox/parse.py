"""Validation of the requests for a plan and for a judgement."""

from schemas.plan import JudgeRequest, PlanRequest
from service.checks.common.limits import Limits
from service.checks.common.request_validation import validate_request

_CHECKSUMS_PER_TENSOR, _OTHER_CHECKSUMS = 3, 5


def parse_plan_request(body: object, limits: Limits) -> PlanRequest:
    """Validate the request for a plan.

    Raises
    ------
    InvalidRequestError
        All errors of the form.
    """
    return validate_request(body, PlanRequest, {(name,): limits.names for name in ("point", "scale", "bounds")})


def parse_judge_request(body: object, limits: Limits) -> JudgeRequest:
    """Validate the request for a judgement.

    Raises
    ------
    InvalidRequestError
        All errors of the form.
    """
    paths = (("candidate",), ("plan", "point"), ("plan", "scale"), ("plan", "bounds"))
    checksums = _CHECKSUMS_PER_TENSOR * limits.names + _OTHER_CHECKSUMS
    return validate_request(body, JudgeRequest, dict.fromkeys(paths, limits.names) | {("plan", "checks"): checksums})
