import numpy as np
import pytest

from service.checking import language
from service.checking.budget import planned
from service.checking.differentiating import differentiated
from service.checking.question import Limits, posed
from service.checking.stopwatch import Stopwatch
from service.numerics.pausing import OutOfTimeError


def routes_of(body, limits=None, told=None):
    limits = limits or Limits()
    problem, watch = posed(language.parsed(body)), Stopwatch()
    with np.errstate(all="ignore"):
        return differentiated(problem, planned(problem, limits), watch, limits, told), watch


def test_all_routes_have_every_name_and_agree(example):
    routes, watch = routes_of(example)
    for name in example["weights"]:
        by_hand, by_torch = routes.own(name)
        np.testing.assert_allclose(by_hand, by_torch, rtol=1e-12)
        np.testing.assert_allclose(routes.differences[name].value, by_hand, rtol=1e-9)
    assert set(watch.stages) >= {"analytic", "autograd", "finite_difference"}


def test_along_directions_there_are_differences_along_these_and_none_by_element(example):
    routes, _ = routes_of(example | {"finite_difference": {"projections": 3}})
    assert np.isnan(routes.differences["w1"].value).all()
    along = routes.along["w1"]
    np.testing.assert_allclose(along.difference.value, along.of(routes.own("w1")[0]), rtol=1e-9)


def test_the_last_that_is_told_is_that_all_is_done(example):
    told = []
    routes, _ = routes_of(example, told=lambda name, done, total: told.append((name, done, total)))
    assert told[-1] == ("w2", routes.evaluations, routes.evaluations)


def test_out_of_time_it_ends(example):
    with pytest.raises(OutOfTimeError):
        routes_of(example, Limits(seconds=0))
