"""Sums of rounded parts: right gradients do not fail, zeros do not pass, and the noise is that of the parts."""

import numpy as np
import pytest
import torch

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.blackbox.function_differences import difference_output
from service.numerics.blackbox.noise import find_loss_format
from service.numerics.blackbox.stair_noise import estimate_stair_deviation
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import make_layout

DATATYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def round_parts(parts, datatype):
    return torch.tensor(parts).to(DATATYPES[datatype]).double().numpy()


def draw_case(seed, size=None):
    """A point, weights, and the gradient of a weighted sum of sines."""
    generator = np.random.default_rng(seed)
    size = size or int(generator.integers(1, 9))
    x, weights = generator.normal(size=size), generator.normal(size=size)
    return x, weights, weights * np.cos(x)


def evaluate(loss, x, layout):
    return np.array([float(loss(point)) for point in layout.stack_points("w")])


def judge(losses, gradient, layout):
    return judge_candidates(layout, losses, {"w": gradient}, {"w": PRECISIONS["FP64"]}, 1e-4)[1]["w"]


def estimate(losses, layout):
    roundoff = find_loss_format(losses).unit_roundoff
    near, lines = layout.select_near_losses("w", losses), layout.select_tensor_losses("w", losses)
    return estimate_stair_deviation(layout, "w", near, lines, losses[0], roundoff)


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("point_datatype", ["FP64", "FP32"])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_right_gradients_beside_rounded_parts_do_not_fail_and_zeros_do_not_pass(datatype, point_datatype, random):
    flipped = []
    for seed in range(20):
        x, weights, gradient = draw_case(seed)
        layout = make_layout(x, point_datatype, random=random, seed=seed)
        losses = evaluate(lambda point, w=weights: w @ round_parts(np.sin(point), datatype), x, layout)
        right, zero, flip = (
            judge(losses, candidate, layout).verdict.outcome for candidate in (gradient, 0 * gradient, -gradient)
        )
        assert right == Outcome.INCONCLUSIVE
        assert zero != Outcome.PASS
        assert flip != Outcome.PASS
        flipped.append(flip)
    assert flipped.count(Outcome.FAIL) >= 8


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("point_datatype", ["FP64", "FP32"])
def test_unrounded_parts_are_no_stairs_and_stay_decided(point_datatype, random):
    for seed in range(10):
        x, weights, gradient = draw_case(seed)
        x = x.astype(np.float32).astype(float)
        gradient = weights * np.cos(x)
        layout = make_layout(x, point_datatype, random=random, seed=seed)
        losses = evaluate(lambda point, w=weights: w @ np.sin(point), x, layout)
        assert estimate(losses, layout) == 0
        assert judge(losses, gradient, layout).verdict.outcome == Outcome.PASS
        assert judge(losses, -gradient, layout).verdict.outcome == Outcome.FAIL


@pytest.mark.parametrize("datatype", DATATYPES)
def test_the_noise_is_that_of_the_parts(datatype):
    """Their errors are measured at points all over the reach of the steps."""
    for seed in range(10):
        x, weights, _ = draw_case(seed, 6)
        layout = make_layout(x, seed=seed)
        losses = evaluate(lambda point, w=weights: w @ round_parts(np.sin(point), datatype), x, layout)
        points = x + np.random.default_rng(seed).uniform(-1 / 8, 1 / 8, (2000, 6))
        errors = (round_parts(np.sin(points), datatype) - np.sin(points)) @ weights
        assert 0.4 * errors.std() < estimate(losses, layout) < 6 * errors.std()


def test_stairs_that_every_coarse_step_meets_at_the_same_place_have_their_height():
    """Nothing is left by a cubic: powers of two are steps of a number that is rounded to some."""
    x = np.array([0.6])
    layout = make_layout(x, random=False)
    losses = evaluate(lambda point: 0.7 * round_parts(point, "bfloat16").sum(), x, layout)
    height = 0.7 * 2.0**-8
    assert height / 12**0.5 <= estimate(losses, layout) * 1.001 <= 8 * height / 12**0.5
    outcomes = [judge(losses, np.array([slope]), layout).verdict.outcome for slope in (0.7, 0.0, -1.4)]
    assert outcomes == [Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE, Outcome.FAIL]


NO_STAIRS = {
    "float32 inside": lambda x: np.sin(x).astype(np.float32).astype(float).sum(),
    "float32": lambda x: float(np.float32(np.sin(x).sum())),
    "a cubic without a slope": lambda x: 1 + ((x - X) ** 3).sum(),
    "at a minimum": lambda x: 1 + ((x - X) ** 2).sum(),
    "constant": lambda _: 1.0,
    "a kink at the base": lambda x: max(x[0] - X[0], 0.0),
}
X = np.array([0.3, -1.2, 0.8])


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("loss", NO_STAIRS.values(), ids=NO_STAIRS)
def test_other_losses_that_stay_the_same_near_by_are_no_stairs(loss, random):
    for seed in range(5):
        layout = make_layout(X, random=random, seed=seed)
        assert estimate(evaluate(loss, X, layout), layout) == 0


def test_stairs_wider_than_most_steps_are_told_from_a_kink():
    """Both are constant at a quarter of the largest step. Beyond a kink the loss grows, and on a stair it does not."""
    x = np.array([0.98])
    layout = make_layout(x, random=False)
    losses = {
        "stairs to both sides": lambda point: 1 + 0.1 * np.round(point / 0.1).sum(),
        "one stair": lambda point: 1 + 0.1 * (point > 1.02).sum(),
        "a kink": lambda point: 1 + np.maximum(point - 1.02, 0).sum(),
    }
    deviations = {name: float(estimate(evaluate(loss, x, layout), layout)) for name, loss in losses.items()}
    assert deviations["stairs to both sides"] >= 0.1 / 12**0.5
    assert deviations["one stair"] >= 0.1 / 12**0.5
    assert deviations["a kink"] == 0


def test_points_in_a_narrow_datatype_show_the_noise_themselves():
    x = np.array([0.5, -1.5, 0.75])
    layout = make_layout(x, "BF16")
    losses = evaluate(lambda point: round_parts(np.sin(point), "bfloat16").sum(), x, layout)
    assert estimate(losses, layout) == 0


@pytest.mark.parametrize("missing", [False, True])
def test_elements_of_an_output_have_stairs_of_their_own(missing):
    """One is rounded and one is not; the noise of each is its own, also where values are missing here and there."""
    x = np.array([0.3, -1.2, 0.8])
    layout = make_layout(x, random=False)
    points = layout.stack_points("w")
    values = np.stack([round_parts(np.sin(points), "bfloat16").sum(axis=1), np.sin(points).sum(axis=1)], axis=1)
    if missing:
        values[-1, 0] = values[-2, 1] = np.nan
    differences = difference_output(layout, "w", values)
    assert differences.noise.part_deviation[0] > 2.0**-10
    assert differences.noise.part_deviation[1] == 0
    bounds = differences.derivatives.bound
    assert (np.abs(differences.derivatives.value - np.cos(x)) <= bounds).all()
    assert (bounds[1] < 1e-6).all()
