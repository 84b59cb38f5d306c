"""A new kind of check costs one folder and one record: all that HTTP owes it follows from the record."""

import json
import logging
from functools import partial

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from safetensors.numpy import save

from service.app import create_app
from service.checks.common.deadline import Clock
from service.checks.kinds import CHECK_KINDS
from service.http.middleware.concurrency import get_compute_limiter, get_small_checks
from service.settings import Settings
from tests.service.checks.common.counting_clock import CountingClock
from tests.service.http.routes.squared_norm import SQUARED_NORM

PATH, BODY = "/v1/squared-norm", {"tensors": {"v": [3.0, 4.0]}, "claim": 25.0}
WRONG = BODY | {"claim": 24.0}


def make_client(**settings):
    return create_app(Settings(**settings), (*CHECK_KINDS, SQUARED_NORM)).test_client()


@pytest.fixture(scope="module")
def client():
    return make_client()


def test_unregistered_kind_has_no_route(client):
    assert client.post(PATH, json=BODY).status_code == 200
    assert create_app().test_client().post(PATH, json=BODY).status_code == 404


@pytest.mark.parametrize(("body", "outcome"), [(BODY, "pass"), (WRONG, "fail")])
def test_registered_kind_is_answered_in_json(client, body, outcome):
    response = client.post(PATH, json=body)
    assert (response.mimetype, response.json) == ("application/json", {"outcome": outcome, "squared_norm": 25.0})
    assert response.headers["Vary"] == "Accept"
    assert client.get(PATH).status_code == 405


def test_a_body_of_safetensors_is_the_same_request(client):
    body = save({"tensors/v": np.array([3.0, 4.0])}, {"request": '{"claim": 25.0}'})
    response = client.post(PATH, data=body, content_type="application/vnd.safetensors")
    assert response.json == client.post(PATH, json=BODY).json


INVALID = {
    "/claim": ({"tensors": {}}, "is missing; for example 25.0"),
    "/claims": (BODY | {"claims": 1}, "did you mean 'claim'?"),
    "/tensors/v": (BODY | {"tensors": {"v": [[1], 2]}}, "ragged"),
}


@pytest.mark.parametrize(("pointer", "body", "words"), [(at, *case) for at, case in INVALID.items()], ids=INVALID)
def test_errors_have_their_places(client, pointer, body, words):
    response = client.post(PATH, json=body)
    assert response.status_code == 422
    assert {error["pointer"] for error in response.json["errors"]} == {pointer}
    assert words in response.json["detail"]


@pytest.mark.no_cover
def test_registered_kind_is_documented_with_all_its_forms(client):
    document = client.get("/openapi.json").json
    validate(document)
    operation = document["paths"][PATH]["post"]
    assert operation["operationId"] == "post_squared_norm"
    assert operation["summary"] == SQUARED_NORM.summary
    assert set(operation["requestBody"]["content"]) == {"application/json", "application/vnd.safetensors"}
    answers = operation["responses"]["200"]["content"]
    assert set(answers) == {"application/json", "text/plain", "text/markdown", "application/x-ndjson"}
    assert {"400", "401", "406", "408", "413", "415", "422", "503"} <= set(operation["responses"])
    schema = {**answers["application/json"]["schema"], "components": document["components"]}
    Draft202012Validator(schema).validate(client.post(PATH, json=BODY).json)
    assert not Draft202012Validator(schema).is_valid({"outcome": "pass"})
    known = create_app().test_client().get("/openapi.json").json
    assert set(document["paths"]) - set(known["paths"]) == {PATH}


@pytest.mark.parametrize("example", SQUARED_NORM.build_examples().values())
def test_examples_of_a_registered_kind_can_be_posted(client, example):
    assert client.post(PATH, json=example["value"]).json["outcome"] == "pass"


def test_sizes_are_limited():
    response = make_client(max_body_bytes=20).post(PATH, json=BODY)
    assert response.status_code == 413
    response = make_client(max_names=1).post(PATH, json={"tensors": {"a": 1, "b": 2}, "claim": 5.0})
    assert (response.status_code, response.json["errors"][0]["pointer"]) == (422, "/tensors")
    assert make_client(max_names=2).post(PATH, json={"tensors": {"a": 1, "b": 2}, "claim": 5.0}).status_code == 200


def test_time_is_limited(monkeypatch):
    monkeypatch.setattr("service.http.middleware.compute_deadline.Clock", partial(Clock, now=CountingClock()))
    response = make_client(max_seconds=0.5).post(PATH, json={"tensors": dict.fromkeys("abcdefgh", 1), "claim": 8.0})
    assert response.status_code == 422
    assert "out of time" in response.json["detail"]


def test_places_are_limited_and_small_checks_have_their_own():
    client = make_client(max_checks=1, max_small_checks=1, max_queued=0)
    with get_compute_limiter(client.application).acquire():
        assert client.post(PATH, json=BODY).status_code == 200
        with get_small_checks(client.application).acquire():
            assert client.post(PATH, json=BODY).status_code == 503
    assert get_compute_limiter(client.application).in_use == 0


def test_a_key_is_required_where_there_are_keys():
    assert make_client(keys="a").post(PATH, json=BODY).status_code == 401


def test_log_line_of_a_registered_kind_has_its_facts(client, caplog):
    with caplog.at_level(logging.INFO, logger="gradcheckd"):
        response = client.post(PATH, json=WRONG)
    (line,) = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert (line["route"], line["status"], line["outcome"], line["evaluations"]) == (PATH, 200, "fail", 1)
    assert "squares;dur=250.000" in response.headers["Server-Timing"]


@pytest.mark.parametrize(("media_type", "title"), [("text/plain", "gradcheckd: fail"), ("text/markdown", "## gradche")])
def test_report_of_a_registered_kind_is_rendered(client, media_type, title):
    response = client.post(PATH, json=WRONG, headers={"Accept": media_type})
    assert response.mimetype == media_type
    assert response.text.startswith(title)
    assert "The squared norm is 25." in response.text


def test_progress_of_a_registered_kind_is_streamed(client):
    response = client.post(PATH, json=BODY, headers={"Accept": 'application/x-ndjson; report="text/plain"'})
    step, last = map(json.loads, response.text.splitlines())
    assert step == {"event": "progress", "done": 1, "total": 1, "tensor": "v"}
    assert last["report"] == client.post(PATH, json=BODY).json
    assert "The squared norm is 25." in last["text"]


def test_forms_without_a_writer_are_not_served(client):
    assert client.post(PATH, json=BODY, headers={"Accept": "application/vnd.safetensors"}).status_code == 406
