"""Requests for a plan and for a judgement, validated."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from schemas.check import ToleranceSpec
from schemas.plan import BoundsSpec, DirectionsSpec, JudgeRequest, Plan, PlanRequest, SealedDirections
from schemas.problem_details import InvalidRequestError, error_at, place_validation_errors
from service.checks.graph.problem import Limits

_MODELS_BY_PATH: dict[tuple[type[BaseModel], tuple[str | int, ...]], type[BaseModel]] = {
    (PlanRequest, ("directions",)): DirectionsSpec,
    (PlanRequest, ("bounds", "*")): BoundsSpec,
    (JudgeRequest, ("plan",)): Plan,
    (JudgeRequest, ("tolerance",)): ToleranceSpec,
    (JudgeRequest, ("plan", "directions")): SealedDirections,
    (JudgeRequest, ("plan", "bounds", "*")): BoundsSpec,
}
RequestModel = TypeVar("RequestModel", bound=BaseModel)


def parse_plan_request(body: object, limits: Limits) -> PlanRequest:
    """Validate the request for a plan.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with its form.
    """
    _check_name_counts(body, ("point",), ("scale",), ("bounds",), limits=limits)
    return _validate_request(body, PlanRequest)


def parse_judge_request(body: object, limits: Limits) -> JudgeRequest:
    """Validate the request for a judgement, as `parsed_plan` does."""
    plan = ("plan", "point"), ("plan", "scale"), ("plan", "bounds")
    _check_name_counts(body, ("candidate",), *plan, limits=limits)
    _check_name_counts(body, ("plan", "checks"), limits=limits, total_limit=3 * limits.names + 5)
    return _validate_request(body, JudgeRequest)


def _check_name_counts(body: object, *paths: tuple[str, ...], limits: Limits, total_limit: int | None = None) -> None:
    """Refuse more names than are taken, before each is looked at and each may be wrong."""
    total_limit = limits.names if total_limit is None else total_limit
    errors = [
        error_at(f"{count} are more than the {total_limit} that are taken", *path)
        for path in paths
        if (count := _count_entries(body, path)) > total_limit
    ]
    if errors:
        raise InvalidRequestError(errors)


def _count_entries(body: object, path: tuple[str, ...]) -> int:
    here = body
    for part in path:
        here = cast("dict[str, Any]", here).get(part) if isinstance(here, dict) else None
    return len(cast("dict[str, Any]", here)) if isinstance(here, dict) else 0


def _validate_request(body: object, model: type[RequestModel]) -> RequestModel:
    def known_fields(path: Sequence[str | int]) -> Mapping[str, FieldInfo]:
        # What is in bounds is by name.
        named = "bounds" in path[:-1]
        found = _MODELS_BY_PATH.get((model, (*path[:-1], "*") if named else tuple(path))) if path else model
        return found.model_fields if found is not None else {}

    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise InvalidRequestError(place_validation_errors(error, body, known_fields)) from None
