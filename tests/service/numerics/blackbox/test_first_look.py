"""A first look is a part of its plan, and states the misses of the whole procedure."""

from dataclasses import replace

import numpy as np
import pytest

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.blackbox.first_look import combine_looks, list_first_evaluations, select_first_lines, suffices
from service.numerics.blackbox.layout import lay_out_evaluations
from service.numerics.blackbox.output_judge import OutputJudge
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import make_point

X = np.array([0.3, -1.1, 0.7])
LOSSES = {
    "smooth": (lambda x: np.sin(x).sum(), np.cos(X)),
    "kinked": (lambda x: np.abs(x - X).sum() + x.sum(), np.array([1.5, 0.5, 1.0])),
    "float32": (lambda x: float(np.float32(np.sin(x).sum())), np.cos(X)),
}


def lay_out(*, random: bool, tensors: int = 1, seed: int = 0):
    points = {f"w{number}": make_point(X) for number in range(tensors)}
    return lay_out_evaluations(points, random=random, count=None, seed=seed)


def judge(layout, loss, gradient, *, first):
    losses = np.array([loss(point) for point in layout.stack_points("w0")])
    if first:
        unseen = np.setdiff1d(np.arange(layout.evaluation_count), list_first_evaluations(layout))
        losses[unseen] = np.nan
        layout = select_first_lines(layout)
    return judge_candidates(layout, losses, {"w0": gradient}, {"w0": PRECISIONS["FP64"]}, 1e-4)[1]["w0"]


@pytest.mark.parametrize(("tensors", "count"), [(1, 23), (2, 35), (5, 71)])
def test_one_tensor_takes_23_evaluations_and_each_further_one_12(tensors, count):
    numbers = list_first_evaluations(lay_out(random=True, tensors=tensors))
    assert len(numbers) == len(set(numbers.tolist())) == count
    assert (np.diff(numbers) > 0).all()


def test_all_elements_are_moved_along_coordinates():
    layout = lay_out(random=False)
    assert len(list_first_evaluations(layout)) == 11 + 6 * X.size
    assert select_first_lines(layout).lines["w0"] is layout.lines["w0"]


@pytest.mark.parametrize("random", [True, False])
def test_a_smooth_loss_passes_at_once_and_any_error_goes_on(random):
    loss, gradient = LOSSES["smooth"]
    for seed in range(20):
        layout = lay_out(random=random, seed=seed)
        assert judge(layout, loss, gradient, first=True).verdict.outcome == Outcome.PASS
        wrong = gradient * np.array([1.0, 1.0001, 1.0])
        assert judge(layout, loss, wrong, first=True).verdict.outcome != Outcome.PASS


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("name", ["kinked", "float32"])
def test_kinks_and_noise_do_not_pass_at_once(name, random):
    loss, gradient = LOSSES[name]
    for seed in range(5):
        assert judge(lay_out(random=random, seed=seed), loss, gradient, first=True).verdict.outcome != Outcome.PASS


def test_misses_of_both_looks_add_up():
    loss, gradient = LOSSES["smooth"]
    layout = lay_out(random=True)
    first, whole = (judge(layout, loss, gradient, first=first) for first in (True, False))
    limits = [judgement.verdict.detection_limit for judgement in (first, whole)]
    both = combine_looks(whole, first, 1e-4)
    assert both.verdict.detection_limit.probability == sum(limit.probability for limit in limits)
    assert both.verdict.detection_limit.relative_l2 == max(limit.relative_l2 for limit in limits)
    assert both.verdict.smallest_detectable_error == both.verdict.detection_limit.relative_l2
    assert both.single_miss_probability == first.single_miss_probability + whole.single_miss_probability
    alone = combine_looks(first, first, 1e-4)
    assert alone.verdict.detection_limit.probability == 2 * limits[0].probability


def test_a_first_look_that_could_not_pass_missed_nothing():
    loss, gradient = LOSSES["float32"]
    layout = lay_out(random=True, seed=3)
    first, whole = (judge(layout, loss, gradient, first=first) for first in (True, False))
    if first.verdict.outcome == Outcome.INCONCLUSIVE:
        assert combine_looks(whole, first, 1e-4) is whole
    loss = lambda x: np.abs(x - X).sum() + x.sum()  # noqa: E731
    first = judge(layout, loss, gradient, first=True)
    assert first.verdict.outcome == Outcome.INCONCLUSIVE
    assert combine_looks(whole, first, 1e-4) is whole


def judge_jacobian(layout, function, jacobian, *, first):
    values = np.array([function(point) for point in layout.stack_points("w0")])
    if first:
        values[np.setdiff1d(np.arange(layout.evaluation_count), list_first_evaluations(layout))] = np.nan
        layout = select_first_lines(layout)
    return OutputJudge(layout, values, 1e-4).judge_jacobian("w0", jacobian, PRECISIONS["FP64"])


def draw_relu_network(seed, outputs=()):
    """A network with kinks at all distances, and its gradient or Jacobian."""
    generator = np.random.default_rng(seed)
    a, b, w = generator.normal(size=(64, 3)), generator.normal(size=64), generator.normal(size=(*outputs, 64))
    return (lambda x: w @ np.maximum(a @ x + b, 0)), (w * (a @ X + b > 0)) @ a


@pytest.mark.parametrize("random", [True, False])
def test_a_failure_at_the_first_look_is_no_pass_at_last(random):
    """The larger steps of the whole reach kinks, and pass it by wider bounds."""
    withheld = 0
    for seed in range(60):
        layout = lay_out(random=random, seed=seed)
        loss, gradient = draw_relu_network(seed)
        first, whole = (judge(layout, loss, (1 + 1e-8) * gradient, first=first) for first in (True, False))
        both = combine_looks(whole, first, 1e-4)
        if (first.verdict.outcome, whole.verdict.outcome) != (Outcome.FAIL, Outcome.PASS):
            assert both.verdict.outcome == whole.verdict.outcome
            continue
        withheld += 1
        assert both.verdict.outcome == Outcome.INCONCLUSIVE
        assert "the first evaluations disagree with the gradient" in both.verdict.reason
        failed = [line for line, result in enumerate(first.direction_results) if result.outcome == Outcome.FAIL]
        outcomes = [result.outcome for result in both.direction_results]
        assert [line for line, outcome in enumerate(outcomes) if outcome == Outcome.INCONCLUSIVE] == failed
        assert not both.is_promised[failed].any()
        if random:
            assert both.verdict.direction_results == both.direction_results
        else:
            counts = both.verdict.outcome_counts
            assert (counts[Outcome.PASS], counts[Outcome.INCONCLUSIVE]) == (X.size - len(failed), len(failed))
            undecided = {worst.index for worst in both.verdict.worst_elements if worst.outcome != Outcome.PASS}
            assert undecided == {(line,) for line in failed}
    assert withheld >= 3


def test_a_jacobian_that_fails_at_the_first_look_does_not_pass_at_last():
    withheld = 0
    for seed in range(60):
        layout = lay_out(random=False, seed=seed)
        function, jacobian = draw_relu_network(seed, outputs=(2,))
        first, whole, right = (
            judge_jacobian(layout, function, factor * jacobian, first=first)
            for factor, first in ((1 + 1e-8, True), (1 + 1e-8, False), (1, True))
        )
        both = combine_looks(whole, first, 1e-4)
        if (first.verdict.outcome, whole.verdict.outcome) == (Outcome.FAIL, Outcome.PASS):
            withheld += 1
            assert suffices(right, 1e-4)
            assert both.verdict.outcome == Outcome.INCONCLUSIVE
            assert sum(both.verdict.outcome_counts.values()) == jacobian.size
            assert both.verdict.outcome_counts[Outcome.INCONCLUSIVE] > 0
        else:
            assert both.verdict.outcome == whole.verdict.outcome
    assert withheld >= 2


def test_a_first_look_that_would_not_find_the_error_does_not_suffice():
    loss, gradient = LOSSES["smooth"]
    first = judge(lay_out(random=True), loss, gradient, first=True)
    assert suffices(first, 1e-4)
    blind = replace(first, single_miss_probability=2e-3)
    assert not suffices(blind, 1e-4)
    assert combine_looks(first, blind, 1e-4) is first


def test_a_gradient_of_zero_takes_no_more_evaluations():
    for random in (True, False):
        first = judge(lay_out(random=random), lambda _: 1.0, np.zeros(3), first=True)
        assert suffices(first, 1e-4)


def test_a_sample_of_elements_is_the_same_in_both_looks():
    loss, gradient = LOSSES["smooth"]
    layout = lay_out(random=False)
    first, whole = (judge(layout, loss, gradient, first=first) for first in (True, False))
    both = combine_looks(whole, first, 1e-4)
    assert both.verdict.detection_limit == whole.verdict.detection_limit
