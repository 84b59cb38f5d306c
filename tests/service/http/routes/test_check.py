"""`POST /v1/check` over HTTP: every kind of bad input, each with its place, and never a 500."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.rendering import render_markdown, render_text

CLIENT = create_app().test_client()


def post_check(body: Any) -> Any:
    return CLIENT.post("/v1/check", json=body)


def collect_errors(response: Any) -> dict[str, str]:
    assert response.status_code == 422, response.text
    assert response.mimetype == "application/problem+json"
    document = response.json
    assert {"type", "title", "status", "detail", "errors", "total_errors"} == set(document)
    return {error["pointer"]: error["detail"] for error in document["errors"]}


def test_a_check_is_answered_as_json(example):
    response = post_check(example)
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json["outcome"] == "pass"


def test_a_failed_gradient_is_a_successful_check(example):
    response = post_check(example | {"candidate": {"w2": [0, 0, 0, 0]}})
    assert (response.status_code, response.json["outcome"]) == (200, "fail")


X = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
Y = [-1, -1, 1, 1]

TENSORS = {
    "ragged": ([[1, 2], [3]], "ragged"),
    "ragged in depth": ([[1, 2], 3], "ragged"),
    "null": ([1, None], "null"),
    "nothing but null": (None, "null"),
    "a string": ([1, "2"], "a string among numbers: '2'"),
    "NaN": ([1, "NaN"], "not a finite number at index [1]"),
    "infinite": ("-Infinity", "not a finite number"),
    "a boolean": ([1, True], "true or false among numbers"),
    "booleans": ([True, False], "a mask is declared"),
    "empty": ([], "shape [0]"),
    "empty inside": ([[], []], "shape [2, 0]"),
    "an object inside": ([{}], "an object among numbers"),
    "deep": (json.loads("[" * 40 + "1" + "]" * 40), "nested deeper"),
    "a huge integer": ([10**400], "not a finite number at index [0]"),
    "a huger integer": ([1, 10**4000], "not a finite number at index [1]"),
    "no datatype": ({"shape": [1], "data": [1]}, "datatype is missing"),
    "no shape": ({"datatype": "FP64", "data": [1]}, "shape is missing"),
    "no data": ({"datatype": "FP64", "shape": [1]}, "either data or b64"),
    "both": ({"datatype": "FP64", "shape": [1], "data": [1], "b64": ""}, "either data or b64"),
    "unknown field": ({"datatype": "FP64", "shape": [1], "data": [1], "strides": 1}, "unknown field 'strides'"),
    "unknown datatype": ({"datatype": "FP8", "shape": [1], "data": [1]}, "datatype must be one of"),
    "shape of another size": ({"datatype": "FP64", "shape": [2, 2], "data": [1]}, "shape [2, 2] does not fit"),
    "shape of nothing": ({"datatype": "FP64", "shape": [0], "data": []}, "shape [0]"),
    "negative shape": ({"datatype": "FP64", "shape": [-1], "data": [1]}, "shape must be"),
    "not base64": ({"datatype": "FP64", "shape": [1], "b64": "!"}, "not base64"),
    "too few bytes": ({"datatype": "FP64", "shape": [1], "b64": "AAAA"}, "takes 8 bytes; b64 holds 3"),
    "overflow": ({"datatype": "FP16", "shape": [1], "data": [1e6]}, "too large for FP16"),
    "fractions for integers": ({"datatype": "INT32", "shape": [1], "data": [1.5]}, "takes integers"),
    "numbers for booleans": ({"datatype": "BOOL", "shape": [1], "data": [2]}, "takes true and false"),
}  # fmt: skip


@pytest.mark.parametrize("where", ["tensors", "weights"])
@pytest.mark.parametrize(("tensor", "words"), TENSORS.values(), ids=TENSORS)
def test_a_bad_tensor_is_one_error_at_the_tensor(change_example, where, tensor, words):
    body = change_example()
    name = "y" if where == "tensors" else "w2"
    body[where] = body[where] | {name: tensor}
    errors = collect_errors(post_check(body))
    assert list(errors) == [f"/{where}/{name}"]
    assert words in errors[f"/{where}/{name}"]


def test_each_bad_tensor_has_its_error(change_example):
    errors = collect_errors(
        post_check(change_example(tensors={"x": [[1], 2], "y": None}, weights={"w1": "a", "w2": [[], 1]}))
    )
    assert set(errors) == {"/tensors/x", "/tensors/y", "/weights/w1", "/weights/w2"}


TANH = {"name": "n", "op": "tanh", "inputs": ["x"]}

FIELDS = {
    "no tensors": ({"tensors": ...}, "/tensors", "is missing"),
    "no weights": ({"weights": ...}, "/weights", "is missing"),
    "weights null": ({"weights": None}, "/weights", "must be an object"),
    "a list of tensors": ({"tensors": [1]}, "/tensors", "must be an object"),
    "unknown field": ({"candidates": {}}, "/candidates", "did you mean 'candidate'?"),
    "unknown dtype": ({"dtype": "int8"}, "/dtype", "'float64'"),
    "unknown candidate": ({"candidate": {"w3": 1}}, "/candidate/w3", "no tensor, weight or node 'w3'"),
    "bad candidate": ({"candidate": {"w1": [["x"]]}}, "/candidate/w1", "a string among numbers"),
    "empty candidate": ({"candidate": {"w1": []}}, "/candidate/w1", "empty; 'w1' has shape [2, 2]"),
    "unknown name": ({"with_respect_to": ["w1", "q"]}, "/with_respect_to/1", "'q'"),
    "nothing to judge": ({"with_respect_to": []}, "/with_respect_to", "nothing to judge"),
    "unknown model": ({"model": "nothing"}, "/model", "no preset is named"),
    "model null": ({"model": None}, "/model", "a list of nodes, or an object with nodes; null was given"),
    "model of another type": ({"model": 1}, "/model", "a list of nodes, or an object with nodes; 1 was given"),
    "model without a node": ({"model": []}, "/model", "must have at least 1 item"),
    "model without nodes": ({"model": {"nodes": []}}, "/model/nodes", "must have at least 1 item"),
    "unknown field of the model": ({"model": {"nodes": [TANH], "node": 1}}, "/model/node", "did you mean 'nodes'?"),
    "unknown field of a tolerance": ({"tolerance": {"tol": 1}}, "/tolerance/tol", "did you mean 'rtol'?"),
    "unknown field of the method": (
        {"finite_difference": {"h": 1}}, "/finite_difference/h", "unknown field 'h'; known here: method, step"
    ),
    "unknown part": ({"include": ["all"]}, "/include/0", "'gradients'"),
    "unknown encoding": ({"encoding": "hex"}, "/encoding", "'nested'"),
    "negative seed": ({"seed": -1}, "/seed", "greater than or equal to 0"),
    "seed of another type": ({"seed": "1"}, "/seed", "must be an integer"),
    "unknown method": ({"finite_difference": {"method": "best"}}, "/finite_difference/method", "'adaptive'"),
    "step of nothing": ({"finite_difference": {"method": "central", "step": 0}}, "/finite_difference/step", "greater"),
    "negative tolerance": ({"tolerance": {"rtol": -1}}, "/tolerance/rtol", "greater than or equal to 0"),
    "w2 too short": ({"weights": {"w1": [[1, 1], [1, 1]], "w2": [1, 2]}}, "/weights/w2", "of shape [2]"),
    "no y": ({"tensors": {"x": X}}, "/tensors/y", "'y'"),
    "one too many": ({"tensors": {"x": X, "y": Y, "z": 1}}, "/tensors/z", "does not reach the loss"),
    "slash and tilde": ({"tensors": {"x": X, "y": Y, "a/b~c": None}}, "/tensors/a~1b~0c", "null"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "place", "words"), FIELDS.values(), ids=FIELDS)
def test_bad_field_is_reported_at_its_place(change_example, fields, place, words):
    errors = collect_errors(post_check(change_example(**fields)))
    assert list(errors) == [place]
    assert words in errors[place]


@pytest.mark.parametrize("body", ["[]", "1", '"x"', "null", "true", "[[]]"])
def test_body_that_is_no_object_is_refused(body):
    assert (
        collect_errors(CLIENT.post("/v1/check", data=body, content_type="application/json"))[""] == "must be an object"
    )


def test_shapes_that_do_not_fit_are_both_named(change_example):
    (detail,) = collect_errors(post_check(change_example(weights={"w1": [[1, 1], [1, 1]], "w2": [1, 2, 3]}))).values()
    assert "'L2' (mul)" in detail
    assert "[4]" in detail
    assert "[3]" in detail


def test_problem_lists_a_hundred_errors_and_counts_all(change_example):
    document = post_check(change_example(tensors={f"t{number}": None for number in range(300)})).json
    assert (len(document["errors"]), document["total_errors"]) == (100, 300)
    assert document["detail"].startswith("300 places of the request are wrong")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200), ("*/*", 200), ("application/json", 200), ("application/*", 200),
        ("text/html, application/json;q=0.5", 200), ("text/html", 406), ("application/json;q=0", 406),
        ("nonsense", 406), ("application/json; charset=utf-8", 200), ("APPLICATION/JSON;charset=utf-8;q=0.5", 200),
        ("application/json;charset=utf-8;q=0", 406), ("text/html;charset=utf-8", 406), ("", 200), ("*/*;q=0", 406),
        ("application/json, text/plain, */*", 200), ("text/*;q=0.5, */*", 200), ("*/*, text/plain;q=0", 200),
        ("application/*, text/plain;q=0.9", 200), ("text/plain;q=0", 406), ("text/html, text/plain;q=0", 406),
    ],
)  # fmt: skip
def test_accept_header_chooses_the_form(example, accept, status):
    headers = {} if accept is None else {"Accept": accept}
    response = CLIENT.post("/v1/check", json=example, headers=headers)
    assert response.status_code == status
    assert response.mimetype == ("application/json" if status == 200 else "application/problem+json")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("text/plain", "text/plain"), ("text/markdown", "text/markdown"), ("TEXT/PLAIN", "text/plain"),
        ("text/plain; charset=utf-8", "text/plain"), ("text/markdown;variant=GFM", "text/markdown"),
        ("text/*", "text/plain"), ("text/*, text/plain;q=0.1", "text/markdown"), ("text/plain, */*", "text/plain"),
        ("text/plain;q=0.5, text/markdown;q=0.6", "text/markdown"), ("text/html, text/plain;q=0.1", "text/plain"),
        ("application/json;q=0.1, text/markdown;q=0.2", "text/markdown"), ("application/json;q=0, */*", "text/plain"),
        ("application/json;q=0.1, */*;q=0.5", "text/plain"), ("text/markdown, application/json;q=0.9", "text/markdown"),
    ],
)  # fmt: skip
def test_a_report_can_be_read(example, accept, form):
    response = CLIENT.post("/v1/check", json=example, headers={"Accept": accept})
    assert (response.status_code, response.headers["Content-Type"]) == (200, f"{form}; charset=utf-8")
    assert response.text.startswith(
        {"text/plain": "gradcheckd: pass\n", "text/markdown": "## gradcheckd: pass\n"}[form]
    )


def test_the_text_is_of_the_report_that_is_json(example):
    body = example | {"candidate": {"w2": [0, 0, 0, 0]}}
    report = post_check(body).json
    for form, written in (("text/plain", render_text), ("text/markdown", render_markdown)):
        answer = CLIENT.post("/v1/check", json=body, headers={"Accept": form}).text
        assert answer.split("loss evaluations")[0] == written(report).split("loss evaluations")[0]
        assert answer.split("loss evaluations")[0] != written(post_check(example).json).split("loss evaluations")[0]


def read_text(body, accept):
    response = CLIENT.post("/v1/check", json=body, headers={"Accept": accept})
    assert (response.status_code, response.mimetype) == (200, accept.partition(";")[0])
    return response.text


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_text_has_the_width_that_is_accepted(example, columns):
    body = example | {"candidate": {"w2": [0, 0, 0, 0]}}
    widths = [len(line) for line in read_text(body, f"text/plain; columns={columns}").splitlines()]
    assert columns - 15 < max(widths) <= columns
    lines = post_for_lines(body, f'application/x-ndjson; report="text/plain; columns={columns}"')
    assert max(map(len, lines[-1]["text"].splitlines())) == max(widths)


@pytest.mark.parametrize("columns", ["", "0", "-1", "x", "1e3", "9" * 50])
def test_a_width_that_is_none_is_not_heeded(example, columns):
    written = read_text(example, f"text/plain; columns={columns}")
    assert max(map(len, written.splitlines())) <= 100


@pytest.mark.parametrize("form", ["text/plain", "text/markdown"])
def test_details_are_included_on_request(example, form):
    assert "Discrepancies" not in read_text(example, form)
    assert "Discrepancies" in read_text(example, f"{form}; detail=full")
    written = read_text(example | {"include": ["gradients"]}, form)
    assert "Discrepancies" in written
    assert "Gradients" in written
    assert "Discrepancies" not in read_text(example | {"include": ["intermediates"]}, form)
    assert "Discrepancies" in post_for_lines(example, f'application/x-ndjson; report="{form}; detail=full"')[-1]["text"]


def post_for_lines(body, accept):
    text = CLIENT.post("/v1/check", json=body, headers={"Accept": accept}).text
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("accept", ["application/json", "text/plain", "text/markdown", "text/html"])
def test_vary_header_names_the_accept_header(example, accept):
    for body in (example, {}):
        assert CLIENT.post("/v1/check", json=body, headers={"Accept": accept}).headers["Vary"] == "Accept"


@pytest.mark.parametrize("accept", ["text/plain", "text/markdown"])
@pytest.mark.parametrize(("body", "status"), [(b"{}", 422), (b"{", 400), (b"", 400)])
def test_an_error_is_a_problem_whatever_is_accepted(accept, body, status):
    response = CLIENT.post("/v1/check", data=body, content_type="application/json", headers={"Accept": accept})
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert response.json["status"] == status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELD = st.sampled_from(
    ["tensors", "weights", "model", "with_respect_to", "candidate", "candidate_dtype", "dtype", "tolerance",
     "finite_difference", "include", "encoding", "seed"]
)  # fmt: skip


@settings(
    max_examples=settings.default.max_examples * 3 // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(field=FIELD, value=JSON)
def test_no_value_of_a_field_breaks_a_check(example, field, value):
    response = CLIENT.post("/v1/check", data=json.dumps(example | {field: value}), content_type="application/json")
    assert response.status_code in (200, 400, 422), response.text


NODE = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "loss"]), "op": st.sampled_from(["tanh", "mul", "flatten", "conv2d"])},
    optional={
        "inputs": st.lists(st.sampled_from(["x", "y", "w1", "w2", "a", "b"]) | st.floats() | JSON, max_size=3),
        "start_dim": st.integers(-3, 3) | JSON,
        "padding": st.integers() | JSON,
        "groups": st.integers() | JSON,
    },
)


@settings(
    max_examples=settings.default.max_examples * 3 // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(nodes=st.lists(NODE, max_size=4))
def test_no_graph_crashes_the_check(example, nodes):
    body = json.dumps(example | {"model": {"nodes": nodes}})
    response = CLIENT.post("/v1/check", data=body, content_type="application/json")
    assert response.status_code in (200, 400, 422), response.text


@settings(max_examples=settings.default.max_examples * 3 // 2, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_crash_the_parser(body):
    response = CLIENT.post("/v1/check", data=body, content_type="application/json")
    assert response.status_code in (400, 422), response.text
