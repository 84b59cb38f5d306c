"""The truth on operators that are named as wrong or as singular, and on ones that are not."""

import math

import pytest
import torch

from benchmarks.operator_samples import SECTIONS, OperatorSample, draw_samples, list_operators
from benchmarks.operator_tables import FORMULA_OFF, NO_DERIVATIVE
from benchmarks.operator_truth import (
    FORMULA_ERROR,
    TRUTHS,
    examine_section,
    has_derivative,
    measure_formula_error,
    measure_forward_error,
    take_judged_function,
)

# The first use of forward mode of some operators.
pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
]
BY_NAME = {section.name: section for section in SECTIONS}
FLOAT64 = BY_NAME["float64"]


def draw_named(name):
    (operator,) = [each for each in list_operators(FLOAT64) if each.formatted_name == name]
    return list(draw_samples(operator, FLOAT64, 0))


@pytest.mark.parametrize("name", sorted({operator for _, operator in FORMULA_OFF if operator in TRUTHS}))
def test_an_operator_with_a_formula_that_is_named_off_is_off(name):
    assert max(measure_formula_error(sample, TRUTHS[name]) for sample in draw_named(name)) > FORMULA_ERROR


@pytest.mark.parametrize(
    "name", sorted({operator for section, operator in FORMULA_OFF if section == "forward mode"} - TRUTHS.keys())
)
def test_forward_mode_that_is_named_off_is_off_by_backward_mode(name):
    assert max(map(measure_forward_error, draw_named(name))) > FORMULA_ERROR


def test_forward_mode_that_is_right_is_not_off():
    assert max(map(measure_forward_error, draw_named("linalg_cholesky"))) < 1e-12


def test_backward_mode_that_is_wrong_is_no_truth():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, gradient):
            return 1.0001 * gradient

        @staticmethod
        def jvp(ctx, tangent):
            return tangent.clone()

    point = torch.ones(2, dtype=torch.float64, requires_grad=True)
    sample = OperatorSample("made", Wrong.apply, (point,), nondet_tol=0.0)
    assert math.isnan(measure_forward_error(sample))


def test_a_right_formula_is_not_off():
    errors = [measure_formula_error(sample, TRUTHS["sigmoid"]) for sample in draw_named("sigmoid")]
    assert errors
    assert max(errors) < 1e-12


@pytest.mark.parametrize("name", sorted(NO_DERIVATIVE))
def test_an_operator_that_is_named_singular_has_no_derivative(name):
    assert not all(map(has_derivative, draw_named(name)))


@pytest.mark.parametrize("name", ["nn_functional_softmin", "norm", "round_decimals_3", "linalg_cholesky"])
def test_a_smooth_operator_and_a_staircase_have_a_derivative(name):
    samples = draw_named(name)
    assert samples
    assert all(map(has_derivative, samples))


def test_the_derivative_of_second_order_is_that_of_the_gradient():
    point = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    sample = OperatorSample("made", lambda x: x * x.abs(), (point,), nondet_tol=0.0)
    assert has_derivative(take_judged_function(sample, FLOAT64))
    assert not has_derivative(take_judged_function(sample, BY_NAME["second order"]))


def test_refused_and_undecided_samples_are_examined():
    refused = {"nn_functional_hardsigmoid[0]": "", "softmax[0]": ""}
    counts = {"others": {"refused": refused, "undecided": {"linalg_norm_subgradients_at_zero[0]": ""}}}
    findings = dict(examine_section(FLOAT64, counts, 0))
    assert findings["linalg_norm_subgradients_at_zero[0]"] == "undecided: has no derivative"
    assert findings["nn_functional_hardsigmoid[0]"].startswith("refused: off by 3.0e-08")
    assert findings["softmax[0]"] == "refused: no truth is known"
