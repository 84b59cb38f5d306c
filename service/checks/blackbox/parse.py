"""Validation of the requests for a plan and for a judgement."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from schemas.plan import JudgeRequest, PlanRequest
from schemas.problem_details import InvalidRequestError, PlacedError, error_at
from service.checks.common.limits import Limits
from service.checks.common.request_validation import Path, validate_request

PLAN_FIELD, REQUEST_FIELD = "plan", "plan_request"
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
        All errors of the form, or of the choice between a plan and a request for one.
    """
    request = validate_request(body, JudgeRequest, _list_max_counts(limits.names))
    if errors := [*_find_plan_errors(request)]:
        raise InvalidRequestError(errors)
    return request


@lru_cache(maxsize=16)
def _list_max_counts(names: int) -> Mapping[Path, int]:
    """Return the most entries of the fields of a request for a judgement, for a limit on names."""
    plan_fields = ((plan, name) for plan in (PLAN_FIELD, REQUEST_FIELD) for name in _PLAN_FIELDS)
    fields = (*((name,) for name in _JUDGED_FIELDS), *plan_fields)
    return dict.fromkeys(fields, names) | {(PLAN_FIELD, "checks"): _CHECKSUMS_PER_NAME * names + _OTHER_CHECKSUMS}


def _find_plan_errors(request: JudgeRequest) -> Iterator[PlacedError]:
    if request.plan is None and request.plan_request is None:
        detail = "is missing: give the plan of POST /v1/plan, or your request for one as plan_request, with digest"
        yield error_at(detail, PLAN_FIELD)
    if request.plan is not None and request.plan_request is not None:
        yield error_at("stands in place of `plan`, and both were given: give one of them", REQUEST_FIELD)
    elif request.plan_request is not None and request.digest is None:
        detail = "is missing: plan_request takes the SHA-256 of the points that you made, in 64 hexadecimal digits"
        yield error_at(detail, "digest")


def choose_plan_field(body: object) -> str:
    """Return the field of a request for a judgement that its points follow from."""
    return REQUEST_FIELD if isinstance(body, dict) and REQUEST_FIELD in body else PLAN_FIELD
