"""Problem documents: RFC 9457, with JSON Pointers of RFC 6901 into the request."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from schemas.problem_details import error_at, make_problem, place_validation_errors, quote_name, to_json_pointer
from schemas.strict_model import StrictModel
from schemas.tensor import Tensor

# RFC 6901, section 5, but for the characters that its two escapes do not touch.
POINTERS = [
    ((), ""),
    (("foo",), "/foo"),
    (("foo", 0), "/foo/0"),
    (("",), "/"),
    (("a/b",), "/a~1b"),
    (("m~n",), "/m~0n"),
    (("~1",), "/~01"),
    ((" ", "é"), "/ /é"),
]


@pytest.mark.parametrize(("path", "expected"), POINTERS)
def test_json_pointer_escapes_its_parts(path: tuple[str | int, ...], expected: str) -> None:
    assert to_json_pointer(*path) == expected
    assert error_at("wrong", *path) == {"pointer": expected, "detail": "wrong"}


def test_a_pointer_ends_before_a_name_of_megabytes() -> None:
    assert to_json_pointer("weights", "w" * 201, 3) == f"/weights/{'w' * 201}/3"
    assert to_json_pointer("weights", "w" * 1_000_000, 3) == "/weights"


@given(st.lists(st.text(alphabet="~/01ab é"), max_size=4))
def test_a_pointer_leads_back_to_its_path(path: list[str]) -> None:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in to_json_pointer(*path).split("/")[1:]]
    assert parts == path


@given(st.text())
def test_a_name_is_shown_in_short(name: str) -> None:
    text = quote_name(name)
    assert (text == repr(name)) == (len(repr(name)) <= 80)
    assert len(text) <= 80
    assert quote_name("x" * 1000) == f"'{'x' * 37}...{'x' * 38}'"


def test_a_problem_has_the_members_of_the_rfc() -> None:
    document = make_problem(422, "Invalid request", "what is wrong")
    assert re.fullmatch(r"[a-z]+:[a-z0-9:-]+", document["type"]), "a URI"
    assert {key: document[key] for key in ("title", "status", "detail")} == {
        "title": "Invalid request",
        "status": 422,
        "detail": "what is wrong",
    }
    assert "errors" not in document
    assert make_problem(404, "Not Found", "")["type"] != document["type"]


@pytest.mark.parametrize(("count", "listed"), [(1, 1), (100, 100), (101, 100), (5000, 100)])
def test_problem_lists_the_first_hundred_errors(count: int, listed: int) -> None:
    document = make_problem(422, "Invalid request", "", [error_at("wrong", number) for number in range(count)])
    assert [error["pointer"] for error in document["errors"]] == [f"/{number}" for number in range(listed)]
    assert document["total_errors"] == count


class Round(StrictModel):
    op: Literal["round"]
    radius: float


class Square(StrictModel):
    op: Literal["square"]
    side: int | list[int]


class Body(StrictModel):
    shapes: list[Annotated[Round | Square, Field(discriminator="op")]] = Field(default=[], max_length=3)
    tensors: dict[str, Tensor] = Field(default={})
    mode: Literal["a", "b"] = "a"
    sure: bool = True


SHAPES = {"op": "square", "side": 1}


def list_known_fields(path: Sequence[str | int]) -> dict[str, FieldInfo]:
    return Square.model_fields | Round.model_fields if path else Body.model_fields


INVALID: dict[str, tuple[Any, dict[str, str]]] = {
    "no object": ([], {"": "must be an object"}),
    "unknown field": ({"tensor": 1}, {"/tensor": "did you mean 'tensors'?"}),
    "unknown field, nothing near": ({"zzz": 1}, {"/zzz": "known here: shapes, tensors, mode, sure"}),
    "unknown field inside": ({"shapes": [SHAPES | {"tensor": 1}]}, {"/shapes/0/tensor": "unknown field 'tensor'"}),
    "unknown field inside, something near": (
        {"shapes": [SHAPES | {"sides": 1}]},
        {"/shapes/0/sides": "unknown field 'sides'; did you mean 'side'?"},
    ),
    "choice": ({"mode": "c"}, {"/mode": "must be 'a' or 'b'; 'c' was given"}),
    "null": ({"mode": None}, {"/mode": "must be 'a' or 'b'; null was given"}),
    "a long string": ({"mode": "c" * 999}, {"/mode": f"; '{'c' * 37}...{'c' * 38}' was given"}),
    "list": ({"shapes": {}}, {"/shapes": "must be a list; an object was given"}),
    "too many": ({"shapes": [SHAPES] * 4}, {"/shapes": "must have at most 3 items; a list was given"}),
    "a boolean": ({"sure": 1}, {"/sure": "must be true or false; 1 was given"}),
    "tag of another type": ({"shapes": [{"op": None}]}, {"/shapes/0/op": "must be the name of an op; null was given"}),
    "tag missing": ({"shapes": [SHAPES, {}]}, {"/shapes/1/op": "is missing"}),
    "tag unknown": ({"shapes": [{"op": "sqare"}]}, {"/shapes/0/op": "did you mean 'square'?"}),
    "missing inside a union": ({"shapes": [{"op": "round"}]}, {"/shapes/0/radius": "is missing"}),
    "type inside a union": (
        {"shapes": [{"op": "round", "radius": "1"}, {"op": "round", "radius": True}]},
        {"/shapes/0/radius": "must be a number; '1' was given", "/shapes/1/radius": "must be a number; true was given"},
    ),
    "branches of a union": (
        {"shapes": [{"op": "square", "side": "1"}]},
        {"/shapes/0/side": "must be an integer, or must be a list; '1' was given"},
    ),
    "inside a branch": (
        {"shapes": [{"op": "square", "side": [1, "2"]}]},
        {"/shapes/0/side": "must be an integer", "/shapes/0/side/1": "must be an integer"},
    ),
    "a field of a tag's name": (
        {"shapes": [{"op": "round", "round": {}}]},
        {"/shapes/0/radius": "is missing", "/shapes/0/round": "unknown field 'round'"},
    ),
    "tensors": ({"tensors": {"a/b": [None], "c~": "x"}}, {"/tensors/a~1b": "null", "/tensors/c~0": "'x'"}),
    "braces": ({"tensors": {"x": ["{message}"]}}, {"/tensors/x": "'{message}'"}),
}


@pytest.mark.parametrize(("body", "expected"), INVALID.values(), ids=INVALID)
def test_each_error_is_placed_where_the_request_is_wrong(body: Any, expected: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(Body).validate_python(body)
    details = {
        entry["pointer"]: entry["detail"] for entry in place_validation_errors(error.value, body, list_known_fields)
    }
    assert set(details) == set(expected)
    for place, words in expected.items():
        assert words in details[place]
