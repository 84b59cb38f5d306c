"""Answers without HTTP, held against those of the route."""

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from gradcheckd import wire
from gradcheckd.arrays import TypedTensor, to_tensor
from gradcheckd.connection import Connection
from gradcheckd.in_process import IN_PROCESS
from schemas.safetensors_body import SAFETENSORS
from service import direct_answers
from service.checks.kinds import CHECK_KINDS
from service.direct_answers import DirectAnswers
from service.http.body.request_body import JSON
from service.in_process import InProcessApplication, read_settings

EXAMPLES = {
    f"{kind.name}, {name}": (kind.path, json.dumps(example["value"]).encode())
    for kind in CHECK_KINDS
    if not kind.needs_torch
    for name, example in kind.build_examples().items()
}


@pytest.fixture(scope="module")
def application() -> InProcessApplication:
    return InProcessApplication()


@pytest.fixture(scope="module")
def direct() -> DirectAnswers:
    return DirectAnswers(read_settings({}))


def post(
    application: InProcessApplication, path: str, content: bytes, media_type: str, accept: str
) -> tuple[str, bytes]:
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "HTTP_ACCEPT": accept,
        "CONTENT_TYPE": media_type,
        "CONTENT_LENGTH": str(len(content)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(content),
        "wsgi.errors": None,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    pieces = application(environ, lambda status, _headers, *_: statuses.append(status), 60)
    return statuses[-1], b"".join(pieces)


def make_plan_body() -> bytes:
    point = {"x": to_tensor(np.linspace(0.5, 1.5, 6).reshape(2, 3), "x")}
    assert all(isinstance(tensor, TypedTensor) for tensor in point.values())
    body = wire.encode_body({"outputs": {"y": [3]}, "seed": 3}, {"point": point})
    assert body.media_type == SAFETENSORS
    return body.content


@pytest.mark.parametrize("accept", [JSON, SAFETENSORS])
@pytest.mark.parametrize("name", EXAMPLES)
def test_direct_answers_are_those_of_the_route(
    application: InProcessApplication, direct: DirectAnswers, name: str, accept: str
) -> None:
    path, content = EXAMPLES[name]
    answer = direct.answer(path, content, JSON, accept)
    assert answer
    assert post(application, path, content, JSON, accept) == ("200 OK", answer)


def test_direct_answers_to_bodies_of_bytes_are_those_of_the_route(
    application: InProcessApplication, direct: DirectAnswers
) -> None:
    content = make_plan_body()
    answer = direct.answer("/v1/plan", content, SAFETENSORS, SAFETENSORS)
    assert answer
    assert post(application, "/v1/plan", content, SAFETENSORS, SAFETENSORS) == ("200 OK", answer)


PLAN_PATH, PLAN_CONTENT = next(request for request in EXAMPLES.values() if request[0] == "/v1/plan")


@pytest.mark.parametrize(
    ("path", "content", "media_type", "accept"),
    [
        ("/v1/check", b"{}", JSON, JSON),
        ("/v1/nothing", b"{}", JSON, JSON),
        (PLAN_PATH, PLAN_CONTENT, "text/plain", JSON),
        (PLAN_PATH, PLAN_CONTENT, JSON, "text/markdown"),
        (PLAN_PATH, PLAN_CONTENT, JSON, f'{SAFETENSORS}; report="text/plain"'),
        (PLAN_PATH, PLAN_CONTENT + b" " * direct_answers.MAX_BODY_BYTES, JSON, JSON),
        (PLAN_PATH, PLAN_CONTENT[:-1], JSON, JSON),
        (PLAN_PATH, PLAN_CONTENT, SAFETENSORS, JSON),
        (PLAN_PATH, b'{"point": {"x": ["?"]}}', JSON, JSON),
    ],
)
def test_other_requests_go_to_the_route(
    direct: DirectAnswers, path: str, content: bytes, media_type: str, accept: str
) -> None:
    assert direct.answer(path, content, media_type, accept) is None


def test_limits_of_a_body_are_those_of_the_route() -> None:
    path, content = PLAN_PATH, PLAN_CONTENT
    for size, is_answered in ((len(content), True), (len(content) - 1, False)):
        limited = DirectAnswers(read_settings({"GRADCHECKD_MAX_BODY_BYTES": str(size)}))
        assert (limited.answer(path, content, JSON, JSON) is not None) == is_answered


def test_a_large_answer_goes_to_the_route(direct: DirectAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_plan_body()
    assert direct.answer("/v1/plan", content, SAFETENSORS, JSON)
    monkeypatch.setattr(direct_answers, "SMALL_ANSWER_BYTES", 100)
    assert direct.answer("/v1/plan", content, SAFETENSORS, JSON) is None


def test_a_client_in_the_process_takes_no_request_by_wsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(InProcessApplication, "__call__", lambda *arguments: calls.append(arguments))
    monkeypatch.delenv("GRADCHECKD_URL", raising=False)
    with Connection() as connection:
        assert connection.url == IN_PROCESS
        assert connection.post(PLAN_PATH, wire.Body(PLAN_CONTENT, JSON), SAFETENSORS)
    assert not calls
