import numpy as np
import pytest

from service.numerics.blackbox.precision_hint import suggest_lower_precision
from service.numerics.core.precision import PRECISIONS

REFERENCE = np.array([0.1, -2.0, 0.0])


def of(gradient, lower="FP32"):
    return suggest_lower_precision(gradient, np.abs(gradient - REFERENCE), REFERENCE, PRECISIONS[lower])


def test_numbers_of_float32_may_have_been_computed_in_it():
    assert of(np.float32(REFERENCE).astype(np.float64)).endswith('give "candidate_dtype": "FP32".')
    assert of(np.array([*np.float32(REFERENCE[:2]).astype(float), np.nan])).endswith('"candidate_dtype": "FP32".')
    assert of(np.float32(REFERENCE * 1.001).astype(float), "TF32").endswith('give "candidate_dtype": "TF32".')


@pytest.mark.parametrize(("off", "rtol"), [(6e-6, "1e-05"), (9.9e-7, "1e-06"), (0.02, "0.1")])
def test_other_numbers_are_asked_for_a_tolerance(off, rtol):
    assert of(REFERENCE * (1 + off)).endswith(f'as in "tolerance": {{"rtol": {rtol}}}.')


def test_hint_proposes_no_useless_tolerance():
    assert of(REFERENCE * 2.0000000001) == ""
    assert suggest_lower_precision(np.array([1e-17]), np.array([1e-17]), np.zeros(1), PRECISIONS["FP32"]) == ""
