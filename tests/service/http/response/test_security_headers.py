import pytest
from flask import Response

from service.app import create_app
from service.http.response.security_headers import PAGE_POLICY


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/ops"), ("GET", "/nowhere"), ("POST", "/v1/check")])
def test_every_answer_has_the_security_headers(method, path):
    headers = create_app().test_client().open(path, method=method).headers
    expected = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    }
    assert {name: headers.get(name) for name in expected} == expected


def test_a_page_may_load_what_is_ours_alone_and_nothing_inline():
    app = create_app()
    app.add_url_rule("/page", view_func=lambda: Response("<p>", mimetype="text/html"))
    policy = app.test_client().get("/page").headers["Content-Security-Policy"]
    assert policy == PAGE_POLICY
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == directives["frame-ancestors"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert "unsafe" not in policy


def test_view_may_override_a_header():
    app = create_app()
    app.add_url_rule("/kept", view_func=lambda: Response("", headers={"Cache-Control": "max-age=60"}))
    assert app.test_client().get("/kept").headers["Cache-Control"] == "max-age=60"
