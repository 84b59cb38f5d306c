import threading
from contextlib import closing

import pytest

from service.app import create_app
from service.http.middleware.concurrency import CapacityError, get_compute_limiter, get_small_checks
from service.http.middleware.memory_quota import SMALL_ANSWER_BYTES, AnswerReservation, ByteQuota, Reservation
from service.settings import Settings

SETTINGS = Settings(max_body_bytes=1000, max_binary_bytes=1000, max_buffered_body_bytes=1000)


def get_quota(app):
    return app.extensions["gradcheckd.room"]


def test_bytes_are_held_until_they_are_given_back():
    room = ByteQuota(10)
    with closing(Reservation(room)) as held:
        held.grow(4)
        held.grow(6)
        assert room.reserved_bytes == 10
        held.close()
        assert room.reserved_bytes == 0
    assert room.reserved_bytes == 0, "a second time is nothing"


def test_excessive_reservation_is_refused():
    room = ByteQuota(10)
    with closing(Reservation(room)) as held:
        held.grow(4)
        with pytest.raises(CapacityError, match="Other requests take 4 of the 10 bytes for bodies") as info:
            held.grow(7)
        assert (info.value.retry_after, room.reserved_bytes) == (1, 4)
    assert room.reserved_bytes == 0


def test_many_hold_and_give_back_at_once():
    room = ByteQuota(100)

    def hold():
        for _ in range(1000):
            with closing(Reservation(room)) as held:
                held.grow(10)

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert room.reserved_bytes == 0


def test_a_body_without_room_is_refused_and_the_next_one_answered():
    app = create_app(SETTINGS)
    client = app.test_client()
    with closing(Reservation(get_quota(app))) as held:
        held.grow(999)
        response = client.post("/v1/check", data=b"{}", content_type="application/json")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert get_quota(app).reserved_bytes == 999
    assert client.post("/v1/check", data=b"{}", content_type="application/json").status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/check", b"{}", 422),
        ("/v1/check", b"{", 400),
        ("/v1/check", b"[" * 65, 400),
        ("/v1/check", b"{" + b" " * 1000, 413),
        ("/v1/curve", b"{}", 422),
        ("/v1/bugs", b"{}", 422),
        ("/v1/plan", b"{}", 422),
        ("/v1/judge", b"{}", 422),
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "application/x-ndjson"])
def test_finished_request_releases_its_bytes(path, body, status, accept):
    app = create_app(SETTINGS)
    if accept != "*/*" and path != "/v1/check":
        status = 406
    response = app.test_client().post(path, data=body, content_type="application/json", headers={"Accept": accept})
    assert response.status_code == status
    assert get_quota(app).reserved_bytes == 0


def test_refused_body_holds_no_memory():
    app = create_app(SETTINGS.model_copy(update={"max_queued": 0}))
    slots = get_compute_limiter(app)
    with slots.acquire(), slots.acquire(), get_small_checks(app).acquire():
        response = app.test_client().post("/v1/check", data=b"{}", content_type="application/json")
    assert response.status_code == 503
    assert get_quota(app).reserved_bytes == 0


def test_answer_reserves_its_size_unless_small():
    room = ByteQuota(4 * SMALL_ANSWER_BYTES, "answers")
    with closing(AnswerReservation(room)) as held:
        held.resize(3 * SMALL_ANSWER_BYTES)
        assert room.reserved_bytes == 3 * SMALL_ANSWER_BYTES
        held.resize(2 * SMALL_ANSWER_BYTES)
        assert room.reserved_bytes == 2 * SMALL_ANSWER_BYTES
        with (
            closing(AnswerReservation(room)) as other,
            pytest.raises(CapacityError, match=r"of the .* bytes for answers"),
        ):
            other.resize(3 * SMALL_ANSWER_BYTES)
        held.resize(SMALL_ANSWER_BYTES)
        assert room.reserved_bytes == 0
        held.resize(2 * SMALL_ANSWER_BYTES)
    assert room.reserved_bytes == 0


@pytest.fixture
def large_answers(monkeypatch):
    """Every answer is large."""
    monkeypatch.setattr("service.http.middleware.memory_quota.SMALL_ANSWER_BYTES", 10)


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "application/vnd.safetensors"])
def test_a_check_whose_answer_has_no_room_is_refused_and_the_next_one_answered(example, large_answers, accept):
    app = create_app(Settings(max_answer_bytes=10**6))
    room, client = app.extensions["gradcheckd.answers"], app.test_client()
    with closing(AnswerReservation(room)) as held:
        held.resize(10**6)
        response = client.post("/v1/check", json=example, headers={"Accept": accept})
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        # What is for reading has its room when it is there.
        assert client.post("/v1/check", json=example, headers={"Accept": "text/plain"}).status_code == 503
    with client.post("/v1/check", json=example, headers={"Accept": accept}, buffered=False) as response:
        assert response.status_code == 200
        assert response.get_data()
        response.close()
    assert room.reserved_bytes == 0


def test_an_answer_is_held_until_it_is_closed(example, large_answers):
    app = create_app(Settings())
    room = app.extensions["gradcheckd.answers"]
    response = app.test_client().post("/v1/check", json=example, buffered=False)
    assert room.reserved_bytes == len(response.get_data()) or room.reserved_bytes == 0
    response.close()
    assert room.reserved_bytes == 0
    for path, body in (("/v1/check", {}), ("/v1/plan", {}), ("/v1/bugs", {}), ("/v1/judge", {})):
        assert app.test_client().post(path, json=body).status_code == 422
    assert room.reserved_bytes == 0
