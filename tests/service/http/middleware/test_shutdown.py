import pytest

from service.app import create_app
from service.http.middleware.shutdown import is_shutting_down, request_shutdown


@pytest.fixture
def shutdown_requested():
    request_shutdown()
    yield
    request_shutdown(requested=False)


@pytest.mark.usefixtures("shutdown_requested")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/health/ready", 503),
        ("GET", "/v1/ops", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/v1/check", 503),
        ("POST", "/v1/curve", 503),
    ],
)
def test_while_stopping_no_new_work_is_taken(method, path, status):
    response = create_app().test_client().open(path, method=method)
    assert response.status_code == status
    if status == 503:
        assert response.mimetype == "application/problem+json"
        assert response.headers["Retry-After"] == "1"
        assert "is stopping" in response.json["detail"]


def test_service_is_ready_before_shutdown(example):
    assert not is_shutting_down()
    client = create_app().test_client()
    assert client.get("/health/ready").status_code == 200
    assert client.post("/v1/check", json=example).status_code == 200
