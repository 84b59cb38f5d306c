import numpy as np
import pytest

from service.checks.common.limits import Limits
from service.checks.common.stage_timer import StageTimer
from service.checks.graph import model_language
from service.checks.graph.budget import plan_within_limits
from service.checks.graph.gradients import compute_gradients
from service.checks.graph.problem import build_problem
from service.numerics.core.interrupts import OutOfTimeError


def differentiate_all(body, limits=None, told=None):
    limits = limits or Limits()
    problem, watch = build_problem(model_language.parse_check_request(body)), StageTimer()
    with np.errstate(all="ignore"):
        return compute_gradients(problem, plan_within_limits(problem, limits), watch, limits, told), watch


def test_gradient_sources_have_every_name_and_agree(example):
    routes, watch = differentiate_all(example)
    for name in example["weights"]:
        by_hand, by_torch = routes.compute_own_gradients(name).values()
        np.testing.assert_allclose(by_hand, by_torch, rtol=1e-12)
        np.testing.assert_allclose(routes.differences[name].value, by_hand, rtol=1e-9)
    assert set(watch.stage_seconds) >= {"analytic", "autograd", "finite_difference"}


def test_directional_check_has_no_differences_by_element(example):
    routes, _ = differentiate_all(example | {"finite_difference": {"projections": 3, "joint": False}})
    assert np.isnan(routes.differences["w1"].value).all()
    along = routes.directional_differences["w1"]
    np.testing.assert_allclose(
        along.difference.value, along.project_gradient(routes.analytic.gradients["w1"]), rtol=1e-9
    )


def test_last_progress_reports_completion(example):
    told = []
    routes, _ = differentiate_all(example, told=lambda name, done, total: told.append((name, done, total)))
    assert told[-1] == ("w2", routes.evaluations, routes.evaluations)


def test_gradients_end_with_an_error_at_the_time_limit(example):
    with pytest.raises(OutOfTimeError):
        differentiate_all(example, Limits(seconds=0))
