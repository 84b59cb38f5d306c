import logging

import pytest

from service.app import create_app
from service.http.routes import health


@pytest.fixture
def client():
    health._self_check_passed.clear()
    yield create_app().test_client()
    health._self_check_passed.clear()


@pytest.mark.parametrize("prefix", ["", "/v2"])
def test_service_is_live_and_ready(client, prefix):
    assert client.get(f"{prefix}/health/live").json == {"status": "live"}
    assert client.get(f"{prefix}/health/ready").json == {"status": "ready"}


def raise_error(*_):
    raise RuntimeError("no torch here")


@pytest.mark.parametrize("fault", [raise_error, lambda *_: {"outcome": "inconclusive"}], ids=["error", "outcome"])
def test_service_is_not_ready_until_the_reference_example_passes(client, monkeypatch, caplog, fault):
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, logger="gradcheckd"):
        patch.setattr("service.checks.graph.check.check", fault)
        response = client.get("/health/ready")
        assert (response.status_code, response.mimetype) == (503, "application/problem+json")
        assert "no torch" not in response.text
        assert "self-check" in caplog.text
        assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200, "it recovers"


def test_readiness_is_checked_once(client, monkeypatch):
    assert client.get("/health/ready").status_code == 200
    monkeypatch.setattr("service.checks.graph.check.check", raise_error)
    assert client.get("/health/ready").status_code == 200
