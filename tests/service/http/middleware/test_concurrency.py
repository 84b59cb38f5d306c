import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from prometheus_client import generate_latest

from service.app import create_app
from service.checks.graph.check import check
from service.http import metrics
from service.http.middleware.concurrency import (
    CapacityError,
    ConcurrencyLimiter,
    count_running,
    get_compute_limiter,
    get_small_checks,
)
from service.settings import Settings


def read_gauge(name, of):
    return metrics.REGISTRY.get_sample_value(f"gradcheckd_{name}", {"of": of})


def wait_until(condition):
    """Let other threads get where they are going; a test that waits in vain fails by the clock of its runner."""
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it never came to that")


def test_limiter_gives_no_more_permits_than_its_capacity():
    slots = ConcurrencyLimiter("tests", 2)
    first, second = slots.acquire(), slots.acquire()
    with pytest.raises(CapacityError, match=r"All 2 places for tests are taken, .* Try again in 1 s"):
        slots.acquire()
    assert (slots.in_use, read_gauge("busy_places", "tests"), read_gauge("places", "tests")) == (2, 2, 2)
    first.release()
    with slots.acquire():
        assert slots.in_use == 2
    second.release()
    assert (slots.in_use, read_gauge("busy_places", "tests")) == (0, 0)


def test_a_place_is_given_back_once_from_whichever_thread():
    slots = ConcurrencyLimiter("tests", 2)
    kept, released = slots.acquire(), slots.acquire()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: released.release(), range(8)))
    with released:
        pass
    assert slots.in_use == 1
    kept.release()
    assert slots.in_use == 0


def test_a_place_is_given_back_where_the_block_fails_or_a_generator_is_closed():
    slots = ConcurrencyLimiter("tests", 1)
    with pytest.raises(KeyError), slots.acquire():
        raise KeyError

    def yield_lines(admission):
        with admission:
            yield "one"
            yield "two"

    streamed = yield_lines(slots.acquire())
    assert next(streamed) == "one"
    assert slots.in_use == 1
    streamed.close()
    assert slots.in_use == 0


def test_waiting_requests_are_served_in_order():
    slots = ConcurrencyLimiter("tests", 1, queue_limit=3, wait_seconds=60)
    held, order = slots.acquire(), []

    def wait_in_line(number):
        with slots.acquire():
            order.append(number)

    threads = [threading.Thread(target=wait_in_line, args=(number,)) for number in range(3)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda number=number: read_gauge("waiting", "tests") == number + 1)
    with pytest.raises(CapacityError, match="3 of at most 3 requests wait"):
        slots.acquire()
    held.release()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]
    assert (slots.in_use, read_gauge("waiting", "tests"), read_gauge("busy_places", "tests")) == (0, 0, 0)


def test_long_wait_is_refused_and_leaves_the_queue():
    slots = ConcurrencyLimiter("tests", 1, queue_limit=1, wait_seconds=0.01)
    with slots.acquire():
        for _ in range(2):
            with pytest.raises(CapacityError, match=r"none became free within 0\.01 s"):
                slots.acquire()
    assert (slots.in_use, read_gauge("waiting", "tests")) == (0, 0)


def test_permit_granted_at_the_last_moment_is_kept():
    """The clock of who waits, and who gives back, run side by side: between the two the lock decides."""

    class LateEvent(threading.Event):
        def wait(self, timeout=None):
            held.release()
            return False

    slots = ConcurrencyLimiter("tests", 1, queue_limit=1, wait_seconds=60)
    held = slots.acquire()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.http.middleware.concurrency.threading.Event", LateEvent)
        late = slots.acquire()
    assert (slots.in_use, read_gauge("waiting", "tests")) == (1, 0)
    late.release()
    assert slots.in_use == 0


def test_many_threads_never_have_more_places_than_there_are():
    slots, inside, most = ConcurrencyLimiter("tests", 3, queue_limit=100, wait_seconds=60), [], []

    def work(number):
        with slots.acquire():
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(400)))
    assert len(most) == 400
    assert max(most) <= 3
    assert slots.in_use == 0


@pytest.mark.parametrize("path", ["/v1/check", "/v1/curve", "/v1/bugs"])
def test_work_is_refused_where_all_places_are_taken_and_nothing_else_is(example, path):
    app = create_app(Settings(max_checks=1, max_queued=0, max_wait_seconds=2.5))
    body = example | ({"element": {"name": "w1", "index": [0, 0]}} if path == "/v1/curve" else {})
    client = app.test_client()
    with get_compute_limiter(app).acquire(), get_small_checks(app).acquire():
        refused = client.post(path, json=body)
        assert (refused.status_code, refused.mimetype) == (503, "application/problem+json")
        assert refused.headers["Retry-After"] == "3"
        assert re.search("All 1 places for (small )?checks are taken", refused.json["detail"])
        assert count_running(app) == 2
        assert client.get("/health/ready").status_code == 200
        assert client.get("/v1/ops").status_code == 200
    assert client.post(path, json=body).status_code == 200
    assert count_running(app) == 0


LANE = Settings(max_checks=1, max_queued=0)
FORMS = ["application/json", "text/plain", "application/x-ndjson", "application/vnd.safetensors"]


def make_large_request():
    """A check that is not small: of as many elements as that one has bytes for, eight times over."""
    nodes = [{"name": "wide", "op": "expand", "inputs": ["w"], "size": [2**19]}]
    nodes.append({"name": "loss", "op": "sum", "inputs": ["wide"]})
    return {"tensors": {}, "weights": {"w": [1]}, "model": {"nodes": nodes}}


@pytest.mark.parametrize("form", FORMS)
def test_a_small_check_has_a_place_where_all_others_are_taken(example, form):
    app = create_app(LANE)
    client, alone = app.test_client(), create_app(LANE).test_client()
    headers = {"Accept": form}
    with get_compute_limiter(app).acquire():
        answers = [client.post("/v1/check", json=example, headers=headers, buffered=True) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        if form == "application/x-ndjson":
            assert '"outcome":"pass"' in answers[0].text
        assert (get_compute_limiter(app).in_use, get_small_checks(app).in_use) == (1, 0)
    answered = client.post("/v1/check", json=example).json
    assert answered | {"cost": 0} == alone.post("/v1/check", json=example).json | {"cost": 0}


@pytest.mark.parametrize("form", FORMS)
def test_a_large_check_has_none_in_the_lane(form):
    app = create_app(LANE)
    client = app.test_client()
    with get_compute_limiter(app).acquire():
        refused = client.post("/v1/check", json=make_large_request(), headers={"Accept": form})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        assert "All 1 places for checks are taken" in refused.json["detail"]
        assert get_small_checks(app).in_use == 0
    assert (
        client.post("/v1/check", json=make_large_request(), headers={"Accept": form}, buffered=True).status_code == 200
    )
    assert count_running(app) == 0


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"{}", 422), (b'{"tensors": {}, "weights": {"w": ["a"]}}', 422), (b"null", 503)]
)
def test_lane_refuses_invalid_requests(body, status):
    app = create_app(LANE)
    post = partial(app.test_client().post, "/v1/check", data=body, content_type="application/json")
    with get_compute_limiter(app).acquire():
        refused = post()
        assert refused.status_code == status
    assert count_running(app) == 0
    assert status == 503 or refused.json == post().json


def test_a_body_that_is_long_is_not_looked_at_in_the_lane(example):
    app = create_app(LANE)
    with get_compute_limiter(app).acquire():
        for padding, status in ((2**17, 200), (2**18, 503)):
            body = json.dumps(example) + " " * padding
            response = app.test_client().post("/v1/check", data=body, content_type="application/json")
            assert response.status_code == status
    assert count_running(app) == 0


def test_lane_does_not_parse_large_bodies():
    """Of 88 bytes each list: with more than a small check may have parsed it has to wait for another place."""
    app = create_app(LANE)
    body = b"[" + b"[]," * 80_000 + b"0]"
    post = partial(app.test_client().post, "/v1/check", data=body, content_type="application/json")
    with get_compute_limiter(app).acquire():
        assert post().status_code == 503
    assert post().status_code == 422
    assert count_running(app) == 0


def test_small_check_lane_has_a_fixed_number_of_places(example):
    app = create_app(LANE)
    with get_compute_limiter(app).acquire(), get_small_checks(app).acquire():
        refused = app.test_client().post("/v1/check", json=example)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        assert "All 1 places for small checks are taken" in refused.json["detail"]


def test_the_lane_stays_free_while_there_is_another_place(monkeypatch, example):
    app, taken = create_app(LANE), []

    def record_usage(body, *_):
        taken.append((get_compute_limiter(app).in_use, get_small_checks(app).in_use))
        return check(body)

    monkeypatch.setattr("service.checks.graph.check.check", record_usage)
    assert app.test_client().post("/v1/check", json=example).status_code == 200
    with get_compute_limiter(app).acquire():
        assert app.test_client().post("/v1/check", json=example).status_code == 200
    assert taken == [(1, 0), (1, 1)]


def test_wait_for_the_lane_counts_against_the_queue_time():
    slots = ConcurrencyLimiter("tests", 1, queue_limit=1, wait_seconds=600)
    with slots.acquire(), pytest.raises(CapacityError, match="none became free within 600 s"):
        slots.acquire(waited=600.0)


def test_both_lanes_are_in_the_metrics():
    app = create_app(LANE)
    with get_compute_limiter(app).acquire(), get_small_checks(app).acquire():
        assert (read_gauge("busy_places", "checks"), read_gauge("busy_places", "small checks")) == (1, 1)
    assert (read_gauge("places", "small checks"), read_gauge("busy_places", "small checks")) == (1, 0)


def test_a_request_that_fails_gives_its_place_back(example):
    app = create_app(Settings(max_checks=1, max_queued=0))
    for _ in range(3):
        assert app.test_client().post("/v1/check", json=example | {"model": "no such"}).status_code == 422
    assert get_compute_limiter(app).in_use == 0


def test_bodies_have_places_of_their_own(example):
    app = create_app(Settings(max_concurrent_reads=1))
    with app.extensions["gradcheckd.bodies"].acquire():
        refused = app.test_client().post("/v1/check", json=example)
    assert refused.status_code == 503
    assert "places for bodies" in refused.json["detail"]
    assert app.test_client().post("/v1/check", json=example).status_code == 200
    assert b'gradcheckd_refusals_total{reason="full"}' in generate_latest(metrics.REGISTRY)
