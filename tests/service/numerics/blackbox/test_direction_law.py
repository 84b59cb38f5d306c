import itertools
import math

import numpy as np
import pytest
from scipy import integrate

from service.numerics.blackbox.direction_law import bound_hiding_probability, compute_hiding_probabilities


def draw_sums(vector, trials, seed=0):
    """Draw inner products of a unit vector with directions."""
    generator = np.random.default_rng(seed)
    unit = np.asarray(vector, float) / np.linalg.norm(vector)
    return generator.uniform(-1, 1, size=(3, trials, unit.size)).sum(axis=0) @ unit


@pytest.mark.parametrize(
    "vector", [[1], [1, 1], [1, 1, 1], [1, 0.1, 0.01], [3, -2, 1, 1], [1] * 30, [1] + [0.05] * 100], ids=str
)
def test_no_vector_hides_more_often_than_stated(vector):
    trials = 400_000 // len(vector) ** 0.5
    sums = np.abs(draw_sums(vector, int(trials)))
    for limit in (0.02, 0.1, 0.225, 0.5, 1.0, 1.2):
        stated = bound_hiding_probability(limit)
        assert (sums <= limit).mean() <= stated + 4 * math.sqrt(stated / len(sums))
    assert (sums <= 0.225).mean() > 0.9 * bound_hiding_probability(0.225), "and the bound is near"


def test_the_bound_is_none_for_one_uniform_number_an_element():
    """Negative control: two uniform numbers hide more often at one ratio, by the section of a cube (Ball 1986)."""
    directions = np.random.default_rng(0).uniform(-math.sqrt(3), math.sqrt(3), size=(10_000_000, 2))
    sums = directions.sum(axis=1) / math.sqrt(2)
    assert (np.abs(sums) <= 0.02).mean() > 1.01 * bound_hiding_probability(0.02)


def integrate_power(exponent):
    """Return J(q) of the proof, by quadrature."""
    lobes = [
        integrate.quad(lambda x: abs(np.sinc(x / np.pi)) ** exponent, k * np.pi, (k + 1) * np.pi)[0] for k in range(60)
    ]
    return 2 * sum(lobes)


def test_the_proof_has_its_numbers():
    limit = math.sqrt(6 * math.pi)
    largest, power_of_4 = 2.42, 2 * math.pi / 3
    assert integrate_power(3) < largest - 1e-3
    assert integrate_power(4) == pytest.approx(power_of_4, rel=1e-6)
    between = [math.sqrt(q) * largest ** (4 - q) * power_of_4 ** (q - 3) for q in np.linspace(3, 4, 101)]
    assert max(between) < 4.23 < limit
    for q in (4, 5, 8, 20, 100):
        bound = 1 - 0.15 / q + 0.13125 / q**2 + 2 * np.pi ** (1 - q) / (q - 1) * math.sqrt(q) / limit
        assert math.sqrt(q) * integrate_power(q) / limit <= bound < 1


@pytest.mark.parametrize("noise", [0.0, 1e-3, 0.3, 1.0, 5.0, 15.9, 16.1])
@pytest.mark.parametrize("limit", [0.1, 1.0, 2.5, 20.0])
def test_one_element_with_noise_hides_as_often_as_the_integral_has_it(limit, noise):
    def evaluate(x):
        density = (3 - x * x) / 8 if x < 1 else (3 - x) ** 2 / 16
        if noise == 0:
            return density * (x <= limit)
        spread = [math.erf((limit + sign * x) / noise / math.sqrt(2)) for sign in (-1, 1)]
        return density * sum(spread) / 2

    pieces = sorted({0.0, 1.0, min(limit, 3.0), 3.0})
    parts = [integrate.quad(evaluate, *ends, limit=200)[0] for ends in itertools.pairwise(pieces)]
    error = 7.0
    stated = compute_hiding_probabilities(np.array([limit * error]), np.array([error]), noise * error)
    assert stated == pytest.approx(2 * sum(parts), abs=1e-6)


def test_small_limits_have_the_density_at_0():
    limits = 10.0 ** np.arange(-10, -2)
    assert compute_hiding_probabilities(limits, np.ones(8), 0.0) == pytest.approx(0.75 * limits, rel=1e-4)


@pytest.mark.parametrize(
    ("limit", "error", "noise", "probability"),
    [(0.0, 0.0, 0.0, 1.0), (1.0, 0.0, 1.0, math.erf(math.sqrt(0.5))), (1e300, 1e-300, 0.0, 1.0), (0.0, 1.0, 0.0, 0.0)],
)
def test_degenerate_errors_hide_always_or_as_their_noise_has_it(limit, error, noise, probability):
    found = compute_hiding_probabilities(np.array([limit]), np.array([error]), noise)
    assert found == pytest.approx(probability, abs=1e-12)
