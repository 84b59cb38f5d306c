"""Requests for a plan and for a judgement, validated."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from schemas.check import ToleranceSpec
from schemas.plan import BoundsSpec, DirectionsSpec, JudgeRequest, Plan, PlanRequest, SealedDirections
from schemas.problem import InvalidRequestError, from_validation, placed
from service.checking.question import Limits

_OBJECTS: dict[tuple[type[BaseModel], tuple[str | int, ...]], type[BaseModel]] = {
    (PlanRequest, ("directions",)): DirectionsSpec,
    (PlanRequest, ("bounds", "*")): BoundsSpec,
    (JudgeRequest, ("plan",)): Plan,
    (JudgeRequest, ("tolerance",)): ToleranceSpec,
    (JudgeRequest, ("plan", "directions")): SealedDirections,
    (JudgeRequest, ("plan", "bounds", "*")): BoundsSpec,
}
Form = TypeVar("Form", bound=BaseModel)


def parsed_plan(body: object, limits: Limits) -> PlanRequest:
    """Validate the request for a plan.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with its form.
    """
    _check_counts(body, ("point",), ("scale",), ("bounds",), limits=limits)
    return _parsed(body, PlanRequest)


def parsed_judgement(body: object, limits: Limits) -> JudgeRequest:
    """Validate the request for a judgement, as `parsed_plan` does."""
    plan = ("plan", "point"), ("plan", "scale"), ("plan", "bounds")
    _check_counts(body, ("candidate",), *plan, limits=limits)
    _check_counts(body, ("plan", "checks"), limits=limits, most=3 * limits.names + 5)
    return _parsed(body, JudgeRequest)


def _check_counts(body: object, *paths: tuple[str, ...], limits: Limits, most: int | None = None) -> None:
    """Refuse more names than are taken, before each is looked at and each may be wrong."""
    most = limits.names if most is None else most
    errors = [
        placed(f"{count} are more than the {most} that are taken", *path)
        for path in paths
        if (count := _count(body, path)) > most
    ]
    if errors:
        raise InvalidRequestError(errors)


def _count(body: object, path: tuple[str, ...]) -> int:
    here = body
    for part in path:
        here = cast("dict[str, Any]", here).get(part) if isinstance(here, dict) else None
    return len(cast("dict[str, Any]", here)) if isinstance(here, dict) else 0


def _parsed(body: object, form: type[Form]) -> Form:
    def known_fields(path: Sequence[str | int]) -> Mapping[str, FieldInfo]:
        # What is in bounds is by name.
        named = "bounds" in path[:-1]
        found = _OBJECTS.get((form, (*path[:-1], "*") if named else tuple(path))) if path else form
        return found.model_fields if found is not None else {}

    try:
        return form.model_validate(body)
    except ValidationError as error:
        raise InvalidRequestError(from_validation(error, body, known_fields)) from None
