"""A real headless Chromium at a real gunicorn, and eyes on what must not happen in it."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.external_programs import BROWSER
from tests.integration.conftest import Server, server, start_server

__all__ = ["server", "start_server"]

TIMEOUT_MILLISECONDS = 20_000
"""Milliseconds that the page has for anything: the machine may be busy with other tests."""
expect.set_options(timeout=TIMEOUT_MILLISECONDS)

FAILURE_DIRECTORY = Path(__file__).parent / "failures"


class PageMonitor:
    """What went wrong behind the page: messages of the console, and requests to other hosts."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.problems: list[str] = []
        self._origin = origin
        page.on("console", self._record_message)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._record_request)

    def _record_message(self, message: ConsoleMessage) -> None:
        # That a request was refused, the browser says by itself.
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            self.problems.append(message.text)

    def _record_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self._origin}/", "data:", "blob:")):
            self.problems.append(request.url)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser of the system."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER.path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def monitored_page(chromium: Browser, server: Server) -> Callable[[int, str], PageMonitor]:
    """Pages by width and scheme, which tests share one after the other: opening one takes longer than most tests."""

    @cache
    def open_page(width: int, scheme: Literal["light", "dark"]) -> PageMonitor:
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            permissions=["clipboard-read", "clipboard-write"],
        )
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MILLISECONDS)
        return PageMonitor(page, server.url)

    return open_page


@pytest.fixture
def page(
    monitored_page: Callable[[int, str], PageMonitor], server: Server, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """The page, with the reference example checked; of a test that fails a screenshot is kept."""
    watch = monitored_page(*getattr(request, "param", (1280, "light")))
    page = watch.page
    page.goto("about:blank")
    watch.problems.clear()
    page.mouse.move(0, 0)
    page.goto(server.url)
    page.wait_for_selector("#verdict .badge")
    page.wait_for_selector("#curve canvas")
    failed = request.session.testsfailed
    yield page
    if request.session.testsfailed > failed:
        FAILURE_DIRECTORY.mkdir(exist_ok=True)
        page.screenshot(path=FAILURE_DIRECTORY / f"{request.node.name}.png", full_page=True)
    page.evaluate("localStorage.clear()")
    assert watch.problems == []


@pytest.fixture(scope="session")
def module_page(chromium: Browser, server: Server) -> Iterator[Page]:
    """A page of the service's origin that stays open: modules are called in it."""
    page = chromium.new_page()
    page.goto(f"{server.url}/docs")
    yield page
    page.close()
