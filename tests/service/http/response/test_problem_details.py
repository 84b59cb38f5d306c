import logging
import re

import pytest
from werkzeug.exceptions import ServiceUnavailable

from service.app import create_app


def make_failing_client(error):
    app = create_app()

    @app.get("/fails")
    def raise_error():
        raise error

    return app.test_client().get("/fails")


def test_internal_error_shows_only_an_identifier_that_is_logged(caplog):
    with caplog.at_level(logging.ERROR, logger="gradcheckd"):
        response = make_failing_client(RuntimeError("the secret of line 17"))
    assert (response.status_code, response.mimetype) == (500, "application/problem+json")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    (number,) = re.findall(r"[0-9a-f]{32}", response.json["detail"])
    assert number in caplog.text
    assert "the secret of line 17" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/x", 404),
        ("GET", "/v1//ops", 404),
        ("POST", "//v1/check", 404),
        ("GET", "/v1/check", 405),
        ("PUT", "/v1/ops", 405),
    ],
)
def test_unknown_routes_and_methods_are_problems(method, path, status):
    response = create_app().test_client().open(path, method=method)
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert response.json["status"] == status
    if status == 404:
        assert "GET /openapi.json" in response.json["detail"]
    if status == 405:
        assert "This address takes " in response.json["detail"]
        assert set(response.headers["Allow"].split(", ")) & {"POST", "GET"}


def test_headers_that_belong_to_an_error_are_kept():
    response = make_failing_client(ServiceUnavailable("full", retry_after=3))
    assert response.headers["Retry-After"] == "3"
    assert response.json["title"] == "Service Unavailable"


@pytest.fixture(scope="module")
def client_and_paths():
    """A client, and the paths that its service documents."""
    client = create_app().test_client()
    return client, client.get("/openapi.json").json["paths"]


@pytest.mark.parametrize("host", ["a..b", ".a", "a" * 70])
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/ops"), ("POST", "/v1/check"), ("GET", "/health/live")])
def test_a_host_that_is_none_is_a_problem_that_the_document_has(client_and_paths, method, path, host):
    client, paths = client_and_paths
    response = client.open(path, method=method, headers={"Host": host})
    assert (response.status_code, response.mimetype) == (400, "application/problem+json")
    assert response.json["detail"] == "The header Host does not name a host."
    assert "400" in paths[path][method.lower()]["responses"]
