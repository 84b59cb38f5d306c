import numpy as np
import pytest

from service.numerics import ties
from service.numerics.ties import JudgedRows
from tests.service.numerics.ties.tied_models import make_maximum, make_nested, make_tie_point


def judge_candidate(at, judged, kinks=True, directions=None, allowed=1e-13):
    judged = np.array(judged, np.float64)
    ones = np.ones(judged.shape, np.bool_)
    rows = JudgedRows(judged, np.full(judged.shape, allowed), ones & kinks, ones, directions)
    return ties.judge_at_ties(at, {"x": rows}, 1)["x"]


@pytest.mark.parametrize("candidate", [[3, 0, 0], [0, 3, 0], [1.5, 1.5, 0], [1, 2, 0], [0.3, 2.7, 0]])
def test_weights_that_sum_to_one_explain_a_maximum(candidate):
    standing = judge_candidate(make_maximum([2.0, 2.0, 1.0]), candidate)
    assert standing.excused[:2].all()
    assert not (standing.undecided | standing.impossible).any()


@pytest.mark.parametrize("candidate", [[3, 3, 0], [0, 0, 0], [1, 1, 0]])
def test_weights_that_do_not_explain_none(candidate):
    standing = judge_candidate(make_maximum([2.0, 2.0, 1.0]), candidate)
    assert standing.impossible[:2].all()
    assert not standing.reachable[:2].any()


def test_tie_of_judged_arithmetic_alone_excuses_and_accuses_no_element():
    at = make_maximum([2.0, 2.0, 1.0])
    wrong = judge_candidate(at, [3, 3, 0], kinks=False)
    assert not (wrong.impossible | wrong.undecided | wrong.reachable).any()
    assert judge_candidate(at, [1, 2, 0], kinks=False).reachable[:2].all()


def test_products_of_choices_stay_undecided_if_none_is_found():
    at = make_nested([0.0, 0.0, -2.0])
    assert judge_candidate(make_nested([2.0, -2.0]), [3, 0]).excused.all()
    assert not judge_candidate(at, [0, 0, -3]).undecided.any()
    assert judge_candidate(make_nested([0.0, 0.0]), [0.4, -0.7]).excused.all()
    assert judge_candidate(make_nested([0.0, 0.0]), [2.0, -2.0]).undecided.all()


def test_unreachable_kink_stays_open_unless_it_is_a_known_one():
    at = make_tie_point([("y", "tanh", ("x",), {}), ("loss", "sum", ("y",), {})], {"x": [0.0]})
    assert not judge_candidate(at, [1.0]).undecided.any()
    assert judge_candidate(at, [0.9]).undecided.all()


def test_derivatives_close_to_a_smooth_point_do_not_reach_beyond_it():
    """relu(x) - relu(-x) = x: a slope of 0.5 or 2 is explained, and no derivative of anything nearby."""
    nodes = [
        ("n", "neg", ("x",), {}),
        ("a", "relu", ("x",), {}),
        ("b", "relu", ("n",), {}),
        ("d", "sub", ("a", "b"), {}),
    ]
    at = make_tie_point([*nodes, ("loss", "sum", ("d",), {})], {"x": [0.0]})
    assert judge_candidate(at, [1.0]).excused.all()
    for slope in (0.5, 2.0):
        standing = judge_candidate(at, [slope])
        assert standing.reachable.all()
        assert not standing.excused.any()
    assert judge_candidate(at, [2.5]).impossible.all()


def test_windows_that_share_an_element_may_each_choose_another():
    """max(x0, x1) - max(x0, x2): along x0 alone both sides are 0, and 1 is right beside -1 for x2."""
    at = make_tie_point(
        [("a", "maximum", ("x", "y"), {}), ("b", "maximum", ("x", "z"), {}), ("d", "sub", ("a", "b"), {}),
         ("loss", "sum", ("d",), {})],
        {"x": [0.0], "y": [0.0], "z": [0.0]},
    )  # fmt: skip
    one = np.ones(1, np.bool_)
    right = {"x": 1.0, "y": 0.0, "z": -1.0}
    rows = {name: JudgedRows(np.array([gradient]), np.full(1, 1e-13), one, one) for name, gradient in right.items()}
    assert all(judgement.excused.all() for judgement in ties.judge_at_ties(at, rows, 1).values())


def test_directions_fewer_than_choices_decide_conventions_alone():
    at = make_tie_point([("y", "abs", ("x",), {}), ("loss", "sum", ("y",), {})], {"x": [0.0] * 4})
    for count, decided in ((2, False), (5, True)):
        along = np.random.default_rng(count).normal(size=(count, 4))
        assert judge_candidate(at, along @ np.ones(4), directions=along).excused.all()
        assert judge_candidate(at, along @ [0.1, 0.2, 0.3, 0.4], directions=along).undecided.any() != decided
        assert judge_candidate(at, along @ [2.1, 0.2, 0.3, 0.4], directions=along).impossible.any() == decided
