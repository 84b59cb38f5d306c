"""Validation of the requests for a plan and for a judgement."""

from schemas.plan import JudgeRequest, PlanRequest
from service.checks.common.limits import Limits
from service.checks.common.request_validation import validate_request

_PLAN_FIELDS = ("point", "scale", "bounds", "outputs", "cotangents")
_JUDGED_FIELDS = ("candidate", "values", "vjp", "jvp", "jacobian")
_CHECKSUMS_PER_NAME, _OTHER_CHECKSUMS = 4, 6
"""Checksums of a tensor and an output together, and those of the whole plan."""


def parse_plan_request(body: object, limits: Limits) -> PlanRequest:
    """Validate the request for a plan.

    Raises
    ------
    InvalidRequestError
        All errors of the form.
    """
    return validate_request(body, PlanRequest, {(name,): limits.names for name in _PLAN_FIELDS})


def parse_judge_request(body: object, limits: Limits) -> JudgeRequest:
    """Validate the request for a judgement.

    Raises
    ------
    InvalidRequestError
        All errors of the form.
    """
    fields = (*((name,) for name in _JUDGED_FIELDS), *(("plan", name) for name in _PLAN_FIELDS))
    checksums = _CHECKSUMS_PER_NAME * limits.names + _OTHER_CHECKSUMS
    return validate_request(body, JudgeRequest, dict.fromkeys(fields, limits.names) | {("plan", "checks"): checksums})
