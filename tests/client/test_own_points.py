"""Points that the client makes itself: those of the service, one request, and what it does where a service refuses."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from gradcheckd import ProblemError, Service, own_points
from gradcheckd.blackbox import PlannedPoints, PlanParameters, encode_scales, request_plan
from gradcheckd.connection import Connection
from gradcheckd.function_forms import TensorForm, read_outputs, read_point
from gradcheckd.in_process import IN_PROCESS
from gradcheckd.own_points import get_plan_fields, make_plan
from tests.random_plan_requests import RandomPlanRequest, draw_plan_requests

POINT = np.array([0.5, -1.5, 2.0])
GRADIENT = np.cos(POINT)
COMPARED = 60


def function(w: Any) -> float:
    return float(np.sin(w).sum())


@pytest.fixture
def here() -> Iterator[Service]:
    with Service(IN_PROCESS) as service:
        yield service


@pytest.fixture
def paths(here: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests of a service in this process, in order."""
    sent: list[str] = []
    post = here.connection.post

    def keep(path: str, body: Any, accept: str) -> bytes:
        sent.append(path)
        return post(path, body, accept)

    monkeypatch.setattr(here.connection, "post", keep)
    return sent


class Parts:
    """A request in the terms of the client."""

    def __init__(self, request: RandomPlanRequest) -> None:
        self.point = read_point(request.point)
        outputs = None if request.outputs is None else read_outputs(request.outputs)
        cotangents = outputs.tensors if outputs and request.has_own_cotangents else None
        self.fields = dict(request.fields)
        if "scale" in self.fields:
            self.fields["scale"] = encode_scales(self.fields["scale"], self.point)
        self.parameters = PlanParameters(self.point, outputs, cotangents, self.fields)

    def plan_here(self) -> PlannedPoints | None:
        return make_plan(self.parameters)

    def plan_by_service(self, connection: Connection) -> PlannedPoints:
        return request_plan(connection, self.parameters)


def list_differences(ours: PlannedPoints, theirs: PlannedPoints) -> list[str]:
    """Name the parts in which two plans differ in any bit."""
    differences = [part for part in ("evaluations", "has_first_look") if getattr(ours, part) != getattr(theirs, part)]
    for part in ("points", "cotangents", "tangents", "scales"):
        mine, others = getattr(ours, part), getattr(theirs, part)
        assert list(mine) == list(others)
        differences += [f"{part}/{name}" for name in others if not is_same(mine[name], others[name], part != "scales")]
    return differences


def is_same(mine: Any, other: Any, has_dtype: bool) -> bool:
    is_alike = mine.shape == other.shape and (not has_dtype or mine.dtype == other.dtype)
    return is_alike and np.asarray(mine, np.float64).tobytes() == np.asarray(other, np.float64).tobytes()


def test_points_are_those_of_the_service_to_the_bit(here: Service) -> None:
    compared = refused = 0
    for request in draw_plan_requests(0):
        parts = Parts(request)
        ours = parts.plan_here()
        try:
            theirs = parts.plan_by_service(here.connection)
        except ProblemError:
            refused += 1
            assert ours is None, request
            continue
        assert ours is not None
        assert list_differences(ours, theirs) == [], request
        compared += 1
        if compared == COMPARED:
            break
    assert refused > 3


def test_other_seeds_have_other_points() -> None:
    """A comparison that could not fail would be none."""
    plans = [make_plan(PlanParameters(read_point(POINT), read_outputs(1.0), fields={"seed": seed})) for seed in (0, 1)]
    assert plans[0] is not None
    assert plans[1] is not None
    assert list_differences(plans[0], plans[1]) == ["points/x", "cotangents/y", "tangents/x"]


def test_points_of_bfloat16_and_of_many_tensors_are_those_of_the_service(here: Service) -> None:
    many = {f"w{number}": np.full(2, number - 9.5) for number in range(20)}
    for point in (torch.tensor([0.5, -1.5, 0.0], dtype=torch.bfloat16), many):
        for kind in ("random", "coordinates"):
            fields = {"directions": {"kind": kind}}
            parameters = PlanParameters(read_point(point), fields=fields)
            ours = make_plan(parameters)
            assert ours is not None
            assert list_differences(ours, request_plan(here.connection, parameters)) == []
            assert get_plan_fields(ours) == fields


def form(*values: float) -> TensorForm:
    return read_point(np.array(values))


LEFT: dict[str, tuple[TensorForm, dict[str, Any]]] = {
    "bounds": (form(1.0), {"bounds": {"x": {"min": 0}}}),
    "NaN": (form(1.0, np.nan), {}),
    "an infinity": (form(np.inf), {}),
    "no elements": (form(), {}),
    "near the largest number": (form(1.7e308), {}),
    "a negative seed": (form(1.0), {"seed": -1}),
    "a large seed": (form(1.0), {"seed": 2**63}),
    "a seed of another type": (form(1.0), {"seed": "0"}),
    "a truth as a seed": (form(1.0), {"seed": True}),
    "an unknown kind": (form(1.0), {"directions": {"kind": "all"}}),
    "an unknown field of directions": (form(1.0), {"directions": {"kinds": "random"}}),
    "directions of another type": (form(1.0), {"directions": 4}),
    "no directions": (form(1.0), {"directions": {"kind": "random", "count": 0}}),
    "a small scale": (form(1.0), {"scale": {"x": 1e-15}}),
    "a scale of 0": (form(1.0), {"scale": {"x": 0.0}}),
    "a scale of text": (form(1.0), {"scale": {"x": "one"}}),
    "a scale of another shape": (form(1.0, 2.0), {"scale": {"x": [1.0, 2.0, 3.0]}}),
    "a scale of another tensor": (form(1.0), {"scale": {"y": 1.0}}),
    "many numbers": (read_point(np.ones(5000)), {}),
}


@pytest.mark.parametrize(("point", "fields"), LEFT.values(), ids=LEFT)
def test_other_requests_are_left_to_the_service(point: TensorForm, fields: dict[str, Any]) -> None:
    assert make_plan(PlanParameters(point, fields=fields)) is None


def test_a_cotangent_of_0_is_left_to_the_service() -> None:
    outputs = read_outputs(1.0)
    assert make_plan(PlanParameters(form(1.0), outputs, read_outputs(0.0).tensors)) is None
    assert make_plan(PlanParameters(form(1.0), outputs, read_outputs(2.0).tensors)) is not None


def test_a_pass_at_first_takes_one_request(here: Service, paths: list[str]) -> None:
    report = here.check_function(function, POINT, GRADIENT)
    assert (report.outcome, report.evaluations) == ("pass", 23)
    assert paths == ["/v1/judge"]


def test_a_pass_at_first_takes_one_request_over_http(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    client = service.connection._client.get()
    send = client.send

    def keep(request: Any, **options: Any) -> Any:
        sent.append(request.url.path)
        return send(request, **options)

    monkeypatch.setattr(client, "send", keep)
    assert service.check_function(function, POINT, GRADIENT).passed
    assert sent == ["/v1/judge"]


def sines(w: Any) -> Any:
    return np.sin(w)


def compute_kinked_loss(w: Any) -> float:
    return float(np.abs(w - 0.9999).sum())


CHECKS: dict[str, tuple[Callable[[Service], Any], list[str]]] = {
    "further points": (lambda service: service.check_function(function, POINT, 1.001 * GRADIENT), ["/v1/judge"] * 2),
    "full": (lambda service: service.check_function(function, POINT, GRADIENT, evaluations="full"), ["/v1/judge"]),
    "products": (
        lambda service: service.check_function(
            sines, POINT, vjp=lambda w, c: np.cos(w) * c, jvp=lambda w, t: np.cos(w) * t, seed=7
        ),
        ["/v1/judge"],
    ),
    "cotangents": (
        lambda service: service.check_function(
            sines, POINT, vjp=lambda w, c: np.cos(w) * c, cotangents=np.array([1.0, -2.0, 0.5]), scale=0.25
        ),
        ["/v1/judge"],
    ),
    "jacobian": (
        lambda service: service.check_function(sines, POINT, jacobian=np.diag(GRADIENT)),
        ["/v1/judge"],
    ),
    "derivatives": (lambda service: service.check_function(sines, POINT), ["/v1/judge"]),
    "further rounds": (
        lambda service: service.check_function(compute_kinked_loss, np.ones(2), np.ones(2), directions="coordinates"),
        ["/v1/judge"] * 5,
    ),
    "float32": (
        lambda service: service.check_function(function, POINT.astype(np.float32), GRADIENT.astype(np.float32)),
        ["/v1/judge"],
    ),
    "bounds": (
        lambda service: service.check_function(function, POINT, GRADIENT, bounds={"min": -2}, evaluations="full"),
        ["/v1/plan", "/v1/judge"],
    ),
}


@pytest.mark.parametrize(("check", "expected"), CHECKS.values(), ids=CHECKS)
def test_reports_are_those_of_plans_of_the_service(
    here: Service, paths: list[str], check: Callable[[Service], Any], expected: list[str]
) -> None:
    ours = check(here)
    assert paths == expected
    here.connection.takes_plan_requests = False
    theirs = check(here)
    assert "/v1/plan" in paths[len(expected) :]
    assert str(ours.raw) == str(theirs.raw)


@contextlib.contextmanager
def refusing(service: Service, paths: list[str], *pointers: str) -> Iterator[None]:
    """A service that refuses requests with points of the client, at these places."""
    post = service.connection.post

    def refuse(path: str, body: Any, accept: str) -> bytes:
        if b"plan_request" in body.content:
            paths.append("refused")
            errors = [{"pointer": pointer, "detail": "d"} for pointer in pointers]
            raise ProblemError({"title": "Invalid request", "status": 422, "errors": errors})
        return post(path, body, accept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.connection, "post", refuse)
        yield


OLDER = ("/plan", "/plan_request", "/digest")


@pytest.mark.parametrize("candidate", [GRADIENT, None], ids=["judged", "differentiated"])
def test_an_older_service_makes_the_points_and_is_asked_once(here: Service, paths: list[str], candidate: Any) -> None:
    def check() -> Any:
        if candidate is None:
            return here.check_function(sines, POINT)
        return here.check_function(function, POINT, candidate)

    expected = check()
    paths.clear()
    with refusing(here, paths, *OLDER):
        assert str(check().raw) == str(expected.raw)
        assert paths == ["refused", "/v1/plan", "/v1/judge"]
        paths.clear()
        assert str(check().raw) == str(expected.raw)
        assert paths == ["/v1/plan", "/v1/judge"]


@pytest.mark.parametrize("own_rule", [True, False], ids=["the same rule", "another rule"])
def test_the_same_points_of_an_older_service_are_evaluated_once(
    here: Service, paths: list[str], monkeypatch: pytest.MonkeyPatch, own_rule: bool
) -> None:
    calls: list[Any] = []

    def count(w: Any) -> float:
        calls.append(w)
        return function(w)

    if not own_rule:
        place = own_points.place_points
        monkeypatch.setattr(
            own_points, "place_points", lambda *given, **named: [2 * row for row in place(*given, **named)]
        )
    with refusing(here, paths, *OLDER):
        report = here.check_function(count, POINT, GRADIENT)
    assert report.passed
    # The form of the value at the base is read first.
    assert len(calls) == report.evaluations * (1 if own_rule else 2) - (0 if own_rule else 1)


def test_a_service_with_another_rule_makes_the_points(
    here: Service, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_points, "compute_digest", lambda points, cotangents: 64 * "0")
    assert here.check_function(function, POINT, GRADIENT).passed
    assert paths == ["/v1/judge", "/v1/plan", "/v1/judge"]
    assert here.check_function(function, POINT, GRADIENT).passed
    assert paths[3:] == ["/v1/plan", "/v1/judge"]


def test_a_refused_part_of_the_request_is_left_to_the_plan(here: Service, paths: list[str]) -> None:
    """It has the words and the places for it; other requests go on as before."""
    with refusing(here, paths, "/plan_request/directions/count"):
        assert here.check_function(function, POINT, GRADIENT).passed
    assert paths == ["refused", "/v1/plan", "/v1/judge"]
    paths.clear()
    assert here.check_function(function, POINT, GRADIENT).passed
    assert paths == ["/v1/judge"]


def test_refused_losses_stay_refused(here: Service, paths: list[str]) -> None:
    with pytest.raises(ProblemError, match="/losses/3"):
        here.check_function(lambda w: function(w) if w[0] == 0.5 else np.inf, POINT, GRADIENT)
    assert paths == ["/v1/judge"]


def test_a_refused_point_is_named_by_the_service(here: Service) -> None:
    with pytest.raises(ProblemError, match="/point/x"):
        here.check_function(lambda w: 0.0, np.array([1.0, np.inf]), np.zeros(2))
