"""The page and its files; tests/browser/ uses it."""

import re

import pytest

from service.app import create_app
from service.http.response.security_headers import PAGE_POLICY
from service.http.routes.pages import _FILE_CONTENTS, _PAGE_DIRECTORY
from service.settings import Settings

CLIENT = create_app().test_client()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_are_html_with_their_security_policy_and_revalidated(path):
    answer = CLIENT.get(path)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
    assert answer.headers["Cache-Control"] == "no-cache"
    again = CLIENT.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "Content-Security-Policy" not in again.headers, "it would replace the policy of the page that is kept"
    assert again.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", sorted(_FILE_CONTENTS))
def test_every_file_is_served_with_its_type(name):
    answer = CLIENT.get(f"/page/{name}")
    assert (answer.status_code, answer.data) == (200, (_PAGE_DIRECTORY / name).read_bytes())
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    assert answer.mimetype == kinds.get((_PAGE_DIRECTORY / name).suffix, "text/plain")


@pytest.mark.parametrize(
    "name", ["nothing.js", "../settings.py", "..%2Fsettings.py", "%2e%2e/settings.py", "/etc/passwd"]
)
def test_anything_else_is_refused(name):
    answer = CLIENT.get(f"/page/{name}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_page_needs_no_key_where_the_interface_does():
    client = create_app(Settings(keys="a")).test_client()
    assert {client.get(path).status_code for path in ("/", "/docs", "/page/main.js")} == {200}
    assert client.get("/v1/models").status_code == 401


def test_references_of_files_are_local_and_exist():
    """Scripts, styles and modules: each by a path of the service, none from elsewhere."""
    for name, raw in _FILE_CONTENTS.items():
        if name.startswith("vendor/") or not name.endswith((".html", ".js", ".css")):
            continue
        text = raw.decode()
        for path in re.findall(r'(?:src|href)="(/page/[^"]+)"', text):
            assert path.removeprefix("/page/") in _FILE_CONTENTS
        for module in re.findall(r'from "\./([^"]+)"', text):
            assert module in _FILE_CONTENTS
        assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}
