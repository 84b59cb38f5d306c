"""Medians are those of NumPy, to the bit."""

import warnings

import numpy as np
import pytest

from service.numerics.core.medians import compute_median, compute_medians

SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e308, 1.5)


@pytest.mark.parametrize("count", range(1, 9))
def test_medians_are_those_of_numpy(count: int) -> None:
    random = np.random.default_rng(count)
    values = np.where(
        random.random((40, count)) < 0.3, random.choice(SPECIAL, (40, count)), random.normal(size=(40, count))
    )
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.median(values, axis=-1)
        assert np.array_equal(compute_medians(values), expected, equal_nan=True)
        assert np.array_equal(compute_median(values), np.median(values), equal_nan=True)


def test_no_numbers_have_no_median() -> None:
    assert np.isnan(compute_median(np.zeros(0)))
