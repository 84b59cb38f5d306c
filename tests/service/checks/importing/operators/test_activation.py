"""Activations have the values of ONNX's reference evaluator."""

import numpy as np
import pytest
from scipy.special import ndtr

from tests.service.checks.importing.onnx_files import draw, evaluate_operator, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "Relu": ("Relu", [draw(3, 4)], {}),
    "Sigmoid": ("Sigmoid", [draw(3, 4)], {}),
    "Tanh": ("Tanh", [draw(3, 4)], {}),
    "Softplus": ("Softplus", [draw(3, 4)], {}),
    "LeakyRelu": ("LeakyRelu", [draw(3, 4)], {}),
    "Elu": ("Elu", [draw(3, 4)], {}),
    "Celu": ("Celu", [draw(3, 4)], {}),
    "Selu": ("Selu", [draw(3, 4)], {}),
    "HardSigmoid": ("HardSigmoid", [draw(3, 4)], {}),
    "Mish": ("Mish", [draw(3, 4)], {}),
    "Softsign": ("Softsign", [draw(3, 4)], {}),
    "Softmax": ("Softmax", [draw(3, 4)], {}),
    "LogSoftmax": ("LogSoftmax", [draw(3, 4)], {}),
    "Sinh": ("Sinh", [draw(3, 4)], {}),
    "Cosh": ("Cosh", [draw(3, 4)], {}),
    "Tan": ("Tan", [draw(3, 4)], {}),
    "Asinh": ("Asinh", [draw(3, 4)], {}),
    "Asin": ("Asin", [draw(3, 4, low=-0.5) / 2], {}),
    "Acos": ("Acos", [draw(3, 4, low=-0.5) / 2], {}),
    "Atan": ("Atan", [draw(3, 4)], {}),
    "Celu of 2": ("Celu", [draw(3, 4)], {"alpha": 2.0}),
    "PRelu": ("PRelu", [draw(3, 4), draw(4)], {}),
    "Swish": ("Swish", [draw(3, 4)], {"opset": 24, "alpha": 0.5}),
    "Atanh": ("Atanh", [draw(3, 4, low=-0.5)], {}),
    "Acosh": ("Acosh", [draw(3, 4, low=1.5)], {}),
    "Shrink": ("Shrink", [3 * draw(3, 4)], {"bias": 0.5, "lambd": 0.5}),
    "hard Shrink": ("Shrink", [3 * draw(3, 4)], {"lambd": 0.75}),
    "Shrink that jumps": ("Shrink", [3 * draw(3, 4)], {"bias": 0.125, "lambd": 0.5}),
    "ThresholdedRelu": ("ThresholdedRelu", [3 * draw(3, 4)], {"alpha": 0.5}),
    "PRelu of channels": ("PRelu", [draw(2, 3, 4), draw(3, 1)], {}),
    "PRelu of one slope": ("PRelu", [draw(2, 3), draw(1)], {}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "axis": ("Softmax", [draw(3)], {"axis": 4}, "has the axis 4"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)


X = 2 * draw(3, 4)
EXPONENTIALS = np.exp(draw(2, 3, 4))
TRUTHS = {
    "HardSwish": ("HardSwish", [X], {}, X * np.clip(X / 6 + 0.5, 0, 1)),
    "Gelu": ("Gelu", [X], {}, X * ndtr(X)),
    "Gelu by tanh": (
        "Gelu", [X], {"approximate": "tanh"}, X / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))
    ),
    "old Softmax": (
        "Softmax", [draw(2, 3, 4)], {"opset": 11, "axis": 1}, EXPONENTIALS / EXPONENTIALS.sum((1, 2), keepdims=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operator", "arrays", "options", "truth"), TRUTHS.values(), ids=TRUTHS)
def test_an_operator_whose_reference_computes_in_float32_has_the_values_of_its_formula(
    operator, arrays, options, truth
):
    np.testing.assert_allclose(evaluate_operator(operator, *arrays, **options), truth, rtol=1e-12, atol=1e-12)
