"""Right products pass and planted errors fail, output element by output element."""

import numpy as np
import pytest
import torch

from service.numerics.blackbox.layout import lay_out_evaluations
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.output_judge import OutputJudge
from service.numerics.blackbox.schedule import STEP_SCHEDULES
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit
from service.numerics.verdict.reference import Tolerance
from tests.service.numerics.blackbox.vector_functions import (
    lay_out,
    list_tangents,
    make_judge,
    make_saturating_layer,
)

FP64 = PRECISIONS["FP64"]
MIXED_SIZES = np.array([1e13, 1.0, 1e-3, 1.0, 1e5])


def draw_case(seed: int, sizes=1.0):
    generator = np.random.default_rng([seed, 1])
    return make_saturating_layer(seed, sizes), generator.normal(size=4), generator.normal(size=5)


def make_narrow_judge(function, x, scale, datatype):
    """Make the judge of a function in float64 whose outputs are rounded to a narrow datatype."""
    point = TensorPoint(x, STEP_SCHEDULES["FP64"], scale)
    layout = lay_out_evaluations({"x": point}, random=True, count=None, seed=0)
    values = np.array([function(each) for each in layout.stack_points("x")])
    rounded = torch.tensor(values).to(getattr(torch, datatype)).double().numpy()
    return OutputJudge(layout, rounded, 1e-4)


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_right_products_pass_and_errors_of_one_element_fail(seed, random):
    function, x, cotangent = draw_case(seed, MIXED_SIZES)
    judge, layout = make_judge(function.evaluate, x, random=random, seed=seed)
    jacobian = function.differentiate(x)
    products = list_tangents(layout) @ jacobian.T
    assert judge.judge_products(products, FP64).verdict.outcome == Outcome.PASS
    assert (
        judge.judge_gradients(cotangent, {"x": cotangent @ jacobian}, {"x": FP64})["x"].verdict.outcome == Outcome.PASS
    )
    wrong = products.copy()
    wrong[1, 2] *= 1.0001
    verdict = judge.judge_products(wrong, FP64).verdict
    assert verdict.outcome == Outcome.FAIL
    assert verdict.worst_elements[0].index == (1, 2)
    assert verdict.outcome_counts[Outcome.FAIL] == 1


@pytest.mark.parametrize("seed", range(25))
def test_a_jacobian_is_judged_element_by_element(seed):
    function, x, _ = draw_case(seed, MIXED_SIZES)
    judge, _ = make_judge(function.evaluate, x, random=False, seed=seed)
    jacobian = function.differentiate(x)
    right = judge.judge_jacobian("x", jacobian, FP64)
    assert right.verdict.outcome == Outcome.PASS
    assert right.verdict.smallest_detectable_error < 1e-6
    assert right.single_miss_probability == 0
    jacobian[2, 3] *= 1.0001
    wrong = judge.judge_jacobian("x", jacobian, FP64)
    assert wrong.verdict.outcome == Outcome.FAIL
    assert [result.index for result in wrong.verdict.worst_elements if result.outcome == Outcome.FAIL] == [(2, 3)]


def test_a_wrong_sign_in_a_small_element_shows_beside_a_large_one():
    """The scalar c . y would show nothing of an element of 1e-3 beside one of 1e13."""
    function, x, _ = draw_case(0, np.array([1e13, 1e-3, 1.0, 1.0, 1.0]))
    jacobian = function.differentiate(x)
    wrong = jacobian.copy()
    wrong[1] *= -1
    judge, layout = make_judge(function.evaluate, x, random=True)
    assert judge.judge_products(list_tangents(layout) @ wrong.T, FP64).verdict.outcome == Outcome.FAIL
    judge, _ = make_judge(function.evaluate, x, random=False)
    assert judge.judge_jacobian("x", wrong, FP64).verdict.outcome == Outcome.FAIL


def test_an_element_without_a_cotangent_has_no_part():
    function, x, cotangent = draw_case(1)
    cotangent[3] = 0.0

    def evaluate(point):
        values = function.evaluate(point)
        values[3] = np.nan
        return values

    judge, _ = make_judge(evaluate, x, random=True)
    gradient = cotangent @ function.differentiate(x)
    assert judge.judge_gradients(cotangent, {"x": gradient}, {"x": FP64})["x"].verdict.outcome == Outcome.PASS
    assert judge.judge_gradients(np.zeros(5), {"x": np.zeros(4)}, {"x": FP64})["x"].verdict.outcome == Outcome.PASS


@pytest.mark.parametrize("random", [True, False])
def test_an_element_without_a_value_at_the_base_is_not_decided(random):
    function, x, cotangent = draw_case(2)
    judge, layout = make_judge(
        lambda point: np.where(np.arange(5) == 3, np.inf, function.evaluate(point)), x, random=random
    )
    jacobian = function.differentiate(x)
    products = judge.judge_products(list_tangents(layout) @ jacobian.T, FP64)
    assert products.verdict.outcome == Outcome.INCONCLUSIVE
    outcomes = products.entries.outcomes.reshape(-1, 5)
    assert (outcomes == np.where(np.arange(5) == 3, Outcome.INCONCLUSIVE, Outcome.PASS)).all()
    gradient = judge.judge_gradients(cotangent, {"x": cotangent @ jacobian}, {"x": FP64})["x"]
    assert gradient.verdict.outcome == Outcome.INCONCLUSIVE


def test_levels_without_a_value_are_ignored():
    """A root that has none beyond 0: some elements lose some levels, and all are decided."""
    x = np.array([0.1, 3.0, 2.0])

    def evaluate(point):
        with np.errstate(invalid="ignore"):
            return np.array([np.sqrt(point[0] - 0.01), point[1] * point[2], np.sin(point).sum()])

    judge, layout = make_judge(evaluate, x, random=False)
    values = np.array([evaluate(point) for point in layout.stack_points("x")])
    assert np.isnan(values[:, 0]).any()
    jacobian = np.array([[0.5 / np.sqrt(0.09), 0, 0], [0, 2.0, 3.0], np.cos(x)])
    assert judge.judge_jacobian("x", jacobian, FP64).verdict.outcome == Outcome.PASS
    jacobian[0, 0] *= 1.001
    assert judge.judge_jacobian("x", jacobian, FP64).verdict.outcome == Outcome.FAIL


def test_random_products_state_the_largest_error_that_may_be_missed():
    function, x, _ = draw_case(3)
    judge, layout = make_judge(function.evaluate, x, random=True)
    verdict = judge.judge_products(list_tangents(layout) @ function.differentiate(x).T, FP64).verdict
    assert isinstance(verdict.detection_limit, NormDetectionLimit)
    assert verdict.detection_limit.relative_l2 < 1e-6
    assert verdict.detection_limit.probability <= 1e-3


def test_products_of_zeros_pass_beside_a_constant_and_fail_beside_another():
    x = np.array([0.3, 0.4])
    judge, _ = make_judge(lambda point: np.ones(2), x, random=True)
    assert judge.judge_products(np.zeros((4, 2)), FP64).verdict.outcome == Outcome.PASS
    judge, _ = make_judge(np.sin, x, random=True)
    assert judge.judge_products(np.zeros((4, 2)), FP64).verdict.outcome == Outcome.FAIL


def test_a_tolerance_replaces_the_allowance():
    function, x, cotangent = draw_case(4)
    layout = lay_out(x, random=False)
    values = np.array([function.evaluate(point) for point in layout.stack_points("x")])
    jacobian = 1.01 * function.differentiate(x)
    for rtol, outcome in ((0.02, Outcome.PASS), (0.005, Outcome.FAIL)):
        judge = OutputJudge(layout, values, 1e-4, Tolerance(rtol, 0.0))
        assert judge.judge_jacobian("x", jacobian, FP64).verdict.outcome == outcome
        assert judge.judge_products(jacobian.T, FP64).verdict.outcome == outcome
        judged = judge.judge_gradients(cotangent, {"x": cotangent @ jacobian}, {"x": FP64})["x"]
        assert judged.verdict.outcome == outcome


def test_factors_and_lower_precisions_are_named():
    function, x, _ = draw_case(5)
    judge, _ = make_judge(function.evaluate, x, random=False)
    jacobian = function.differentiate(x)
    flipped = judge.judge_jacobian("x", -jacobian, FP64)
    assert flipped.diagnosis is not None
    assert flipped.diagnosis.bug_name == "sign_flipped"
    narrow = judge.judge_jacobian("x", jacobian.astype(np.float32), FP64)
    assert narrow.verdict.outcome == Outcome.FAIL
    assert '"candidate_dtype": "FP32"' in narrow.verdict.reason
    assert judge.judge_jacobian("x", jacobian.astype(np.float32), PRECISIONS["FP32"]).verdict.outcome == Outcome.PASS


def test_random_functions_are_reported():
    generator = np.random.default_rng(0)
    judge, _ = make_judge(lambda point: point + 0.1 * generator.normal(size=2), np.array([0.3, 0.4]), random=False)
    judgement = judge.judge_jacobian("x", np.eye(2), FP64)
    assert judgement.verdict.outcome == Outcome.INCONCLUSIVE
    assert "the seed of what it draws" in judgement.verdict.reason
    assert judgement.noise == pytest.approx(0.1, rel=0.9)


@pytest.mark.parametrize("size", [1e308, 5e-324])
def test_products_at_the_ends_of_the_range_raise_no_warning(size):
    """Their slack over their size leaves the range; warnings are errors here."""
    function, x, _ = draw_case(0)
    judge, layout = make_judge(function.evaluate, x, random=True)
    products = np.full((len(list_tangents(layout)), 5), size)
    assert judge.judge_products(products, FP64).verdict.outcome != Outcome.PASS


@pytest.mark.parametrize("datatype", ["float16", "bfloat16"])
@pytest.mark.parametrize("seed", range(10))
def test_a_right_product_of_narrow_numbers_is_not_called_wrong(seed, datatype):
    """Near points have the same sum of them, and small moves too: neither shows the rounding."""
    function, x, cotangent = draw_case(seed)
    gradient = cotangent @ function.differentiate(x)
    for scale in (0.5, 0.5 * 2.0**-5, 0.5 * 2.0**-10):
        judge = make_narrow_judge(function.evaluate, x, scale, datatype)
        outcome = judge.judge_gradients(cotangent, {"x": gradient}, {"x": FP64})["x"].verdict.outcome
        assert outcome != Outcome.FAIL


def test_a_product_of_narrow_numbers_with_another_sign_is_called_wrong():
    function, x, cotangent = draw_case(0)
    gradient = cotangent @ function.differentiate(x)
    judge = make_narrow_judge(function.evaluate, x, 8.0, "float16")
    assert judge.judge_gradients(cotangent, {"x": -gradient}, {"x": FP64})["x"].verdict.outcome == Outcome.FAIL
