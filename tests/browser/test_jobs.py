"""Jobs on the page: real ones, of a real runner."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from service.settings import Settings
from tests.application_server import serve_application
from tests.browser.conftest import TIMEOUT_MILLISECONDS
from tests.browser.test_modules import evaluate_in_module
from tests.browser.test_page import LOOKS, find_violations
from tests.integration.conftest import PATIENCE, Server
from tests.integration.long_check import build_long_check

PATIENCE_MILLISECONDS = 1000 * PATIENCE
"""Milliseconds for the end of a job: its runner starts with it, and gives way to everybody."""
LOSS = "2.3767862745225306"
JOB_FRAGMENT = re.compile(r"#job=([0-9a-f]{32})$")
ASYNC = {"Prefer": "respond-async"}


def find_job(page: Page) -> str:
    page.wait_for_url(JOB_FRAGMENT)
    found = JOB_FRAGMENT.search(page.url)
    assert found
    return found[1]


def write_request(page: Page, request: dict[str, Any]) -> None:
    page.evaluate("document.querySelector('#json').open = true")
    # Without the event of a change: the page would check it at once.
    page.evaluate("(text) => (document.querySelector('#text').value = text)", json.dumps(request))


def await_status(url: str, job: str, *statuses: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while (document := httpx.get(f"{url}/v1/jobs/{job}").json())["status"] not in statuses:
        assert time.monotonic() < deadline, document
        time.sleep(0.1)
    return document


def expect_report(page: Page) -> None:
    expect(page.locator("#verdict .badge").first).to_be_visible(timeout=PATIENCE_MILLISECONDS)


@pytest.fixture(autouse=True)
def forget_jobs(server: Server) -> Iterator[None]:
    """Leave no job to the next test: it would wait for a long one."""
    yield
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        for _ in range(2):
            for job in client.get("/v1/jobs").json()["jobs"]:
                client.delete(job["links"]["self"])


def test_a_check_is_run_as_a_job_and_opens_again_after_a_reload(page: Page, server: Server) -> None:
    page.fill("[aria-label='w2[1]']", "0.7")
    page.click("#run-as-job")
    job = find_job(page)
    expect(page.locator("#status")).to_have_text("Checked: pass.", timeout=PATIENCE_MILLISECONDS)
    loss = page.text_content("#loss")
    assert loss != LOSS
    assert await_status(server.url, job, "successful")["id"] == job
    page.reload()
    expect(page.locator("#status")).to_have_text("The job ended: pass.")
    expect(page.locator("#loss")).to_have_text(loss or "")
    assert json.loads(page.input_value("#text"))["weights"]["w2"][1] == 0.7
    expect(page.locator("#curve-text")).to_contain_text("the engine says")
    page.select_option("#preset", "logistic_regression")
    expect(page.locator("#status")).to_contain_text("Checked: pass")
    assert "#job" not in page.url, "the next check is not of the job"


def test_a_job_goes_on_while_the_page_is_closed_and_is_cancelled(page: Page, server: Server) -> None:
    write_request(page, build_long_check())
    page.click("#run-as-job")
    job = find_job(page)
    expect(page.locator("#status")).to_contain_text("evaluations, at w", timeout=PATIENCE_MILLISECONDS)
    assert re.match(r"\d+ % ", page.title())
    expect(page.locator("#old")).to_be_visible()
    expect(page.locator("#description")).to_have_text("The model of the request below.")
    page.goto("about:blank")
    assert await_status(server.url, job, "running")["finished"] is None
    page.goto(f"{server.url}/#job={job}")
    expect(page.locator("#status")).to_contain_text("evaluations, at w")
    assert json.loads(page.input_value("#text"))["model"] == build_long_check()["model"]
    expect(page.locator("#announcement")).to_contain_text("evaluations, at w")
    assert page.evaluate("document.querySelector('#progress').value > 0")
    page.click("#cancel")
    expect(page.locator("#status")).to_have_text("Cancelled.")
    assert await_status(server.url, job, "dismissed")["id"] == job
    assert "#job" not in page.url
    assert page.title() == "gradcheckd: a second opinion for gradients"


def test_another_check_leaves_the_job_alone(page: Page, server: Server) -> None:
    write_request(page, build_long_check())
    page.click("#run-as-job")
    job = find_job(page)
    page.select_option("#preset", "logistic_regression")
    expect(page.locator("#status")).to_contain_text("Checked: pass")
    assert await_status(server.url, job, "accepted", "running")["finished"] is None
    page.click("#jobs summary")
    page.locator(f"#job-list [data-job='{job}'] button", has_text="Follow").click()
    expect(page.locator("#status")).to_contain_text("evaluations, at w", timeout=PATIENCE_MILLISECONDS)
    assert find_job(page) == job


def test_a_job_that_fails_shows_its_errors_at_their_fields(page: Page) -> None:
    request = json.loads(page.input_value("#text"))
    request["weights"]["w2"] = ["0.1", 2, 3, 4]
    write_request(page, request)
    page.click("#run-as-job")
    expect(page.locator("#errors button")).to_have_text("/weights/w2", timeout=PATIENCE_MILLISECONDS)
    expect(page.locator("#offer")).to_be_hidden()
    expect(page.locator("#old")).to_be_visible()


def test_a_job_of_elsewhere_is_shown_as_a_text(page: Page, server: Server) -> None:
    example = json.loads(page.input_value("#text"))
    candidate = {"w2": [0.22783599, 0.26189097, -0.09793547, 0.08370645]}
    answer = httpx.post(f"{server.url}/v1/check", json=example | {"candidate": candidate}, headers=ASYNC)
    job = answer.json()["id"]
    page.evaluate("(id) => (location.hash = `job=${id}`)", job)
    expect(page.locator("#verdict pre")).to_contain_text("fail", timeout=PATIENCE_MILLISECONDS)
    expect(page.locator("#parts")).to_be_hidden()
    assert find_violations(page) == []
    page.click("#run")
    expect(page.locator("#loss")).to_have_text(LOSS)
    expect(page.locator("#parts")).to_be_visible()


def test_a_job_that_is_not_there_is_said_to_be_so(page: Page) -> None:
    page.evaluate("location.hash = 'job=' + '0'.repeat(32)")
    expect(page.locator("#errors")).to_contain_text("no such job")
    expect(page.locator("#status")).to_have_text("There is no such job.")
    page.reload()
    expect(page.locator("#loss")).to_have_text(LOSS)


def list_items(page: Page) -> Locator:
    return page.locator("#job-list li")


def test_the_list_is_used_by_keyboard(page: Page, server: Server) -> None:
    page.focus("#jobs summary")
    page.keyboard.press("Enter")
    expect(page.locator("#jobs-note")).to_contain_text("There is no job")
    page.focus("#run-as-job")
    page.keyboard.press("Enter")
    expect(list_items(page)).to_have_count(1)
    expect(list_items(page)).to_contain_text("conv_tanh_scale_sigmoid")
    expect(page.locator("#job-list .badge")).to_contain_text("pass", timeout=PATIENCE_MILLISECONDS)
    write_request(page, build_long_check())
    page.focus("#run-as-job")
    page.keyboard.press("Enter")
    expect(list_items(page)).to_have_count(2)
    expect(list_items(page).first.locator(".state")).to_have_text("running", timeout=PATIENCE_MILLISECONDS)
    cancel = list_items(page).first.locator("button", has_text="Cancel")
    cancel.focus()
    page.wait_for_timeout(2500)
    assert page.evaluate("document.activeElement.textContent") == "Cancel", "a refreshed list keeps the focus"
    page.keyboard.press("Enter")
    expect(list_items(page).first.locator(".state")).to_have_text("cancelled")
    expect(page.locator("#status")).to_have_text("Cancelled.", timeout=PATIENCE_MILLISECONDS)
    assert page.evaluate("document.activeElement.textContent") == "Forget"
    page.keyboard.press("Enter")
    expect(list_items(page)).to_have_count(1)
    assert page.evaluate("document.activeElement.closest('#jobs') !== null")
    page.locator("#job-list button", has_text="Forget").click()
    expect(list_items(page)).to_have_count(0)
    assert httpx.get(f"{server.url}/v1/jobs").json() == {"jobs": []}


@pytest.mark.parametrize("page", LOOKS[1:3], indirect=True)
def test_axe_finds_nothing_in_the_list_and_it_fits(page: Page) -> None:
    page.click("#jobs summary")
    page.click("#run-as-job")
    expect(page.locator("#job-list .badge")).to_be_visible(timeout=PATIENCE_MILLISECONDS)
    write_request(page, build_long_check())
    page.click("#run-as-job")
    expect(page.locator("#job-list progress")).to_be_visible()
    page.evaluate("document.querySelector('#offer').hidden = false")
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("document.querySelector('#jobs').append(document.createElement('img'))")
    assert find_violations(page), "a picture without words is found"


def open_page(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MILLISECONDS)
    page.goto(address)
    return page


@pytest.mark.parametrize(
    ("settings", "is_offered"),
    [
        (Settings(max_work=1000), True),
        (Settings(max_seconds=1e-9), True),
        (Settings(max_bytes=2**24), False),
        (Settings(max_elements=10), False),
    ],
    ids=["operations", "time", "memory", "elements"],
)
def test_a_check_that_is_refused_may_run_as_a_job(chromium: Browser, settings: Settings, is_offered: bool) -> None:
    with serve_application(settings) as address, chromium.new_context() as context:
        page = open_page(context, address)
        expect(page.locator("#errors li")).to_have_count(1)
        expect(page.locator("#offer")).to_be_visible(visible=is_offered)
        expect(page.locator("#announcement")).to_have_text(
            "Refused; it may run as a job." if is_offered else "Refused."
        )
        if is_offered:
            page.click("#take-offer")
            expect(page.locator("#loss")).to_have_text(LOSS, timeout=PATIENCE_MILLISECONDS)
            expect(page.locator("#offer")).to_be_hidden()


def test_a_job_needs_the_key_of_its_caller(chromium: Browser) -> None:
    with serve_application(Settings(keys="secret,other")) as address, chromium.new_context() as context:
        page = open_page(context, address)
        page.fill("#bearer", "secret")
        page.press("#bearer", "Enter")
        # The first check of this process loads PyTorch.
        expect(page.locator("#loss")).to_have_text(LOSS, timeout=PATIENCE_MILLISECONDS)
        page.click("#run-as-job")
        job = find_job(page)
        expect(page.locator("#status")).to_have_text("Checked: pass.", timeout=PATIENCE_MILLISECONDS)
        page.click("#jobs summary")
        expect(page.locator("#jobs-note")).to_contain_text("They belong to your key.")
        # Another window has the requests of the jobs, and no key.
        other = open_page(context, f"{address}/#job={job}")
        expect(other.locator("#key")).to_be_visible()
        other.fill("#bearer", "other")
        other.press("#bearer", "Enter")
        expect(other.locator("#errors")).to_contain_text("no such job")
        other.evaluate("(id) => (location.hash = `job=${id}`)", job)
        expect(other.locator("#status")).to_have_text("There is no such job.")
        other.evaluate("sessionStorage.setItem('key', 'secret')")
        other.goto("about:blank")
        other.goto(f"{address}/#job={job}")
        expect(other.locator("#status")).to_have_text("The job ended: pass.")


def test_a_check_that_proves_to_be_long_goes_on_as_a_job(chromium: Browser, server: Server) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        page.clock.install()
        page.goto(server.url)
        expect(page.locator("#loss")).to_have_text(LOSS)
        write_request(page, build_long_check())
        page.click("#run")
        expect(page.locator("#status")).to_contain_text("evaluations, at w")
        assert "#job" not in page.url
        # By the clock of the page, all further evaluations took an hour.
        page.clock.fast_forward(3_600_000)
        job = find_job(page)
        assert await_status(server.url, job, "accepted", "running")["id"] == job
        expect(page.locator("#errors li")).to_have_count(0)


def test_a_page_goes_on_when_the_service_does_not_answer_for_a_while(page: Page) -> None:
    problem = json.dumps({"status": 503, "detail": "The database of the jobs does not answer."})
    page.route("**/v1/jobs/*", lambda route: route.fulfill(status=503, body=problem))
    page.click("#run-as-job")
    expect(page.locator("#status")).to_contain_text("does not answer")
    page.unroute("**/v1/jobs/*")
    expect(page.locator("#status")).to_have_text("Checked: pass.", timeout=PATIENCE_MILLISECONDS)


PACES = """(({foresee}) => {
  let now = 0;
  const isLong = foresee(20, () => now);
  return given.map(([time, done, total]) => {
    now = time;
    return isLong({done, total});
  });
})(m)"""


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([(0, 0, 1000), (1500, 10, 1000), (2500, 10, 1000), (2500, 20, 1000)], [False, False, True, True]),
        ([(0, 0, 1000), (2500, 200, 1000)], [False, False]),
        ([(0, 500, 1000), (2500, 540, 1000), (2500, 560, 1000)], [False, True, False]),
        ([(0, 0, 1000), (9000, 0, 1000)], [False, False]),
    ],
)
def test_a_pace_is_believed_after_two_seconds(
    module_page: Page, events: list[tuple[int, int, int]], expected: list[bool]
) -> None:
    assert evaluate_in_module(module_page, "jobs", PACES, events) == expected


def test_large_requests_are_kept_and_the_oldest_are_dropped(module_page: Page) -> None:
    weights = np.zeros(50_000).tolist()
    kept = evaluate_in_module(
        module_page,
        "job-store",
        """(async () => {
          for (let number = 0; number < 32; number += 1) await m.keep(`id${number}`, {number, weights: given}, "title");
          await m.settle("id31", "pass");
          const found = await Promise.all([0, 1, 2, 31].map((number) => m.recall(`id${number}`)));
          for (let number = 0; number < 32; number += 1) await m.drop(`id${number}`);
          return [found.map((each) => each?.request.number ?? null), found[3].outcome, found[3].request.weights.length];
        })()""",
        weights,
    )
    assert kept == [[None, None, 2, 31], "pass", 50_000]
