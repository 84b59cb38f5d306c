"""Right float32 gradients are not refused, those with cancellation among them, and wrong ones do not pass."""

from collections import Counter

import numpy as np
import pytest

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.blackbox.layout import lay_out_evaluations
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.loss_families import LOSS_FAMILIES, LeastSquaresLoss, PerceptronLoss
from tests.service.numerics.blackbox.smooth_losses import make_point

pytestmark = pytest.mark.no_cover


def judge_problem(problem, candidates, arithmetic, random, seed):
    points = {name: make_point(values, "FP32", random=random) for name, values in problem.point.items()}
    layout = lay_out_evaluations(points, random=random, count=None, seed=seed)
    losses = problem.loss({name: layout.stack_points(name) for name in points}, arithmetic).astype(float)
    _, results = judge_candidates(layout, losses, candidates, dict.fromkeys(points, PRECISIONS["FP32"]), 1e-4)
    return results


def count_outcomes(family, count, arithmetic, random, change=None, seed=77):
    generator, counts = np.random.default_rng(seed), Counter()
    for number in range(count):
        problem = family(generator)
        candidates = {name: array.astype(float) for name, array in problem.gradient(np.float32).items()}
        for name in candidates if change else ():
            changed = candidates[name].ravel()
            at = int(np.abs(changed).argmax())
            changed[at] = change(changed[at])
        counts.update(
            results.verdict.outcome
            for results in judge_problem(problem, candidates, arithmetic, random, number).values()
        )
    return counts


def test_right_float32_gradients_are_not_refused():
    """600 problems, over 1,000 tensors; the loss in float32 or in float64, which sees every error of the gradient."""
    counts = Counter()
    for family in LOSS_FAMILIES:
        for arithmetic in (np.float32, np.float64):
            for random in (False, True):
                of_family = count_outcomes(family, 30, arithmetic, random)
                counts += of_family
                if family is not LeastSquaresLoss:
                    assert of_family[Outcome.PASS] >= 0.85 * of_family.total()
    assert counts.total() > 1000
    assert counts[Outcome.FAIL] <= 3


@pytest.mark.parametrize("change", [lambda c: 0.0, lambda c: -c, lambda c: 2 * c, lambda c: 1.05 * c])
@pytest.mark.parametrize("random", [True, False])
def test_wrong_ones_do_not_pass(random, change):
    for family in LOSS_FAMILIES:
        counts = count_outcomes(family, 8, np.float64, random, change)
        assert counts[Outcome.PASS] == 0
        if family is PerceptronLoss:
            assert counts[Outcome.FAIL] == counts.total()
