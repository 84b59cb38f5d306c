import pytest

from service.app import create_app
from service.http.middleware.cors import parse_origins
from service.settings import Settings

ORIGIN = "https://lab.example.org:8443"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


def make_client(allowed=ORIGIN, **settings):
    return create_app(Settings(allowed_origins=allowed, **settings)).test_client()


def list_cors_headers(response):
    return {name: value for name, value in response.headers if name.startswith("Access-Control")}


@pytest.mark.parametrize("allowed", ["", "https://other.example.org"])
def test_no_page_of_another_origin_is_allowed_by_itself(allowed):
    for response in (
        make_client(allowed).get("/v1/ops", headers={"Origin": ORIGIN}),
        make_client(allowed).options("/v1/check", headers=PREFLIGHT | {"Origin": ORIGIN}),
    ):
        assert list_cors_headers(response) == {}
        assert ("Origin" in response.vary) is bool(allowed), "what depends on the origin says so"


@pytest.mark.parametrize("allowed", [ORIGIN, f"https://other.example.org, {ORIGIN}", "*"])
def test_a_page_of_an_allowed_origin_reads_answers_and_errors(allowed):
    for path, status in (("/v1/ops", 200), ("/nowhere", 404)):
        response = make_client(allowed).get(path, headers={"Origin": ORIGIN})
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
        assert "Origin" in response.vary


def test_requests_without_origin_are_answered_as_ever():
    response = make_client("*").get("/v1/ops")
    assert (response.status_code, list_cors_headers(response)) == (200, {})


def test_a_preflight_is_answered_without_a_key():
    response = make_client(keys="key").options("/v1/check", headers=PREFLIGHT | {"Origin": ORIGIN})
    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "Content-Type"} <= set(response.headers["Access-Control-Allow-Headers"].split(", "))
    for header in ("Origin", "Access-Control-Request-Method"):
        without = {name: value for name, value in (PREFLIGHT | {"Origin": ORIGIN}).items() if name != header}
        assert make_client(keys="key").options("/v1/check", headers=without).status_code == 401


@pytest.mark.parametrize("wrong", ["lab.example.org", "https://lab.example.org/", "ftp://a", "https://a b", "null"])
def test_invalid_origin_setting_is_refused_at_the_start(wrong):
    with pytest.raises(ValueError, match="is not an origin, such as"):
        create_app(Settings(allowed_origins=f"{ORIGIN},{wrong}"))


def test_allowed_origins_are_parsed_as_browsers_send_them():
    assert parse_origins(Settings(allowed_origins="http://localhost:3000, http://[::1]:8000,https://a.b")) == {
        "http://localhost:3000", "http://[::1]:8000", "https://a.b"
    }  # fmt: skip
