import copy
import json

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from service.app import create_app
from service.http.middleware.concurrency import get_compute_limiter
from service.numerics.ops import OP_REGISTRY
from service.settings import Settings

CLIENT = create_app().test_client()


@pytest.fixture(scope="module")
def document():
    return CLIENT.get("/openapi.json").json


def make_validator(document, reference):
    schema = {"$ref": reference, "components": document["components"]}
    return Draft202012Validator(schema)


def get_schema(document, path, method, status="200"):
    content = document["paths"][path][method]["responses"][status]["content"]
    media_type, body = next(iter(content.items()))
    return media_type, {**body["schema"], "components": document["components"]}


def test_document_is_valid_and_lists_every_route(document):
    validate(document)
    # The files that the pages are made of are no part of the interface.
    paths = {path.replace("{", "<").replace("}", ">") for path in document["paths"]}
    assert {*paths, "/page/<path:name>"} == {rule.rule for rule in create_app().url_map.iter_rules()}
    broken = copy.deepcopy(document)
    del broken["info"]
    with pytest.raises(Exception, match="info"):
        validate(broken)


def test_a_real_report_is_as_described(document, example):
    media_type, schema = get_schema(document, "/v1/check", "post")
    report = CLIENT.post(
        "/v1/check", json=example | {"include": ["intermediates"], "candidate": {"w2": ["NaN", 1, 2, 3]}}
    ).json
    Draft202012Validator(schema).validate(report)
    assert media_type == "application/json"
    for field in report:
        assert not Draft202012Validator(schema).is_valid({key: value for key, value in report.items() if key != field})


def test_the_forms_of_an_answer_are_listed(document):
    forms = {
        path: set(document["paths"][path]["post"]["responses"]["200"]["content"]) for path in ("/v1/check", "/v1/curve")
    }
    assert forms == {
        "/v1/check": {
            "application/json", "text/plain", "text/markdown", "application/x-ndjson", "application/vnd.safetensors"
        },
        "/v1/curve": {"application/json"},
    }  # fmt: skip
    for form in forms["/v1/check"]:
        assert CLIENT.post("/v1/check", json={}, headers={"Accept": form}).status_code == 422
    content = document["paths"]["/v1/check"]["post"]["responses"]["200"]["content"]
    assert content["text/plain"]["schema"]["type"] == "string"
    assert content["application/vnd.safetensors"]["schema"]["format"] == "binary"
    assert "contentSchema" not in content["text/plain"]["schema"]


@pytest.mark.parametrize("path", ["/v1/check", "/v1/curve"])
def test_the_forms_of_a_body_are_listed(document, path):
    content = document["paths"][path]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "application/vnd.safetensors"}
    assert CLIENT.post(path, data=b"", content_type="application/vnd.safetensors").status_code == 400
    assert CLIENT.post(path, data=b"", content_type="application/octet-stream").status_code == 415


def test_a_real_line_is_as_described(document, example):
    content = document["paths"]["/v1/check"]["post"]["responses"]["200"]["content"]
    schema = {**content["application/x-ndjson"]["schema"]["contentSchema"], "components": document["components"]}
    lines = CLIENT.post("/v1/check", json=example, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    problem = {"event": "problem", "problem": CLIENT.post("/v1/check", json={}).json}
    for line in (*map(json.loads, lines), problem):
        Draft202012Validator(schema).validate(line)
        for field in line:
            assert not Draft202012Validator(schema).is_valid(
                {key: value for key, value in line.items() if key != field}
            )


def test_a_real_curve_is_as_described(document, example):
    _, schema = get_schema(document, "/v1/curve", "post")
    curve = CLIENT.post("/v1/curve", json=example | {"element": {"name": "w1", "index": [0, 1]}}).json
    Draft202012Validator(schema).validate(curve)
    for field in curve:
        without = {key: value for key, value in curve.items() if key != field}
        assert Draft202012Validator(schema).is_valid(without) is (field == "complex_step")


@pytest.mark.parametrize("path", ["/v1/check", "/v1/curve"])
def test_a_real_problem_is_as_described(document, path):
    for status, body in (("422", {}), ("415", None)):
        media_type, schema = get_schema(document, path, "post", status)
        response = CLIENT.post(path, json=body) if body is not None else CLIENT.post(path)
        assert (response.status_code, response.mimetype) == (int(status), media_type)
        Draft202012Validator(schema).validate(response.json)


def test_document_lists_the_guards_of_an_operation(document, example):
    scheme = document["components"]["securitySchemes"]["key"]
    assert scheme == {"type": "http", "scheme": "bearer"}
    assert document["security"] == [{}, {"key": []}], "keys may be asked for, and need not be"
    for path, methods in document["paths"].items():
        for operation in methods.values():
            is_open = "/health/" in path or path in ("/", "/docs")
            assert ("401" in operation["responses"]) is not is_open
            assert ("security" in operation) is is_open
            assert ({"408", "503"} <= set(operation["responses"])) is ("requestBody" in operation)
    full = create_app(Settings(max_checks=1, max_small_checks=0, max_queued=0))
    with get_compute_limiter(full).acquire():
        refused = full.test_client().post("/v1/check", json=example)
    for status, response in (("503", refused), ("401", create_app(Settings(keys="a")).test_client().post("/v1/check"))):
        media_type, schema = get_schema(document, "/v1/check", "post", status)
        assert (response.status_code, response.mimetype) == (int(status), media_type)
        Draft202012Validator(schema).validate(response.json)


def test_an_answer_that_is_text_is_described_as_text(document):
    content = document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert content == {"text/plain": {"schema": {"type": "string"}}}
    assert CLIENT.get("/metrics").mimetype == "text/plain"


@pytest.mark.parametrize("path", ["/v1/ops", "/v1/models", "/v1/bugs", "/health/live", "/health/ready"])
def test_answers_match_the_document(document, path):
    Draft202012Validator(get_schema(document, path, "get")[1]).validate(CLIENT.get(path).json)


@pytest.mark.parametrize("path", ["/v1/check", "/v1/curve"])
def test_the_request_is_described_op_by_op_with_examples(document, path):
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    accepts = Draft202012Validator({**body["schema"], "components": document["components"]})
    for example in body["examples"].values():
        accepts.validate(example["value"])
    assert body["examples"]
    assert set(OP_REGISTRY) <= set(document["components"]["schemas"])
    assert not accepts.is_valid({"tensors": {}, "weights": {}, "model": {"nodes": [{"name": "a", "op": "tan"}]}})
    assert "[" not in "".join(document["components"]["schemas"])


def test_planted_bugs_are_as_described(document, example):
    schema = get_schema(document, "/v1/bugs", "post")[1]
    for body in (example, example | {"bug": "sign_flipped"}):
        Draft202012Validator(schema).validate(CLIENT.post("/v1/bugs", json=body).json)
