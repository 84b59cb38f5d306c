"""Products of both modes agree to rounding; a difference beyond that is a finding."""

import numpy as np
import pytest

from service.numerics.blackbox.dot_test import ProductPair, run_dot_test
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.stated_derivatives import draw_directions, make_point
from tests.service.numerics.blackbox.test_output_judge import draw_case
from tests.service.numerics.blackbox.vector_functions import list_tangents, make_judge

FP64 = PRECISIONS["FP64"]


@pytest.mark.parametrize("random", [True, False])
def test_both_modes_of_a_function_agree_to_rounding(random):
    for seed in range(20):
        function, x, cotangent = draw_case(seed)
        judge, layout = make_judge(function.evaluate, x, random=random, seed=seed)
        jacobian = function.differentiate(x)
        products, gradient = list_tangents(layout) @ jacobian.T, cotangent @ jacobian
        assert judge.run_dot_test("x", cotangent, gradient, products, FP64).outcome == Outcome.PASS
        wrong = judge.run_dot_test("x", cotangent, gradient * (1 + 1e-8), products, FP64)
        assert wrong.outcome == Outcome.FAIL
        assert abs(wrong.vjp - wrong.jvp) > wrong.allowed
        products[0, 0] = np.nan
        assert judge.run_dot_test("x", cotangent, gradient, products, FP64).outcome == Outcome.INCONCLUSIVE


def test_the_worst_direction_is_reported():
    point = make_point(np.ones(2))
    lines = draw_directions(point, 3)
    jacobian, cotangent = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 0.0])
    products = jacobian @ lines.directions.T
    products[0, 1] += 1e-3
    products[1, 2] = np.inf
    result = run_dot_test(lines, point, ProductPair(cotangent, np.ones(2), jacobian[0], products, FP64))
    assert result.direction == 1
    assert result.jvp - result.vjp == pytest.approx(1e-3)
    assert result.outcome == Outcome.FAIL


def test_dot_test_of_zero_cotangents_agrees():
    point = make_point(np.ones(2))
    pair = ProductPair(np.zeros(2), np.ones(2), np.zeros(2), np.ones((2, 3)), FP64)
    assert run_dot_test(draw_directions(point, 3), point, pair).outcome == Outcome.PASS
