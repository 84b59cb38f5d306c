import math

import numpy as np
import pytest

from service.numerics.blackbox.miss_probability import compute_element_miss_probability, compute_random_miss_probability


def test_among_random_directions_it_is_the_share_of_trials():
    generator = np.random.default_rng(0)
    gradient, allowed, noise = generator.normal(size=50), np.array([3e-5, 6e-5]), np.array([2e-5, 1e-5])
    stated = compute_random_miss_probability(gradient, allowed, noise, 0.0, 1e-4)
    trials = 200_000
    errors = 1e-4 * gradient[generator.integers(50, size=trials)]
    directions = generator.uniform(-1, 1, size=(3, trials, 2)).sum(axis=0)
    seen = errors[:, None] * directions + noise * generator.normal(size=(trials, 2))
    assert (np.abs(seen) <= allowed).all(axis=1).mean() == pytest.approx(stated, abs=4 * math.sqrt(0.25 / trials))


def test_among_elements_it_counts_those_that_were_not_moved():
    gradient = np.arange(1.0, 11.0)
    moved, allowed = np.arange(4), np.full(4, 1e-9)
    assert compute_element_miss_probability(gradient, moved, allowed, np.zeros(4), 1e-4) == pytest.approx(0.6)
    assert compute_element_miss_probability(gradient, moved, np.full(4, 1.0), np.full(4, 1e-3), 1e-4) == 1
    half = compute_element_miss_probability(gradient, moved[:1], np.array([1e-4]), np.array([1e-6]), 1e-4)
    assert half == pytest.approx(1 - 0.5 / 10)


def test_zero_element_has_no_relative_error():
    assert compute_random_miss_probability(np.zeros(3), np.ones(1), np.ones(1), 0.0, 1e-4) == 1
    assert compute_element_miss_probability(np.zeros(3), np.arange(3), np.ones(3), np.ones(3), 1e-4) == 1
    gradient = np.array([0.0, 1.0])
    assert compute_element_miss_probability(gradient, np.arange(2), np.full(2, 1e-9), np.zeros(2), 1e-4) == 0


def test_coarse_lattice_may_hide_an_error():
    fine, coarse = (
        compute_random_miss_probability(np.ones(3), np.array([1e-9]), np.zeros(1), value, 1e-4) for value in (0.0, 0.25)
    )
    assert fine < 1e-4
    assert coarse == pytest.approx((3 * 0.125 - 0.125**3 / 3) / 4, rel=1e-3)


def test_many_elements_are_stood_for_by_some():
    generator = np.random.default_rng(0)
    gradient = generator.normal(size=50_000)
    parts = [
        compute_random_miss_probability(row, np.array([1e-4]), np.zeros(1), 0.0, 1e-4)
        for row in gradient.reshape(50, -1)
    ]
    assert compute_random_miss_probability(gradient, np.array([1e-4]), np.zeros(1), 0.0, 1e-4) == pytest.approx(
        np.mean(parts), rel=1e-3
    )
