"""`POST /v1/curve` over HTTP: the V, every kind of bad element with its place, and never a 500."""

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.numerics.model.presets import PRESETS
from service.settings import Settings
from tests.service.http.routes.test_check import FIELD, FIELDS, JSON, TENSORS, collect_errors

CLIENT = create_app().test_client()
ELEMENT = {"name": "w1", "index": [0, 0]}
G = -0.1342557202950444
"""dL/dw1[0, 0] of the reference example."""


def post_curve(body: Any, **headers: str) -> Any:
    return CLIENT.post("/v1/curve", json=body, headers=headers)


def test_a_curve_is_answered_as_json(example):
    response = post_curve(example | {"element": ELEMENT})
    assert (response.status_code, response.mimetype) == (200, "application/json")
    answer = response.json
    assert set(answer) == {"analytic", "steps", "forward", "central", "complex_step", "engine"}
    assert set(answer["engine"]) == {"value", "error_bound", "step"}
    assert answer["analytic"] == pytest.approx(G, rel=1e-15)
    assert answer["steps"] == sorted(answer["steps"])
    assert (answer["steps"][0], answer["steps"][-1]) == (1e-16, 1)
    ratios = [math.log10(b / a) for a, b in zip(answer["steps"], answer["steps"][1:], strict=False)]
    assert ratios == pytest.approx([0.25] * 64)


def test_curve_falls_and_rises(example):
    answer = post_curve(example | {"element": ELEMENT}).json
    errors = {step: abs(value - G) for step, value in zip(answer["steps"], answer["central"], strict=True)}
    assert errors[1e-2] / errors[1e-3] == pytest.approx(100, rel=1e-2)
    assert errors[1e-3] / errors[1e-4] == pytest.approx(100, rel=1e-2)
    assert min(errors.values()) < 1e-10
    assert errors[1e-15] > 1e-2
    within = [value for step, value in zip(answer["steps"], answer["complex_step"], strict=True) if step <= 1e-9]
    assert within == pytest.approx([G] * len(within), rel=1e-15)


RELU = {
    "tensors": {"x": [[0.5, -1.0], [2.0, 0.25]]},
    "weights": {"w": [1.5, -0.5], "s": 2.0},
    "model": {
        "nodes": [
            {"name": "scaled", "op": "mul", "inputs": ["x", "w"]},
            {"name": "active", "op": "relu", "inputs": ["scaled"]},
            {"name": "again", "op": "mul", "inputs": ["active", "s"]},
            {"name": "loss", "op": "sum", "inputs": ["again"]},
        ]
    },
}


def test_the_complex_step_is_absent_where_an_op_of_pieces_is_on_the_way():
    assert "complex_step" not in post_curve(RELU | {"element": {"name": "w", "index": [1]}}).json
    assert "complex_step" in post_curve(RELU | {"element": {"name": "active", "index": [1, 1]}}).json


def test_a_number_has_one_element_and_no_index():
    answer = post_curve(RELU | {"element": {"name": "s", "index": []}}).json
    assert answer["analytic"] == 4.25
    assert answer["complex_step"] == pytest.approx([4.25] * 65, rel=1e-15)


def test_nonfinite_numbers_are_strings():
    body = {
        "tensors": {"x": [0.0, 2.0]},
        "weights": {},
        "model": {
            "nodes": [
                {"name": "roots", "op": "sqrt", "inputs": ["x"]},
                {"name": "loss", "op": "sum", "inputs": ["roots"]},
            ]
        },
        "element": {"name": "x", "index": [0]},
    }
    answer = post_curve(body).json
    assert answer["analytic"] == "Infinity"
    assert set(answer["central"]) == {"NaN"}
    assert answer["forward"][-1] == pytest.approx(1, rel=1e-14)
    assert answer["engine"] == {"value": "NaN", "error_bound": "Infinity", "step": "NaN"}


ELEMENTS = {
    "no element": (..., {"/element": 'is missing; for example {"name": "w1", "index": [0, 1]}'}),
    "null": (None, {"/element": "must be an object"}),
    "a list": ([0, 1], {"/element": "must be an object"}),
    "no name": ({"index": [0, 0]}, {"/element/name": 'is missing; for example "w1"'}),
    "no index": ({"name": "w1"}, {"/element/index": "is missing; for example [0, 1]"}),
    "unknown field": (ELEMENT | {"tile": 0}, {"/element/tile": "unknown field 'tile'; known here: name, index"}),
    "an index that is a number": ({"name": "w1", "index": 0}, {"/element/index": "must be a list"}),
    "an index of fractions": ({"name": "w1", "index": [0.5, 0]}, {"/element/index/0": "must be an integer"}),
    "an index of truths": ({"name": "w1", "index": [True, 0]}, {"/element/index/0": "must be an integer"}),
    "a huge index": ({"name": "w1", "index": [2**63, 0]}, {"/element/index/0": "less than or equal to"}),
    "a longer index": ({"name": "w1", "index": [0] * 40}, {"/element/index": "must have at most 32 items"}),
    "another rank": ({"name": "w1", "index": [0]}, {"/element/index": "one for each axis is needed, such as [0, 0]"}),
    "out of range": (
        {"name": "w1", "index": [2, -3]},
        {"/element/index/0": "2 is out of range on axis 0", "/element/index/1": "-3 is out of range on axis 1"},
    ),
    "unknown name": ({"name": "w", "index": []}, {"/element/name": "there are: 'x', 'y', 'w1', 'w2', 'C1'"}),
    "the loss": ({"name": "loss", "index": []}, {"/element/name": "this is the loss"}),
}  # fmt: skip


@pytest.mark.parametrize(("element", "expected"), ELEMENTS.values(), ids=ELEMENTS)
def test_bad_element_is_reported_at_its_place(change_example, element, expected):
    errors = collect_errors(post_curve(change_example(element=element)))
    assert set(errors) == set(expected)
    for place, words in expected.items():
        assert words in errors[place]


OF_A_CHECK = {name: fields for name, fields in FIELDS.items() if name != "nothing to judge"}


@pytest.mark.parametrize(("fields", "place", "words"), OF_A_CHECK.values(), ids=OF_A_CHECK)
def test_bad_field_is_reported_as_by_a_check(change_example, fields, place, words):
    errors = collect_errors(post_curve(change_example(**fields, element=ELEMENT)))
    assert list(errors) == [place]
    assert words in errors[place]


@pytest.mark.parametrize(("tensor", "words"), TENSORS.values(), ids=TENSORS)
def test_a_bad_tensor_is_one_error_at_the_tensor(change_example, tensor, words):
    body = change_example(element=ELEMENT)
    body["weights"] = body["weights"] | {"w2": tensor}
    errors = collect_errors(post_curve(body))
    assert list(errors) == ["/weights/w2"]
    assert words in errors["/weights/w2"]


def test_curve_needs_no_candidate(example):
    assert post_curve(example | {"with_respect_to": [], "element": ELEMENT}).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"data": "", "content_type": "application/json"}, 400),
        ({"data": "{", "content_type": "application/json"}, 400),
        ({"data": "{}", "content_type": "text/plain"}, 415),
        ({"json": {}, "headers": {"Accept": "text/html"}}, 406),
        ({"json": {}}, 422),
    ],
)
def test_curve_reports_other_problems_as_a_check(arguments, status):
    response = CLIENT.post("/v1/curve", **arguments)
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert CLIENT.get("/v1/curve").status_code == 405


def test_the_settings_are_its_limits(example):
    client = create_app(Settings(max_work=10**6)).test_client()
    errors = collect_errors(client.post("/v1/curve", json=example | {"element": ELEMENT}))
    assert "the limit is 1.0e+06" in errors["/model"]


def test_the_examples_can_be_posted():
    body = CLIENT.get("/openapi.json").json["paths"]["/v1/curve"]["post"]["requestBody"]
    examples = body["content"]["application/json"]["examples"]
    assert set(examples) == set(PRESETS)
    for example in examples.values():
        assert post_curve(example["value"]).status_code == 200


@settings(
    max_examples=settings.default.max_examples * 3 // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    element=JSON
    | st.fixed_dictionaries(
        {
            "name": st.sampled_from(["x", "y", "w1", "w2", "L1", "loss"]),
            "index": st.lists(st.integers(-4, 4), max_size=3),
        }
    )
)
def test_no_element_crashes_the_curve(example, element):
    body = json.dumps(example | {"element": element})
    response = CLIENT.post("/v1/curve", data=body, content_type="application/json")
    assert response.status_code in (200, 400, 422), response.text


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=FIELD, value=JSON)
def test_no_value_of_a_field_breaks_a_curve(example, field, value):
    body = json.dumps(example | {"element": ELEMENT} | {field: value})
    response = CLIENT.post("/v1/curve", data=body, content_type="application/json")
    assert response.status_code in (200, 400, 422), response.text
