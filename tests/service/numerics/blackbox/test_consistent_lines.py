"""Near points and quiet lines tell what the differences of a line cannot, and nothing that is not so."""

import numpy as np
import pytest

from service.numerics.blackbox import candidate_judge, function_differences
from service.numerics.blackbox.consistent_lines import difference_consistently
from service.numerics.blackbox.function_differences import difference_functions
from service.numerics.blackbox.line_derivatives import difference_lines
from service.numerics.blackbox.noise import find_loss_format
from tests.service.numerics.blackbox.smooth_losses import (
    MAX_FREQUENCIES,
    add_noise,
    draw_smooth_loss,
    estimate_planned_noise,
    make_layout,
)
from tests.singular_losses import SINGULARITIES, VARIANTS, count_lines, judge_right_gradient

pytestmark = pytest.mark.no_cover
PROBLEMS = 20


def count_outcomes(variant):
    return count_lines(
        [
            line
            for kind in SINGULARITIES
            for seed in range(PROBLEMS)
            for line in judge_right_gradient(kind, variant, seed)
        ]
    )


def difference_alone(layout, name, losses, near_losses, base, noise):
    return difference_lines(layout, name, losses, base, noise)


def leave_tensors(layout, losses, noise_by_name, derivatives_by_name):
    return derivatives_by_name


@pytest.mark.long
@pytest.mark.parametrize("variant", VARIANTS)
def test_right_gradients_beside_singularities_seldom_fail_and_pass_as_before(variant, monkeypatch):
    """Beside differences by their lines alone, as a control: those have many bounds that are false."""
    together = count_outcomes(variant)
    monkeypatch.setattr(function_differences, "difference_consistently", difference_alone)
    monkeypatch.setattr(candidate_judge, "reconcile_tensors", leave_tensors)
    alone = count_outcomes(variant)
    assert together["passed"] == alone["passed"] > 0
    assert alone["failed"] > 0.01 * alone["lines"]
    assert alone["false"] > 0.1 * alone["bounded"]
    assert together["failed"] <= min(0.01 * together["lines"], alone["failed"] / 3)
    assert together["false"] <= alone["false"] / 2
    if variant == "elements":
        assert together["failed"] <= 0.1 * alone["failed"]
        assert together["false"] <= 0.1 * alone["false"]


def difference(losses, layout):
    return difference_functions(layout, "w", losses, find_loss_format(losses))[1]


@pytest.mark.parametrize("noise", [None, "normal", "uniform", "float32"])
@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize("random", [True, False])
def test_smooth_losses_keep_every_bound(random, datatype, noise):
    """100 of each kind: what their lines say is not changed, whatever the noise, if it is the same at the base."""
    for seed in range(100):
        generator = np.random.default_rng([seed, 3])
        n = int(generator.integers(1, 7))
        layout = make_layout(generator.normal(size=n), datatype, random=random, seed=seed)
        losses = draw_smooth_loss(generator, n, MAX_FREQUENCIES[datatype] / 10).loss(layout.stack_points("w"))
        if noise:
            losses = add_noise(losses, 10 ** generator.uniform(-12, -5), generator, noise)
            losses[1:3] = losses[0]
        planned = estimate_planned_noise(losses)
        tensor_losses, near = layout.select_tensor_losses("w", losses), layout.select_near_losses("w", losses)
        alone = difference_lines(layout, "w", tensor_losses, losses[0], planned)
        together = difference_consistently(layout, "w", tensor_losses, near, losses[0], planned)
        np.testing.assert_array_equal(together.bound, alone.bound, f"seed {seed}")


def test_a_root_that_only_its_value_at_the_base_shows_has_no_bound():
    """1e-12 from 0 the differences of sqrt|x - 1| vanish at all steps, beside the noise of the near points."""
    layout = make_layout(np.array([1 + 1e-12]), random=False)
    derivatives = difference(np.sqrt(np.abs(layout.stack_points("w")[:, 0] - 1)), layout)
    assert derivatives.bound[0] == np.inf


def test_one_element_beside_a_singularity_leaves_the_others_their_bounds():
    layout = make_layout(np.array([1 + 1e-9, 0.7, 1.4, 0.9]), random=False)
    points = layout.stack_points("w")
    derivatives = difference(np.cbrt(points[:, 0] - 1) + np.sin(points[:, 1:]).sum(axis=1), layout)
    assert derivatives.bound[0] == np.inf
    errors = np.abs(derivatives.value - np.cos(layout.points["w"].values))[1:]
    assert (errors <= derivatives.bound[1:]).all()
    assert (derivatives.bound[1:] < 1e-3).all()


@pytest.mark.parametrize("decimals", [3, 6, 9])
def test_near_points_on_one_stair_contradict_nothing(decimals):
    layout = make_layout(np.array([0.3, -1.2, 0.8]), random=False)
    losses = np.round(np.sin(layout.stack_points("w")).sum(axis=1), decimals)
    noise, together = difference_functions(layout, "w", losses, find_loss_format(losses))
    alone = difference_lines(layout, "w", layout.select_tensor_losses("w", losses), losses[0], noise)
    np.testing.assert_array_equal(together.bound, alone.bound)


def test_noise_that_jumps_takes_no_bounds_away():
    """A solver takes one step more or less: the losses jump by 1e-8 from point to point, and not between near ones."""
    kept = 0
    for seed in range(100):
        generator = np.random.default_rng([seed, 4])
        layout = make_layout(generator.normal(size=4), random=False, seed=seed)
        points = layout.stack_points("w")
        jumps = np.sign(np.sin(1e7 * points @ generator.normal(size=4)))
        losses = np.exp(points @ generator.normal(size=4) / 2) * (1 + 1e-8 * jumps)
        alone = difference_lines(
            layout,
            "w",
            layout.select_tensor_losses("w", losses),
            losses[0],
            estimate_planned_noise(losses),
        )
        kept += np.array_equal(np.isfinite(difference(losses, layout).bound), np.isfinite(alone.bound))
    assert kept >= 98
