"""The method `auto`: all elements where the limits allow, else random directions."""

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph.check import check
from service.checks.graph.model_language import parse_check_request
from service.checks.graph.parse import parse_problem
from service.checks.graph.suggestions import suggest_reductions
from service.rendering.text import render_text

SMALL = Limits(work=25 * 10**6)
"""Operations that allow directions of the body below, and not all elements."""


def make_body(**fields):
    """A layer of 4096 weights and one of 768."""
    generator = np.random.default_rng(3)
    nodes = [
        {"name": "hidden", "op": "linear", "inputs": ["x", "w"]},
        {"name": "active", "op": "tanh", "inputs": ["hidden"]},
        {"name": "mixed", "op": "linear", "inputs": ["active", "v"]},
        {"name": "loss", "op": "cross_entropy", "inputs": ["mixed", "labels"]},
    ]
    tensors = {"x": generator.normal(size=(8, 16)).tolist(), "labels": [0, 2, 1, 1, 0, 1, 2, 2]}
    weights = {
        "w": (generator.normal(size=(256, 16)) / 4).tolist(),
        "v": (generator.normal(size=(3, 256)) / 16).tolist(),
    }
    request = {"tensors": tensors, "weights": weights, "model": {"nodes": nodes}, "include": ["gradients"]}
    return request | {"finite_difference": {"method": "auto"}} | fields


def drop_times(report):
    return {part: content for part, content in report.items() if part not in ("cost", "finite_difference", "gradients")}


def test_all_elements_are_taken_where_the_limits_allow():
    report = check(make_body())
    assert report["finite_difference"] == {"method": "adaptive"}
    assert report["verdicts"]["w"]["elements"]["pass"] == 4096
    adaptive = check(make_body(finite_difference={"method": "adaptive"}))
    assert "finite_difference" not in adaptive
    assert drop_times(report) == drop_times(adaptive)


@pytest.mark.parametrize(("spec", "count"), [({}, 4), ({"projections": 2}, 2)])
def test_random_directions_are_taken_where_the_limits_do_not_allow_all_elements(spec, count):
    with pytest.raises(InvalidRequestError) as error:
        check(make_body(finite_difference={"method": "adaptive"}), SMALL)
    assert error.value.reason == "over-budget"
    report = check(make_body(finite_difference={"method": "auto", **spec}), SMALL)
    assert report["outcome"] == "pass"
    assert report["finite_difference"] == {"method": "adaptive", "projections": count}
    assert len(report["directions"]) == count
    along = check(make_body(finite_difference={"projections": count}), SMALL)
    assert drop_times(report) == drop_times(along)


def test_an_error_of_one_element_fails_along_the_directions_of_auto():
    gradient = np.array(check(make_body())["gradients"]["w"]["analytic"])
    row, column = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    assert check(make_body(candidate={"w": gradient.tolist()}), SMALL)["outcome"] == "pass"
    gradient[row, column] *= -1
    report = check(make_body(candidate={"w": gradient.tolist()}), SMALL)
    assert report["outcome"] == "fail"
    assert report["finite_difference"]["projections"] == 4


def test_a_check_over_the_limits_of_directions_is_refused():
    with pytest.raises(InvalidRequestError) as error:
        check(make_body(), Limits(work=10**4))
    assert error.value.reason == "over-budget"


def test_suggestions_are_those_of_the_adaptive_method():
    """A part in place of auto is estimated as what it is: directions are none of all elements."""
    problems = [parse(make_body(finite_difference={"method": method})) for method in ("auto", "adaptive")]
    auto, adaptive = (suggest_reductions(problem, Limits(work=10**9)) for problem in problems)
    assert auto == adaptive
    assert '{"projections": 100}' in auto


def parse(body):
    return parse_problem(body, Limits(), parse_check_request)[1]


@pytest.mark.parametrize("part", ["sample", "step"])
def test_auto_takes_neither_sample_nor_step(part):
    with pytest.raises(InvalidRequestError) as error:
        check(make_body(finite_difference={"method": "auto", part: 1}))
    assert [place["pointer"] for place in error.value.errors] == [f"/finite_difference/{part}"]
    assert "auto" in error.value.errors[0]["detail"]


@pytest.mark.parametrize(
    ("limits", "choice"), [(Limits(), "by auto of all elements,"), (SMALL, "by auto of 4 random directions,")]
)
def test_the_report_for_reading_says_what_auto_took(limits, choice):
    assert choice in " ".join(render_text(check(make_body(), limits)).split())
    assert "by auto" not in render_text(check(make_body(finite_difference={"method": "adaptive"})))
