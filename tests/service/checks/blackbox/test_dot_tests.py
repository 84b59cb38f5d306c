"""Dot tests of products of one Jacobian."""

import numpy as np
import pytest

from service.checks.blackbox.dot_tests import DotTestSide, run_dot_test
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.reference import Tolerance

GENERATOR = np.random.default_rng(0)
JACOBIAN = GENERATOR.standard_normal((5, 7))
COTANGENT, TANGENTS = GENERATOR.standard_normal(5), GENERATOR.standard_normal((4, 7))


def run(jacobian=JACOBIAN, precision="FP64", tolerance=None, vjp=None):
    vjp = COTANGENT @ jacobian if vjp is None else vjp
    return run_dot_test(
        "y/w",
        DotTestSide(vjp[None], TANGENTS, PRECISIONS[precision]),
        DotTestSide(TANGENTS @ JACOBIAN.T, COTANGENT[None], PRECISIONS[precision]),
        tolerance,
    )


def test_products_of_one_jacobian_pass():
    test = run()
    assert (test["name"], test["outcome"]) == ("y/w", "pass")
    assert 0 < test["allowed"] < 1e-10


@pytest.mark.parametrize("error", [1e-10, 1e-4, -2.0])
def test_products_of_different_jacobians_fail(error):
    wrong = JACOBIAN.copy()
    wrong[2, 3] *= 1 + error
    test = run(wrong)
    assert test["outcome"] == "fail"
    assert test["direction"] in range(4)
    assert abs(test["vjp"] - test["jvp"]) > test["allowed"]


@pytest.mark.parametrize(("precision", "dtype"), [("FP32", np.float32), ("FP16", np.float16)])
def test_the_rounding_of_the_arithmetic_passes(precision, dtype):
    rounded = (COTANGENT @ JACOBIAN).astype(dtype).astype(float)
    assert run(vjp=rounded, precision=precision)["outcome"] == "pass"
    assert run(vjp=rounded)["outcome"] == "fail"


def test_a_tolerance_comes_on_top():
    wrong = 1.001 * JACOBIAN
    assert run(wrong)["outcome"] == "fail"
    assert run(wrong, tolerance=Tolerance(0.01, 0.0))["outcome"] == "pass"
    assert run(wrong, tolerance=Tolerance(0.0, 1.0))["outcome"] == "pass"


def test_a_product_that_is_not_finite_fails():
    vjp = COTANGENT @ JACOBIAN
    vjp[0] = np.nan
    assert run(vjp=vjp)["outcome"] == "fail"


def test_an_overflow_says_nothing_of_the_products():
    vjp = DotTestSide(1e200 * (COTANGENT @ JACOBIAN)[None], 1e200 * TANGENTS, PRECISIONS["FP64"])
    jvp = DotTestSide(1e200 * TANGENTS @ JACOBIAN.T, 1e200 * COTANGENT[None], PRECISIONS["FP64"])
    assert run_dot_test("y/w", vjp, jvp, None)["outcome"] == "inconclusive"


def test_zeros_agree():
    zero = np.zeros((1, 7))
    side = DotTestSide(zero, TANGENTS, PRECISIONS["FP64"])
    assert run_dot_test("y/w", side, side, None)["outcome"] == "pass"
