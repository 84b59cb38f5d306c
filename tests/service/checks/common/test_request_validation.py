from typing import Annotated, Literal

import pytest
from pydantic import Field

from schemas.plan import BoundsSpec, DirectionsSpec, JudgeRequest, Plan, PlanRequest, SealedDirections
from schemas.problem_details import InvalidRequestError
from schemas.strict_model import StrictModel
from service.checks.common.request_validation import (
    check_counts,
    count_nested_entries,
    find_known_fields,
    validate_request,
)
from service.checks.graph.model_language import NODE_TYPES, CheckRequestSchema


class Square(StrictModel):
    op: Literal["square"]
    side: float


class Circle(StrictModel):
    op: Literal["circle"]
    radius: float = Field(examples=[2.0])


Shape = Annotated[Square | Circle, Field(discriminator="op")]


class Drawing(StrictModel):
    shapes: list[Shape]
    named: dict[str, Shape] | None = None
    title: str | Square = ""


CIRCLE = {"op": "circle", "radius": 1.0}


def collect_errors(body, model=Drawing, max_counts=None):
    with pytest.raises(InvalidRequestError) as refusal:
        validate_request(body, model, max_counts)
    return {error["pointer"]: error["detail"] for error in refusal.value.errors}


def test_a_valid_request_is_its_model():
    assert validate_request({"shapes": [CIRCLE]}, Drawing) == Drawing(shapes=[Circle(op="circle", radius=1.0)])


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ([], "", "must be an object"),
        ({}, "/shapes", "is missing"),
        ({"shapes": [], "name": {}}, "/name", "did you mean 'named'?"),
        ({"shapes": [CIRCLE | {"radios": 1}]}, "/shapes/0/radios", "did you mean 'radius'?"),
        ({"shapes": [{"op": "circle"}]}, "/shapes/0/radius", "is missing; for example 2.0"),
        ({"shapes": [], "named": {"a": CIRCLE | {"q": 1}}}, "/named/a/q", "known here: op, radius"),
        ({"shapes": [], "title": {"op": "square", "side": 1.0, "q": 1}}, "/title/q", "known here: op, side"),
    ],
)
def test_errors_have_their_places_and_their_remedies(body, pointer, words):
    assert words in collect_errors(body)[pointer]


def test_excessive_counts_are_reported_before_invalid_fields():
    body = {"shapes": [1, 2, 3], "named": {"a": 1, "b": 2}}
    limits = {("shapes",): 2, ("named",): 1, ("title", "side"): 0, ("none",): 0}
    assert collect_errors(body, max_counts=limits) == {
        "/shapes": "3 are more than the 2 that are taken",
        "/named": "2 are more than the 1 that are taken",
    }
    check_counts(body, {("shapes",): 3, ("named",): 2})


@pytest.mark.parametrize(("value", "count"), [(1, 0), ([], 0), ([1, [2, 3]], 4), ({"a": {"b": [1]}, "c": 2}, 4)])
def test_nested_entries_are_counted(value, count):
    assert count_nested_entries(value) == count


GRAPH = {"model": {"nodes": [{"name": "a", "op": "tanh"}]}, "finite_difference": {}}
JUDGE = {"plan": {"directions": {}, "bounds": {"directions": {}, "w": {}}, "point": {"w": {}}}}


@pytest.mark.parametrize(
    ("model", "body", "path", "expected"),
    [
        (CheckRequestSchema, GRAPH, (), CheckRequestSchema),
        (CheckRequestSchema, GRAPH, ("model", "nodes", 0), NODE_TYPES["tanh"]),
        (PlanRequest, {"directions": {}}, ("directions",), DirectionsSpec),
        (PlanRequest, {"bounds": {"w": {}}}, ("bounds", "w"), BoundsSpec),
        (JudgeRequest, JUDGE, ("plan",), Plan),
        (JudgeRequest, JUDGE, ("plan", "directions"), SealedDirections),
        (JudgeRequest, JUDGE, ("plan", "bounds", "directions"), BoundsSpec),
    ],
)
def test_the_fields_at_a_path_are_those_of_its_model(model, body, path, expected):
    assert find_known_fields(model, body, path) == expected.model_fields


@pytest.mark.parametrize("path", [("plan", "bounds"), ("plan", "point", "w")])
def test_undescribed_value_has_no_known_fields(path):
    assert find_known_fields(JudgeRequest, JUDGE, path) == {}
