"""`Accept: application/x-ndjson`: lines while it runs, and the last the report or a problem."""

import json
import logging
import threading
import time
from functools import partial

import pytest

from service import logs
from service.app import create_app
from service.checks.common.deadline import Clock
from service.checks.graph.check import check
from service.http import metrics
from service.http.middleware.concurrency import ConcurrencyLimiter, get_compute_limiter
from service.http.middleware.memory_quota import AnswerReservation, ByteQuota
from service.http.response.ndjson_stream import stream_report
from service.settings import Settings
from tests.service.checks.common.counting_clock import CountingClock

CLIENT = create_app().test_client()
NDJSON = {"Accept": "application/x-ndjson"}


def read_lines(response):
    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson"), response.text
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


REQUESTS = {
    "the reference example": {},
    "a sample": {"finite_difference": {"sample": 2}},
    "directions": {"finite_difference": {"projections": 3}},
    "one step": {"finite_difference": {"method": "central", "step": 1e-4}},
    "nodes": {"with_respect_to": ["L1", "w2"]},
    "float32": {"dtype": "float32"},
}


@pytest.mark.parametrize("fields", REQUESTS.values(), ids=REQUESTS)
def test_lines_of_progress_and_at_last_the_report(example, fields):
    *steps, last = read_lines(CLIENT.post("/v1/check", json=example | fields, headers=NDJSON))
    report = CLIENT.post("/v1/check", json=example | fields).json
    assert set(last) == {"event", "report"}
    assert last["event"] == "report"
    assert last["report"] | {"cost": 0} == report | {"cost": 0}
    assert {tuple(sorted(step)) for step in steps} == {("done", "event", "tensor", "total")}
    assert {step["event"] for step in steps} == {"progress"}
    done = [step["done"] for step in steps]
    assert done == sorted(done)
    assert done[-1] == steps[-1]["total"] == report["cost"]["loss_evaluations"]


@pytest.mark.parametrize("fields", REQUESTS.values(), ids=REQUESTS)
def test_progress_never_decreases_and_ends_at_the_total(example, fields):
    told = []
    check(example | fields, progress=lambda name, done, total: told.append((name, done, total)))
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert all(step[1] <= step[2] for step in told)
    assert told[-1][1] == told[-1][2]
    assert {step[0] for step in told} <= {"w1", "w2", "L1"}


BEFORE = {
    "not JSON": (b"{", 400),
    "not a request": (b"{}", 422),
    "shapes that do not fit": (b'{"tensors": {"x": [1]}, "weights": {}}', 422),
}


@pytest.mark.parametrize(("body", "status"), BEFORE.values(), ids=BEFORE)
def test_an_invalid_request_is_a_plain_problem(body, status):
    response = CLIENT.post("/v1/check", data=body, content_type="application/json", headers=NDJSON)
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")


def test_over_budget_and_out_of_time_at_once_are_plain_problems(example):
    for settings in (Settings(max_work=10), Settings(max_seconds=1e-9)):
        response = create_app(settings).test_client().post("/v1/check", json=example, headers=NDJSON)
        assert (response.status_code, response.mimetype) == (422, "application/problem+json")


def test_out_of_time_on_the_way_is_the_last_line(monkeypatch, example):
    ticking = CountingClock()

    def check_slowly(body, limits, progress, encoding, reserve):
        def report_slowly(*step):
            progress(*step)
            ticking.look_count += 10**6

        return check(body, limits, report_slowly, encoding, reserve)

    monkeypatch.setattr("service.checks.graph.check.check", check_slowly)
    monkeypatch.setattr("service.http.middleware.compute_deadline.Clock", partial(Clock, now=ticking))
    client = create_app(Settings(max_seconds=10**4)).test_client()
    *steps, last = read_lines(client.post("/v1/check", json=example, headers=NDJSON))
    assert [step["done"] for step in steps] == [0]
    assert (last["event"], last["problem"]["status"]) == ("problem", 422)
    assert last["problem"]["errors"][0]["pointer"] == "/with_respect_to"
    assert "out of time" in last["problem"]["detail"]


def test_unexpected_exception_is_the_last_line_and_is_logged(monkeypatch, caplog, example):
    def raise_after_progress(body, limits, told, encoding, reserve):
        told("w", 0, 1)
        raise RuntimeError("the secret of line 17")

    monkeypatch.setattr("service.checks.graph.check.check", raise_after_progress)
    # At once, as it is written: it says during which request.
    caplog.handler.setFormatter(logs.make_formatter())
    with caplog.at_level(logging.INFO, logger="gradcheckd"):
        response = CLIENT.post("/v1/check", json=example, headers=NDJSON | {"X-Request-ID": "mine"})
        *_, last = read_lines(response)
        response.close()
    assert (last["event"], last["problem"]["status"]) == ("problem", 500)
    assert "secret" not in json.dumps(last)
    told = [json.loads(line) for line in caplog.text.splitlines()]
    assert "the secret of line 17" in told[0]["exception"]
    assert [line["request_id"] for line in told] == ["mine", "mine"]
    assert told[-1]["reason"] == "internal-server-error"


def test_stream_turns_off_proxy_buffering(example):
    with CLIENT.post("/v1/check", json=example, headers=NDJSON) as response:
        assert response.headers["X-Accel-Buffering"] == "no"


def test_a_check_keeps_its_place_while_it_runs_and_no_longer(monkeypatch, example):
    """However it ends: with a report, a problem, an error before its first step, or when its client goes away."""
    app = create_app(Settings(max_checks=1, max_small_checks=0, max_queued=0))
    places, client = get_compute_limiter(app), app.test_client()
    held, ends = [], [[0, 1], [0, ValueError()], [ValueError()], [0] * 100_000]

    def record_places(body, limits, told, encoding, reserve):
        for step in steps:
            held.append(places.in_use)
            if isinstance(step, Exception):
                raise step
            told("w", step, 1)
            time.sleep(0.001)
        return check(body)

    monkeypatch.setattr("service.checks.graph.check.check", record_places)
    for steps in ends:
        with client.post("/v1/check", json=example, headers=NDJSON) as response:
            if len(steps) < 10:
                assert response.text
            else:
                assert client.post("/v1/check", json=example, headers=NDJSON).status_code == 503
        assert places.in_use == 0
    assert set(held) == {1}


def test_a_slow_reader_keeps_no_place(example):
    app = create_app(Settings(max_checks=1, max_queued=0))
    client = app.test_client()
    with client.post("/v1/check", json=example, headers=NDJSON, buffered=False) as unread:
        wait_until(lambda: get_compute_limiter(app).in_use == 0)
        assert client.post("/v1/check", json=example).status_code == 200
        assert json.loads(unread.text.splitlines()[-1])["report"]["outcome"] == "pass"


def wait_until(holds, seconds=240):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_client_that_goes_away_stops_the_check(read):
    def run_job(told):
        for done in range(10**6):
            told("w", done, 10**6)
            time.sleep(0.001)

    before = threading.active_count()
    places, room = ConcurrencyLimiter("checks", 1), ByteQuota(100)
    response = stream_report(run_job, places.acquire(), AnswerReservation(room))
    lines = iter(response.response)
    assert [json.loads(next(lines))["event"] for _ in range(read)] == ["progress"] * read
    assert threading.active_count() == before + 1
    response.close()
    assert threading.active_count() == before
    assert places.in_use == 0


def test_abandoned_stream_is_logged_with_its_cost(monkeypatch, caplog, example):
    def check_endlessly(body, limits, told, encoding, reserve):
        for done in range(10**6):
            told("w", done, 10**6)
            time.sleep(0.001)

    monkeypatch.setattr("service.checks.graph.check.check", check_endlessly)
    cancelled = metrics.CHECKS.labels("cancelled")._value
    before = cancelled.get()
    with caplog.at_level(logging.INFO, logger="gradcheckd"):
        response = CLIENT.post("/v1/check", json=example, headers=NDJSON)
        lines = iter(response.response)
        assert [json.loads(next(lines))["event"] for _ in range(2)] == ["progress"] * 2
        response.close()
    (line,) = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert (line["outcome"], line["status"]) == ("cancelled", 200)
    assert 0 < line["evaluations"] < 10**6
    assert cancelled.get() == before + 1


def test_no_thread_is_left_behind(example):
    before = threading.active_count()
    for body in (example, example, {}):
        CLIENT.post("/v1/check", json=body, headers=NDJSON).close()
    assert threading.active_count() == before


@pytest.mark.parametrize("form", ["text/plain", "text/markdown"])
def test_requested_text_report_is_in_the_last_line(example, form):
    *_, last = read_lines(
        CLIENT.post("/v1/check", json=example, headers={"Accept": f'{NDJSON["Accept"]}; report="{form}"'})
    )
    assert set(last) == {"event", "report", "text"}
    alone = CLIENT.post("/v1/check", json=example, headers={"Accept": form}).text

    def drop_timing_lines(text):
        return [line for line in text.splitlines() if "loss evaluations in" not in line]

    assert drop_timing_lines(last["text"]) == drop_timing_lines(alone)


def test_unknown_text_form_is_refused(example):
    response = CLIENT.post("/v1/check", json=example, headers={"Accept": 'application/x-ndjson; report="text/html"'})
    assert (response.status_code, response.mimetype) == (406, "application/problem+json")
    assert response.json["detail"] == "A report for reading is text/plain or text/markdown; you asked for 'text/html'."
