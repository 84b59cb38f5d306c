"""From losses to a report, without HTTP."""

import contextlib
import copy
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import plan_evaluations
from service.checks.common.limits import Limits
from tests.service.checks.blackbox.plan_requests import make_judge_request, make_plan_request

BODY = make_judge_request()


def collect_errors(body, limits=None):
    with pytest.raises(InvalidRequestError) as error:
        judge_losses(body, limits)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def change_body(*path, to):
    body = copy.deepcopy(BODY)
    here = body
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = to
    return body


@pytest.mark.parametrize("kind", ["random", "coordinates"])
def test_a_right_gradient_passes(kind):
    report = judge_losses(make_judge_request(kind))
    assert report["outcome"] == "pass"
    assert set(report["verdicts"]) == {"w1", "b"}
    for verdict in report["verdicts"].values():
        assert all(direction["outcome"] == "pass" for direction in verdict["directions"])
        assert verdict["missed"]["single_element"]["relative_error"] == 1e-4
    assert 0 < report["noise"] < 1e-15
    assert report["deterministic"]


def test_a_wrong_sign_fails_and_is_named():
    report = judge_losses(change_body("candidate", "w1", to=[[-x for x in row] for row in BODY["candidate"]["w1"]]))
    assert (report["outcome"], report["verdicts"]["b"]["outcome"]) == ("fail", "pass")
    assert report["verdicts"]["w1"]["diagnoses"][0]["name"] == "sign_flipped"
    assert "-1 times" in report["summary"]


def test_the_order_of_the_fields_changes_nothing():
    body = copy.deepcopy(BODY)
    for part in ("point", "scale", "checks"):
        items = list(body["plan"][part].items())
        random.Random(0).shuffle(items)
        body["plan"][part] = dict(items)
    assert judge_losses(body) == judge_losses(BODY)


ALTERED = {
    "the seed": ("seed", "4", "/plan/seed"),
    "the kind": ("directions", {"kind": "coordinates", "count": 4}, "/plan/directions"),
    "more of them": ("directions", {"kind": "random", "count": 5}, "/plan/directions"),
    "very many": ("directions", {"kind": "random", "count": 2**31 - 1}, "/plan/directions/count"),
    "the scale": ("scale", {"w1": 0.25, "b": 0.25}, "/plan/scale/w1"),
    "no scale": ("scale", {}, "/plan/scale/w1"),
    "the count": ("evaluations", 7, "/plan/evaluations"),
    "the order": ("order", ["b", "w1"], "/plan/order"),
    "a name twice": ("order", ["w1", "b", "b"], "/plan/order"),
    "a name left out": ("order", ["w1"], "/plan/order"),
    "the version": ("version", 1, "/plan/version"),
    "no checks": ("checks", {}, "/plan/seed"),
    "a seed too large": ("seed", "9999999999999999999", "/plan/seed"),
    "no seed": ("seed", "x", "/plan/seed"),
}


@pytest.mark.parametrize(("part", "value", "place"), ALTERED.values(), ids=ALTERED)
def test_an_altered_plan_is_refused_where_it_was_altered(part, value, place):
    assert place in collect_errors(change_body("plan", part, to=value))


def test_a_moved_point_is_refused():
    wrong = change_body("plan", "point", "b", "b64", to="AAAAPwAAgD8=")
    assert "/plan/point/b" in collect_errors(wrong)


WRONG = {
    "too few losses": (("losses",), [1.0], "/losses"),
    "NaN": (("losses", 20), "NaN", "/losses/20"),
    "text": (("losses", 3), "one", "/losses/3"),
    "null at the base": (("losses", 0), None, "/losses/0"),
    "a tolerance": (("tolerance",), {"rtol": -1.0}, "/tolerance/rtol"),
    "an unknown tolerance": (("tolerance",), {"rtl": 1.0}, "/tolerance/rtl"),
    "too large": (("losses", 3), 10**400, "/losses/3"),
    "a shape": (("candidate", "b"), [1.0], "/candidate/b"),
    "an unknown name": (("candidate", "c"), [1.0], "/candidate/c"),
    "integers": (("candidate", "b"), {"datatype": "INT64", "shape": [2], "data": [1, 2]}, "/candidate/b"),
}


@pytest.mark.parametrize(("path", "value", "place"), WRONG.values(), ids=WRONG)
def test_invalid_judge_request_is_refused_at_its_place(path, value, place):
    assert place in collect_errors(change_body(*path, to=value))


def test_a_missing_candidate_is_refused():
    assert "/candidate/b" in collect_errors(BODY | {"candidate": {"w1": BODY["candidate"]["w1"]}})


def test_the_limits_hold_for_a_plan_that_is_handed_in():
    assert "/plan/directions/count" in collect_errors(BODY, Limits(elements=10))
    assert "/plan/point" in collect_errors(BODY, Limits(names=1))


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
ANY = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@settings(
    max_examples=settings.default.max_examples * 3 // 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(part=st.sampled_from(sorted(BODY["plan"])), value=ANY)
def test_any_value_in_a_plan_is_judged_or_refused(part, value):
    with contextlib.suppress(InvalidRequestError):
        judge_losses(change_body("plan", part, to=value))


BOUNDED = make_judge_request(
    "coordinates", bounds={"b": {"min": [0.5, -1], "max": 1}}, scale={"w1": 0.01, "b": [1, 0.5]}
)


def test_a_plan_with_bounds_is_opened_as_it_was_sealed():
    assert judge_losses(BOUNDED)["outcome"] == "pass"
    off = copy.deepcopy(BOUNDED)
    off["candidate"]["b"][0] *= 1.001
    assert [direction["outcome"] for direction in judge_losses(off)["verdicts"]["b"]["directions"]] == ["fail", "pass"]


@pytest.mark.parametrize(
    ("part", "value", "place"),
    [
        ("bounds", {"b": {"min": [0.25, -1], "max": 1}}, "/plan/bounds/b"),
        ("bounds", {}, "/plan/checks"),
        ("bounds", {"b": {"min": 0.75}}, "/plan/bounds/b"),
        ("bounds", {"b": {"mn": 0}}, "/plan/bounds/b/mn"),
        ("bounds", {"c": {"min": 0}}, "/plan/bounds/c"),
        ("scale", {"w1": 0.01, "b": [1, 0.25]}, "/plan/scale/b"),
        ("scale", {"w1": 2**-7, "b": [1, 0.75]}, "/plan/scale/b"),
    ],
)
def test_altered_bounds_and_scales_are_refused(part, value, place):
    body = copy.deepcopy(BOUNDED)
    body["plan"][part] = value
    assert place in collect_errors(body)


SIDE = ANY | st.floats() | st.lists(st.floats(), min_size=2, max_size=2)


@settings(max_examples=settings.default.max_examples * 3 // 2, deadline=None)
@given(st.sampled_from(["bounds", "scale"]), st.none() | st.dictionaries(st.sampled_from(["b", "w1", "c"]), SIDE), SIDE)
def test_any_bounds_and_scale_are_planned_or_refused(field, named, side):
    sides = {"bounds": {"b": {"min": side}, "w1": {"max": side}}, "scale": {"b": side}}
    for value in (named, sides[field]):
        body = make_plan_request("coordinates", **{field: value})
        with contextlib.suppress(InvalidRequestError):
            assert plan_evaluations(body).evaluations
        with contextlib.suppress(InvalidRequestError):
            judge_losses({**BOUNDED, "plan": BOUNDED["plan"] | {field: value}})
