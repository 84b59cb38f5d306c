import numpy as np
import pytest

from service.numerics.blackbox.precision_hint import suggest_lower_precision
from service.numerics.core.precision import PRECISIONS

REFERENCE = np.array([0.1, -2.0, 0.0])


def suggest_precision(gradient, lower="FP32"):
    return suggest_lower_precision(gradient, np.abs(gradient - REFERENCE), REFERENCE, PRECISIONS[lower])


def test_gradient_of_float32_numbers_gets_a_hint_of_float32():
    assert suggest_precision(np.float32(REFERENCE).astype(np.float64)).endswith('give "candidate_dtype": "FP32".')
    assert suggest_precision(np.array([*np.float32(REFERENCE[:2]).astype(float), np.nan])).endswith(
        '"candidate_dtype": "FP32".'
    )
    assert suggest_precision(np.float32(REFERENCE * 1.001).astype(float), "TF32").endswith(
        'give "candidate_dtype": "TF32".'
    )


@pytest.mark.parametrize(("off", "rtol"), [(6e-6, "1e-05"), (9.9e-7, "1e-06"), (0.02, "0.1")])
def test_gradient_of_no_known_precision_gets_advice_on_a_tolerance(off, rtol):
    assert suggest_precision(REFERENCE * (1 + off)).endswith(f'as in "tolerance": {{"rtol": {rtol}}}.')


def test_hint_proposes_no_useless_tolerance():
    assert suggest_precision(REFERENCE * 2.0000000001) == ""
    assert suggest_lower_precision(np.array([1e-17]), np.array([1e-17]), np.zeros(1), PRECISIONS["FP32"]) == ""
