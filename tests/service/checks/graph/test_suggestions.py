import json
import re

import pytest

from service.checks.common.limits import Limits
from service.checks.graph import cost_estimate
from service.checks.graph import suggestions as fitting
from service.checks.graph.check import check
from tests.service.checks.common.counting_clock import end_time_after_looks
from tests.service.checks.graph.sized_requests import draw_tensor, estimate_request, get_refusal, make_entangled_request


def make_limits_below(body, **limits):
    """Limits of which one is half of what a request would take."""
    estimate = estimate_request(body)
    return Limits(**{name: int(getattr(estimate, name) * part) for name, part in limits.items()})


def iterate_suggestions(detail):
    """Each way that is said to fit, as fields of a request."""
    assert "What would fit: " in detail
    for way in detail.split("What would fit: ")[1].split("; or "):
        if fewer := re.match(r"fewer tensors: (.*) alone would take about", way):
            yield {"with_respect_to": re.findall(r"'(\w+)'", fewer[1])}
        else:
            yield json.loads("{" + re.match(r"(.*) would take about", way)[1] + "}")


CASES = {
    "work": (make_entangled_request(60, 50), {"work": 0.5}),
    "little work": (make_entangled_request(60, 50), {"work": 0.3}),
    "bytes": (make_entangled_request(1500, 20), {"bytes": 0.98}),
    "a sample": (make_entangled_request(60, 50, finite_difference={"sample": 2000}), {"work": 0.5}),
    "directions": (make_entangled_request(100, 60, finite_difference={"projections": 600}), {"bytes": 0.8}),
}


@pytest.mark.parametrize(("body", "part"), CASES.values(), ids=CASES)
def test_suggested_size_fits(body, part):
    limits = make_limits_below(body, **part)
    ((place, detail),) = get_refusal(check, body, limits).items()
    asked = next(iter(body.get("finite_difference", {})), None)
    assert place == ("/with_respect_to" if asked is None else f"/finite_difference/{asked}")
    assert ("evaluations of the loss" in detail) == (asked != "projections"), "before a direction is drawn"
    assert f"the limit is {getattr(limits, next(iter(part))):.1e}" in detail
    ways = list(iterate_suggestions(detail))
    assert ways
    for way in ways:
        assert set(check(body | way, limits)["verdicts"]) <= {"w", "v"}, way


def test_more_than_the_suggested_size_does_not_fit():
    """A negative control: the numbers of tensors and elements are as large as they can be, to a power of ten."""
    body = make_entangled_request(60, 50)
    limits = make_limits_below(body, work=0.5)
    ways = list(iterate_suggestions(get_refusal(check, body, limits)["/with_respect_to"]))
    kinds = [next(iter(way.get("finite_difference", way))) for way in ways]
    assert kinds == ["with_respect_to", "sample", "projections"]
    everything = {"with_respect_to": list(body["weights"])}
    get_refusal(check, body | everything, limits)
    count = ways[1]["finite_difference"]["sample"]
    over = get_refusal(check, body | {"finite_difference": {"sample": 200 * count}}, limits)
    assert "/finite_difference/sample" in over


def test_tensors_with_a_candidate_are_not_left_out_of_what_would_fit():
    body = make_entangled_request(60, 50, candidate={"w": draw_tensor(60, 50)})
    limits = make_limits_below(body, work=0.5)
    for way in iterate_suggestions(get_refusal(check, body, limits)["/with_respect_to"]):
        assert "w" in way.get("with_respect_to", ["w"])
        check(body | way, limits)


def test_suggestion_says_when_no_size_fits(example):
    assert "Take a smaller model" in get_refusal(check, example, Limits(work=1000))["/with_respect_to"]
    assert "Take a smaller model" in get_refusal(check, example, Limits(bytes=1000))["/with_respect_to"]


@pytest.mark.parametrize("count", [10**5, 10**12, 10**30])
def test_any_number_of_directions_is_weighed_before_one_is_drawn(example, count):
    body = example | {"finite_difference": {"projections": count}}
    detail = get_refusal(check, body, Limits(bytes=10**8, work=10**9))["/finite_difference/projections"]
    assert {"finite_difference": {"projections": 100}} in list(iterate_suggestions(detail))


@pytest.mark.parametrize("fields", [{}, {"finite_difference": {"sample": 2000}}], ids=["all", "a sample"])
def test_suggested_size_fits_the_time_that_was_spent(fields):
    """Time that is over after so many looks at the clock; what is proposed takes so much fewer evaluations."""
    body = make_entangled_request(60, 50, **fields)
    with end_time_after_looks(6000):
        ((place, detail),) = get_refusal(check, body).items()
    assert place == ("/finite_difference/sample" if fields else "/with_respect_to")
    total, done = map(int, re.search(r"of the (\d+) evaluations for '\w', (\d+) were done", detail).groups())
    assert 0 < done < total
    ways = list(iterate_suggestions(detail))
    assert ways
    for way in ways:
        assert check(body | way)["cost"]["loss_evaluations"] <= done


def test_suggestion_says_when_no_time_is_enough(example):
    with end_time_after_looks(50):
        assert "Take a smaller model" in get_refusal(check, example)["/with_respect_to"]


def test_search_for_suggestions_takes_a_part_of_the_time():
    """However many ways there are: none is better than too late an answer."""
    body = make_entangled_request(60, 50)
    for looks in (1000, 3000):
        with end_time_after_looks(looks) as ticking:
            get_refusal(check, body)
        assert ticking.look_count < 1.3 * looks


def test_ways_are_planned_as_long_as_all_plans_together_are_quick(monkeypatch):
    body, made = make_entangled_request(60, 50), []
    planned = cost_estimate._plan_differences
    limits = make_limits_below(body, work=0.5)
    monkeypatch.setattr(cost_estimate, "_plan_differences", lambda problem: (made.append(problem), planned(problem))[1])
    everything = get_refusal(check, body, limits)["/with_respect_to"]
    assert len(made) > 2
    assert "What would fit" in everything
    monkeypatch.setattr(fitting, "_MAX_PLANNING_WORK", 0)
    made.clear()
    assert "Take a smaller model" in get_refusal(check, body, limits)["/with_respect_to"]
    assert len(made) == 1, "of the request itself"
