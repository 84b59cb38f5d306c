"""What is held of every answer, whatever was asked: it is one that the OpenAPI document lists, and never a page."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from schemas.problem_details import MEDIA_TYPE
from service.app import create_app
from service.settings import Settings

# Small, so that a request that happens to be valid takes no longer than one that is not.
QUICK_SETTINGS = Settings(max_seconds=0.5, max_elements=20_000, max_work=10**8)

Document = dict[str, Any]


class CountingApplication:
    """An application that counts what it answers, by status."""

    def __init__(self) -> None:
        self.app = create_app(QUICK_SETTINGS)
        self.document: Document = self.app.test_client().get("/openapi.json").json or {}
        self.statuses: Counter[int] = Counter()
        self.app.wsgi_app = self._wrap_application(self.app)  # type: ignore[method-assign]

    def _wrap_application(self, app: Flask) -> Any:
        inner = app.wsgi_app

        def call_counted(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            def start_counted_response(status: str, *rest: Any) -> Any:
                self.statuses[int(status[:3])] += 1
                return start_response(status, *rest)

            return inner(environ, start_counted_response)

        return call_counted


def check_response(document: Document, response: TestResponse) -> None:
    """Fail unless the answer is as the document has it."""
    status, form = response.status_code, response.mimetype
    assert status != 500, response.text
    described = document["paths"].get(response.request.path, {}).get(response.request.method.lower())
    if described is None:
        # Another method, another address, or a page for people.
        assert status in {200, 204, 400, 404, 405}, (status, response.request.path)
    else:
        assert form in described["responses"][str(status)]["content"], (status, form)
    if status >= 400:
        _check_problem(response)


def _check_problem(response: TestResponse) -> None:
    assert response.mimetype == MEDIA_TYPE, response.mimetype
    # The answer to HEAD is that to GET, without its body.
    if response.request.method == "HEAD":
        return
    problem: dict[str, Any] = response.json or {}
    assert problem["status"] == response.status_code
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in response.text
