"""The one place that validates the body of a request.

Counts limit its size, then a pydantic model tells its form.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from schemas.problem_details import InvalidRequestError, error_at, place_validation_errors

ModelT = TypeVar("ModelT", bound=BaseModel)
Path = tuple[str, ...]


def validate_request(body: object, model: type[ModelT], max_counts: Mapping[Path, int] | None = None) -> ModelT:
    """Validate the form of a request.

    Parameters
    ----------
    body
        Request, as parsed from JSON.
    model
        Pydantic model of the request.
    max_counts
        Most entries of the objects and lists at paths into the request; no limits by default.

    Raises
    ------
    InvalidRequestError
        All errors of the form; of too many entries the counts alone, since each entry may be wrong.
    """
    check_counts(body, max_counts or {})
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise InvalidRequestError(
            place_validation_errors(error, body, partial(find_known_fields, model, body))
        ) from None


def check_counts(body: object, max_counts: Mapping[Path, int]) -> None:
    """Refuse objects and lists with more entries than their limits, by path into the request.

    Raises
    ------
    InvalidRequestError
        The counts and the limits.
    """
    errors = [
        error_at(f"{count} are more than the {limit} that are taken", *path)
        for path, limit in max_counts.items()
        if (count := _count_entries(body, path)) > limit
    ]
    if errors:
        raise InvalidRequestError(errors)


def _count_entries(body: object, path: Path) -> int:
    value = body
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return 0
        value = cast("dict[str, Any]", value)[name]
    return len(cast("list[Any]", value)) if isinstance(value, list | dict) else 0


def count_nested_entries(value: object) -> int:
    """Return the number of entries of lists and objects, nested ones too."""
    total = 0
    pending = _find_containers([value])
    while pending:
        parent = pending.pop()
        children = parent.values() if isinstance(parent, dict) else parent
        total += len(children)
        pending += _find_containers(children)
    return total


def _find_containers(values: Iterable[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, _CONTAINERS)]


_CONTAINERS = (list, dict)


def find_known_fields(model: type[BaseModel], body: object, path: Sequence[str | int]) -> Mapping[str, FieldInfo]:
    """Return the possible fields of the object at a path into a request, by name.

    There are none if no model describes the object. The annotations of the model lead along the path, and the value in
    the body chooses the member of a union.
    """
    annotation, value = cast("Any", model), cast("Any", body)
    for part in path:
        annotation, value = _step_into(_choose_member(annotation, value), part), value[part]
    member = _choose_member(annotation, value)
    return member.model_fields if _is_model(member) else {}


def _step_into(annotation: Any, part: str | int) -> Any:
    """Return the annotation of the part of a value; None if it is unknown."""
    if _is_model(annotation):
        field = annotation.model_fields.get(part)
        return None if field is None else field.annotation
    arguments = get_args(annotation)
    return arguments[-1] if get_origin(annotation) in (dict, list) else None


def _choose_member(annotation: Any, value: object) -> Any:
    """Return the member of a union that may describe an object or a list; None if there is none."""
    return next((member for member in _iterate_members(annotation) if _may_describe(member, value)), None)


def _iterate_members(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _iterate_members(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _iterate_members(member)
    else:
        yield annotation


def _may_describe(annotation: Any, value: object) -> bool:
    if isinstance(value, list):
        return get_origin(annotation) is list
    if not isinstance(value, dict):
        return False
    return get_origin(annotation) is dict or (_is_model(annotation) and _has_tag(annotation, cast("Any", value)))


def _has_tag(model: type[BaseModel], value: Mapping[str, Any]) -> bool:
    """Tell whether a value has the tags of a model, its required fields of one literal."""
    tags = {
        name: get_args(field.annotation)
        for name, field in model.model_fields.items()
        if field.is_required() and get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    }
    return all(value.get(name) in literals for name, literals in tags.items())


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
