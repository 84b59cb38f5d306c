import dataclasses

import numpy as np

from service.checks.graph.check import check
from service.checks.graph.gradient_sources import DirectionalDifference
from service.numerics.gradients.analytic import differentiate_analytically
from service.numerics.gradients.finite_difference import make_unexamined_difference
from service.numerics.gradients.sources import GRADIENT_SOURCES, GradientSource
from tests.solved_problems import solve_preset


def test_the_gradients_stand_side_by_side():
    routes = solve_preset("logistic_regression").routes
    by_hand, by_torch = routes.compute_own_gradients("w").values()
    np.testing.assert_allclose(by_hand, by_torch, rtol=1e-12)
    assert routes.evaluations == sum(difference.evaluations for difference in routes.differences.values()) > 0


def test_along_directions_a_gradient_is_its_inner_products():
    along = DirectionalDifference(np.array([[1.0, 2.0], [0.0, -1.0]]), make_unexamined_difference((2,), 0))
    np.testing.assert_array_equal(along.project_gradient(np.array([3.0, 4.0])), [11.0, -4.0])
    nothing = along.project_rounding(np.zeros(2), [])
    np.testing.assert_array_equal(nothing, [0.0, 0.0])
    some = along.project_rounding(np.array([1e-9, 0.0]), [np.array([3.0, 4.0]), np.array([np.nan, 0.0])])
    assert (some >= [1e-9, 0.0]).all()
    assert some.max() < 3e-9


class ForwardMode:
    """A third source: the analytic gradients times a factor."""

    def __init__(self, factor):
        self._factor = factor

    def __call__(self, graph, leaves, names, dtype):
        result = differentiate_analytically(graph, leaves, dtype=dtype)
        gradients = {name: gradient * self._factor for name, gradient in result.gradients.items()}
        return dataclasses.replace(result, gradients=gradients)


def register_third(monkeypatch, factor):
    source = GradientSource("a third gradient was being computed", ForwardMode(factor))
    monkeypatch.setitem(GRADIENT_SOURCES, "third", source)


def test_a_third_source_that_is_right_passes_and_leaves_the_report_as_it_is(example, monkeypatch):
    before = check(example)
    register_third(monkeypatch, 1.0)
    after = check(example)
    assert after["cost"]["stages"].pop("third") > 0
    assert "third" in {worst["route"] for worst in after["verdicts"]["w1"]["worst"]}
    for report in (before, after):
        del report["cost"]["seconds"], report["cost"]["stages"]
        for verdict in report["verdicts"].values():
            del verdict["worst"]
    np.testing.assert_equal(after, before)


def test_a_third_source_that_is_wrong_is_judged_and_named_as_the_one_that_dissents(example, monkeypatch):
    register_third(monkeypatch, 1 + 1e-6)
    report = check(example)
    verdict = report["verdicts"]["w1"]
    assert report["outcome"] == verdict["outcome"] == "fail"
    assert {worst["route"] for worst in verdict["worst"] if worst["outcome"] == "fail"} == {"third"}
    assert "4 of 4 elements of the third gradient" in verdict["reason"]
    assert report["disputes"]["w1"] == [
        {"elements": 4, "agree": ["analytic", "autograd", "finite_difference"], "alone": ["third"]}
    ]


def test_no_candidate_is_judged_where_a_third_source_dissents(example, monkeypatch):
    candidate = {"candidate": {"w1": [[0.0, 0.0], [0.0, 0.0]]}}
    assert check(example | candidate)["verdicts"]["w1"]["outcome"] == "fail"
    register_third(monkeypatch, 1 + 1e-6)
    assert check(example | candidate)["verdicts"]["w1"]["outcome"] == "inconclusive"
