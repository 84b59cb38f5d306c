"""`POST /v1/import` answers with a request that `POST /v1/check` takes, in both forms."""

import pytest

from service.app import create_app
from service.settings import Settings
from tests.service.checks.importing.onnx_files import FLOAT, make_classifier, make_file, node

PATH, ONNX, SAFETENSORS = "/v1/import", "application/onnx", "application/vnd.safetensors"


@pytest.fixture(scope="module")
def client():
    return create_app(Settings()).test_client()


def post(client, content, accept="application/json", query=""):
    return client.post(PATH + query, data=content, content_type=ONNX, headers={"Accept": accept})


def test_the_answer_is_a_request_that_passes_in_both_forms(client):
    outcomes = []
    for accept in ("application/json", SAFETENSORS):
        answer = post(client, make_classifier(), accept, "?seed=3")
        assert (answer.status_code, answer.mimetype) == (200, accept)
        assert answer.headers["Vary"] == "Accept"
        assert answer.headers["Gradcheckd-Note"] == (
            "the loss is the output 'loss'; the values of ids, labels are random, of seed 3"
        )
        report = client.post("/v1/check", data=answer.data, content_type=accept).json
        outcomes.append((report["outcome"], report["loss"]["analytic"]))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == "pass"


def test_errors_have_places_in_the_file(client):
    answer = post(client, make_file([node("Frobnicate", "x")], {"x": (FLOAT, [2])}))
    assert answer.status_code == 422
    assert answer.json["errors"] == [{"pointer": "/graph/node/0", "detail": "Frobnicate is no operator of ONNX"}]


@pytest.mark.parametrize(("query", "words"), [("?seed=x", "seed must be an integer"), ("?lss=y", "'loss'")])
def test_wrong_options_are_refused(client, query, words):
    answer = post(client, make_classifier(), query=query)
    assert answer.status_code == 422
    assert words in answer.json["detail"]


def test_other_bodies_and_answers_are_refused(client):
    assert client.post(PATH, json={}).status_code == 415
    assert post(client, make_classifier(), "text/html").status_code == 406
    assert client.get(PATH).status_code == 405


def test_the_size_of_a_body_is_that_of_binary_ones():
    client = create_app(Settings(max_binary_bytes=100)).test_client()
    assert post(client, make_classifier()).status_code == 413


def test_keys_protect_the_route():
    client = create_app(Settings(keys="secret-key")).test_client()
    assert post(client, make_classifier()).status_code == 401


def test_the_interface_describes_the_route(client):
    operation = client.get("/openapi.json").json["paths"][PATH]["post"]
    assert list(operation["requestBody"]["content"]) == [ONNX]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["loss", "seed"]
    assert set(operation["responses"]["200"]["content"]) == {"application/json", SAFETENSORS}
