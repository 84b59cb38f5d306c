"""Every way in has one clock, and ends when its client has left."""

import socket
import time
from functools import partial

import pytest

from service.app import create_app
from service.checks.blackbox.plan import plan_evaluations
from service.checks.common.deadline import Clock
from service.http.arrival import set_arrival
from service.http.middleware import disconnect
from service.http.middleware.concurrency import get_compute_limiter
from service.settings import Settings
from tests.service.checks.common.counting_clock import CountingClock

POINT = {"point": {"w": [0.5, -1.5]}, "directions": {"kind": "coordinates"}}


def make_judge_request():
    plan_result = plan_evaluations(POINT)
    points = plan_result.points["w"].array
    return {"plan": dict(plan_result.plan), "losses": (points**2).sum(axis=1).tolist(), "candidate": {"w": [1, -3]}}


BODIES = {
    "/v1/check": lambda example: example,
    "/v1/curve": lambda example: example | {"element": {"name": "w1", "index": [0, 0]}},
    "/v1/bugs": lambda example: example,
    "/v1/plan": lambda _: POINT,
    "/v1/judge": lambda _: make_judge_request(),
}
routes = pytest.mark.parametrize(("route", "body"), BODIES.items(), ids=BODIES)


@routes
def test_every_route_has_a_compute_deadline(monkeypatch, example, route, body):
    monkeypatch.setattr("service.http.middleware.compute_deadline.Clock", partial(Clock, now=CountingClock()))
    app = create_app(Settings(max_seconds=0.5))
    response = app.test_client().post(route, json=body(example))
    assert response.status_code == 422
    assert "out of time" in response.json["detail"]
    assert get_compute_limiter(app).in_use == 0
    monkeypatch.undo()
    assert app.test_client().post(route, json=body(example)).status_code in (200, 422)
    assert create_app().test_client().post(route, json=body(example)).status_code == 200


@routes
def test_computation_ends_when_its_client_has_left(monkeypatch, example, route, body):
    """Before the first line of an answer, whatever is being computed."""
    monkeypatch.setattr(disconnect, "_POLL_SECONDS", -1.0)
    app = create_app()
    ours, theirs = socket.socketpair()
    with ours:
        given = partial(app.test_client().post, route, json=body(example), environ_base={"gunicorn.socket": ours})
        assert given().status_code == 200
        theirs.close()
        response = given()
        assert response.status_code == 499
        assert response.mimetype == "application/problem+json"
        assert "closed its side" in response.json["detail"]
    assert get_compute_limiter(app).in_use == 0
    assert app.test_client().post(route, json=body(example)).status_code == 200


@routes
def test_the_clock_of_a_request_starts_with_its_head(example, route, body):
    """Hours ago, the body has just come: there is no time left."""
    client = create_app(Settings(max_seconds=3600.0)).test_client()
    for ago, status in ((0.0, 200), (7200.0, 422)):
        with set_arrival(time.monotonic() - ago):
            response = client.post(route, json=body(example))
        assert response.status_code == status
    assert "out of time" in response.json["detail"]
    assert "7200." in response.json["detail"]


def test_a_stream_has_the_clock_of_its_request(monkeypatch, example):
    monkeypatch.setattr("service.http.middleware.compute_deadline.Clock", partial(Clock, now=CountingClock()))
    client = create_app(Settings(max_seconds=0.5)).test_client()
    response = client.post("/v1/check", json=example, headers={"Accept": "application/x-ndjson"})
    assert (response.status_code, response.mimetype) == (422, "application/problem+json")
