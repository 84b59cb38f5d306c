"""Errors on the wire: `application/problem+json` (RFC 9457), an entry for each place."""

import difflib
import json
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal, cast

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from typing_extensions import NotRequired, TypedDict

from schemas.torch_names import suggest_op, suggest_parameter

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 100
MAX_NAME_LENGTH = 200
"""Characters of the longest name that a request may use."""
_MAX_POINTER_PART_LENGTH = 1000
"""Characters of the longest name that a pointer repeats."""
_NAME_REPR = reprlib.Repr()
_NAME_REPR.maxstring = 80


class PlacedError(TypedDict):
    """An error at one place of the request."""

    pointer: str
    detail: str


class ProblemDetails(TypedDict):
    """A problem document of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[PlacedError]]
    total_errors: NotRequired[int]


@dataclass
class InvalidRequestError(Exception):
    """A request that is JSON but cannot be answered: 422.

    Attributes
    ----------
    errors
        All errors, with their places.
    reason
        One word for the log and the metrics.
    """

    errors: Sequence[PlacedError]
    reason: Literal["invalid", "over-budget", "out-of-time"] = "invalid"


def to_json_pointer(*path: str | int) -> str:
    """Return the JSON Pointer (RFC 6901) of a path into the request.

    The pointer ends before a name that is much longer than any valid one: no answer repeats a name of megabytes.
    """
    parts = takewhile(lambda part: not _is_overlong(part), path)
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _is_overlong(part: str | int) -> bool:
    return isinstance(part, str) and len(part) > _MAX_POINTER_PART_LENGTH


def error_at(detail: str, *path: str | int) -> PlacedError:
    """Make the error at a path into the request."""
    return {"pointer": to_json_pointer(*path), "detail": detail}


FieldLookup = Callable[[Sequence[str | int]], Mapping[str, FieldInfo]]
"""A function that returns the possible fields, by name, of the object at a path into the request."""


def place_validation_errors(error: ValidationError, body: object, known_fields: FieldLookup) -> list[PlacedError]:
    """Make one error for each place at which pydantic reports errors.

    A union reports each of its branches. Their messages at one place are joined.

    Parameters
    ----------
    error
        Errors of pydantic.
    body
        Request, as parsed from JSON.
    known_fields
        Function that returns the possible fields of the object at a path.
    """
    details: dict[tuple[str | int, ...], list[str]] = {}
    with_value: set[tuple[str | int, ...]] = set()
    for entry in error.errors(include_url=False, include_input=False):
        path = _locate_in_body(entry["loc"], body, missing=entry["type"] == "missing")
        if entry["type"] in _TAG_ERRORS:
            path.append("op")
        messages = details.setdefault(tuple(path), [])
        text = _describe_error(entry, path, body, known_fields)
        if text not in messages:
            messages.append(text)
        if path and entry["type"] not in _ERRORS_WITHOUT_VALUE:
            with_value.add(tuple(path))
    return [
        error_at(
            _describe_cut_part(path)
            + ", or ".join(messages)
            + (_describe_given(_get_value_at(path, body)) if path in with_value else ""),
            *path,
        )
        for path, messages in details.items()
    ]


def _describe_cut_part(path: Sequence[str | int]) -> str:
    """Name the part of a path at which its pointer has to end."""
    overlong_part = next(filter(_is_overlong, path), None)
    return "" if overlong_part is None else f"{quote_name(str(overlong_part))}: "


def _get_value_at(path: Sequence[str | int], body: object) -> object:
    value: Any = body
    for part in path:
        value = value[part]
    return value


def _describe_given(value: object) -> str:
    """Describe the invalid value in a few words."""
    return f"; {to_short_json(value)} was given"


def to_short_json(value: object) -> str:
    """Write a value of JSON in a few words."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and math.isinf(value):
        return "a number beyond the largest float64"
    return quote_name(value) if isinstance(value, str) else f"{value!r:.40}"


def _locate_in_body(location: Sequence[str | int], body: object, *, missing: bool) -> list[str | int]:
    """Return the path into the body of a location of pydantic, without the tags of unions."""
    path: list[str | int] = []
    value = body
    tagged_value: object = None
    for position, part in enumerate(location):
        if isinstance(value, dict) and value is not tagged_value and cast("dict[str, Any]", value).get("op") == part:
            tagged_value = cast("Any", value)  # the tag comes first, once; a field may have its name
            continue
        if isinstance(value, dict) and part in value:
            value = cast("dict[str | int, Any]", value)[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(cast("list[Any]", value)):
            value = cast("list[Any]", value)[part]
        elif not (missing and position == len(location) - 1):
            continue
        path.append(part)
    return path


_TAG_ERRORS = {"union_tag_invalid", "union_tag_not_found"}
_ERRORS_WITHOUT_VALUE = {
    *_TAG_ERRORS,
    *("missing", "extra_forbidden", "tensor", "inputs", "string_too_short", "string_too_long", "string_unicode"),
}
"""Errors whose messages show the value themselves, or that have no value to show."""

_MESSAGES_BY_ERROR = {
    "missing": "is missing",
    "union_tag_not_found": "is missing",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_unicode": "must be made of whole characters; half a surrogate pair is none",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
    "string_too_long": f"must not be longer than {MAX_NAME_LENGTH} characters",
}


def _describe_error(error: ErrorDetails, path: Sequence[str | int], body: object, known_fields: FieldLookup) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        name, known = str(path[-1]), list(known_fields(path[:-1]))
        return describe_unknown("field", name, known, suggest_parameter(name, known))
    if kind == "missing" and (field := known_fields(path[:-1]).get(str(path[-1]))) and field.examples:
        return f"is missing; for example {json.dumps(field.examples[0])}"
    if kind == "union_tag_invalid":
        known = context["expected_tags"].replace("'", "").split(", ")
        value = _get_value_at(path, body)
        return (
            describe_unknown("op", value, known, suggest_op(value, known))
            if isinstance(value, str)
            else f"must be the name of an op{_describe_given(value)}"
        )
    if kind in ("too_short", "too_long"):
        bound, count = ("least", context["min_length"]) if kind == "too_short" else ("most", context["max_length"])
        return f"must have at {bound} {count} {'item' if count == 1 else 'items'}"
    if kind == "literal_error" and context["expected"] in ("True", "False"):
        return f"must be {context['expected'].lower()}"
    message = _MESSAGES_BY_ERROR.get(kind, error["msg"].replace("Input should ", "must "))
    return message[:1].lower() + message[1:]


def describe_unknown(kind: str, name: str, known_names: list[str], suggestion: str | None = None) -> str:
    """Say that a name is unknown, and suggest one: a given suggestion, or a similar name; or list the known ones."""
    text = f"unknown {kind} {quote_name(name)}"
    if suggestion is not None:
        return f"{text}; did you mean {suggestion!r}?"
    if similar_names := difflib.get_close_matches(name[:100], known_names, n=1):
        return f"{text}; did you mean {similar_names[0]!r}?"
    return f"{text}; known here: {', '.join(known_names)}" if known_names else text


def quote_name(name: str) -> str:
    """Quote a name of the request, cut in its middle to 80 characters."""
    return _NAME_REPR.repr(name)


def escape_name(name: str) -> str:
    """Write a name of the request for a sentence, without quotes."""
    return quote_name(name)[1:-1]


def make_problem(status: int, title: str, detail: str, errors: Sequence[PlacedError] | None = None) -> ProblemDetails:
    """Make a problem document, which lists the first 100 errors at most."""
    document: ProblemDetails = {
        "type": f"urn:gradcheckd:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if errors is not None:
        document["errors"] = list(errors[:MAX_ERRORS])
        document["total_errors"] = len(errors)
    return document
