import pytest

from service.app import create_app
from service.settings import Settings

EXPECTED = {
    "/", "/docs", "/page/<path:name>",
    "/v1/check", "/v1/curve", "/v1/bugs", "/v1/plan", "/v1/judge", "/v1/import",
    "/v1/jobs", "/v1/jobs/<job_id>", "/v1/jobs/<job_id>/result",
    "/v1/ops", "/v1/models", "/openapi.json", "/metrics",
    "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready",
}  # fmt: skip


def test_app_has_only_the_documented_routes():
    app = create_app()
    assert {rule.rule for rule in app.url_map.iter_rules()} == EXPECTED


def test_settings_are_those_given_or_of_the_environment(monkeypatch, example):
    body = {"json": example}
    assert create_app(Settings(max_names=1)).test_client().post("/v1/check", **body).status_code == 422
    assert create_app().test_client().post("/v1/check", **body).status_code == 200
    monkeypatch.setenv("GRADCHECKD_MAX_NAMES", "1")
    assert create_app().test_client().post("/v1/check", **body).status_code == 422


@pytest.mark.parametrize("path", ["/v1/check/", "//v1/check", "/V1/check"])
def test_an_address_has_one_spelling(path):
    assert create_app().test_client().get(path).status_code in (308, 404)


@pytest.mark.parametrize(
    ("path", "methods"), [("/v1/check", {"OPTIONS", "POST"}), ("/v1/ops", {"OPTIONS", "GET", "HEAD"})]
)
def test_options_request_is_answered_without_a_page(path, methods):
    response = create_app().test_client().options(path)
    assert (response.status_code, response.data) == (204, b"")
    assert set(response.headers["Allow"].split(", ")) == methods
    assert "Content-Type" not in response.headers
