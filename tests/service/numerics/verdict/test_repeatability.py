"""Distances between runs of one program."""

import numpy as np
import pytest

from service.numerics.verdict.repeatability import measure_spread


def test_runs_within_the_allowance_are_explained():
    runs = np.array([[1.0, 2.0], [1.0 + 1.4e-3, 2.0], [1.0, 2.0 - 1e-3]])
    found = measure_spread(runs, np.full(2, 1e-3))
    assert (found.run_count, found.beyond_count, found.first_beyond) == (3, 0, None)
    assert found.largest == pytest.approx(1.4e-3)
    assert found.is_explained


def test_the_worst_element_is_named():
    runs = np.array([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.1], [3.0, 4.3]]])
    found = measure_spread(runs, np.full((2, 2), 1e-3))
    assert (found.beyond_count, found.first_beyond, found.is_explained) == (2, (1, 1), False)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_no_run_has_as_a_number_is_the_same_in_all(number):
    same = measure_spread(np.array([[number, 1.0], [number, 1.0]]), np.ones(2))
    assert (same.largest, same.is_explained) == (0.0, True)
    found = measure_spread(np.array([[number, 1.0], [1.0, 1.0]]), np.ones(2))
    assert (found.beyond_count, found.first_beyond) == (1, (0,))


def test_an_allowance_without_limit_explains_everything():
    assert measure_spread(np.array([[1.0], [5.0]]), np.full(1, np.inf)).is_explained
