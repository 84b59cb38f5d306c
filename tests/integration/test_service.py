"""The service as its users meet it: HTTP, to a real gunicorn."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from openapi_spec_validator import validate

from tests.integration.conftest import PATIENCE, Server
from tests.tensor_bodies import encode_request, read_body

CORRECT = {"w1": [[-0.1342557202950444, -0.18325792430503762], [-0.2812623323250241, -0.3302645363350174]]}


def test_reference_example_has_its_known_numbers(client: httpx.Client, example: dict[str, Any]) -> None:
    response = client.post("/v1/check", json=example)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    report = response.json()
    assert report["outcome"] == "pass"
    assert report["loss"] == {"analytic": 2.3767862745225306, "autograd": 2.3767862745225306}
    assert report["gradients"]["w1"]["analytic"][0][0] == pytest.approx(-0.1342557202950444, rel=1e-15)


def test_a_planted_bug_is_named_by_its_index(client: httpx.Client, example: dict[str, Any]) -> None:
    wrong = [[*row] for row in CORRECT["w1"]]
    wrong[1][0] += 1e-4
    for candidate, outcome in ((CORRECT["w1"], "pass"), (wrong, "fail")):
        verdict = client.post("/v1/check", json=example | {"candidate": {"w1": candidate}}).json()["verdicts"]["w1"]
        assert verdict["outcome"] == outcome
    assert verdict["worst"][0]["index"] == [1, 0]
    assert verdict["elements"] == {
        "total": 4,
        "pass": 3,
        "negligible": 0,
        "fail": 1,
        "inconclusive": 0,
        "not_examined": 0,
    }


def test_the_same_request_has_the_same_answer_in_every_worker(
    start_server: Callable[..., Server], example: dict[str, Any]
) -> None:
    server = start_server(WEB_CONCURRENCY="2")

    def fetch_report(_: int) -> str:
        report = httpx.post(f"{server.url}/v1/check", json=example, timeout=PATIENCE).json()
        del report["cost"]["seconds"], report["cost"]["stages"]
        return json.dumps(report)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(fetch_report, range(32)))) == 1


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"])
def test_health_routes_answer(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_interface_describes_itself(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert {op["name"] for op in client.get("/v1/ops").json()["ops"]} >= {"conv2d", "half_squared_error"}
    for model in client.get("/v1/models").json()["models"]:
        assert client.post("/v1/check", json=model["request"]).json()["outcome"] == "pass"


BAD = [
    ("not JSON", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
    ("another content type", {"content": b"{}", "headers": {"Content-Type": "text/csv"}}, 415),
    ("a content encoding", {"json": {}, "headers": {"Content-Encoding": "gzip"}}, 415),
    ("an answer that is not served", {"json": {}, "headers": {"Accept": "image/png"}}, 406),
    ("an empty object", {"json": {}}, 422),
]


@pytest.mark.parametrize(("request_of", "status"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_a_problem_document(client: httpx.Client, request_of: dict[str, Any], status: int) -> None:
    response = client.post("/v1/check", **request_of)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in response.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/check", 405)])
def test_unknown_paths_and_methods_are_problem_documents(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")


@pytest.fixture(scope="module")
def strict_server(start_server: Callable[..., Server]) -> Server:
    """A service that takes little, and gives no time."""
    return start_server(
        GRADCHECKD_MAX_BODY_BYTES="1000", GRADCHECKD_MAX_BINARY_BYTES="2000", GRADCHECKD_MAX_SECONDS="0.000001"
    )


def test_a_body_too_large_is_refused_announced_or_not(strict_server: Server) -> None:
    headers = {"Content-Type": "application/json"}

    def send_chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 100

    for content in (b" " * 3000, send_chunks()):
        response = httpx.post(f"{strict_server.url}/v1/check", content=content, headers=headers, timeout=PATIENCE)
        assert response.status_code == 413
        assert "1000 bytes" in response.json()["detail"]
    small = httpx.post(f"{strict_server.url}/v1/check", content=iter([b"{", b"}"]), headers=headers, timeout=PATIENCE)
    assert small.status_code == 422


def test_client_that_is_still_sending_gets_the_refusal(strict_server: Server) -> None:
    """A connection that is closed while there is something to read is reset, and the answer lost."""
    head = b"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    piece = bytes(2**18)
    with socket.create_connection(("127.0.0.1", strict_server.port), timeout=PATIENCE) as connection:
        connection.sendall(head % 2**30)
        for _ in range(40):
            connection.sendall(piece)
            time.sleep(0.02)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413")


def test_a_binary_body_has_a_limit_of_its_own_announced_or_not(strict_server: Server) -> None:
    for size, status in ((1500, 400), (3000, 413)):
        for content in (bytes(size), iter([bytes(100)] * (size // 100))):
            response = httpx.post(
                f"{strict_server.url}/v1/check",
                content=content,
                headers={"Content-Type": "application/vnd.safetensors"},
                timeout=PATIENCE,
            )
            assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")
            assert ("2000 bytes" in response.json()["detail"]) is (status == 413)


def test_tensors_are_exchanged_as_bytes(client: httpx.Client, example: dict[str, Any]) -> None:
    headers = dict.fromkeys(("Content-Type", "Accept"), "application/vnd.safetensors")
    answer = client.post("/v1/check", content=encode_request(example), headers=headers)
    entries, metadata = read_body(answer.content)
    assert json.loads(metadata["report"])["outcome"] == "pass"
    by_w1 = client.post("/v1/check", json=example).json()["gradients"]["w1"]["analytic"]
    assert np.frombuffer(entries["gradients/w1/analytic"][2]).reshape(2, 2).tolist() == by_w1


def test_a_check_over_time_is_stopped(strict_server: Server, example: dict[str, Any]) -> None:
    response = httpx.post(f"{strict_server.url}/v1/check", json=example, timeout=PATIENCE)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/with_respect_to"
    assert "out of time" in response.json()["detail"]


def test_sigterm_lets_a_request_finish(start_server: Callable[..., Server], example: dict[str, Any]) -> None:
    server = start_server()
    body = json.dumps(example).encode()
    head = (
        f"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(head + body[:10])
        time.sleep(0.5)
        server.process.terminate()
        time.sleep(0.5)
        connection.sendall(body[10:])
        answer = b"".join(iter(lambda: connection.recv(2**16), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert server.process.wait(timeout=PATIENCE) == 0
