import math

import numpy as np
import pytest

from service.numerics.gradients.finite_difference.method import (
    ADAPTIVE_METHOD,
    extrapolate_central,
    extrapolate_central_number,
    make_central_method,
    make_forward_method,
)

STEPS = 0.25 * 2.0 ** -np.arange(3)


def compute_quotients(function, point=0.0, offsets=(1.0, -1.0), steps=STEPS):
    first, second = (np.array([function(point + offset * h) for h in steps]) for offset in offsets)
    return ((first - second) / ((offsets[0] - offsets[1]) * steps))[:, None]


def reduce_quotients(method, function, point=0.0, noise=0.0, steps=STEPS):
    quotients = compute_quotients(function, point, method.offsets, steps)
    values, bounds = method.reduce_table(quotients, np.full_like(quotients, noise))
    return values[0], bounds[0]


def test_three_levels_are_exact_for_polynomials_of_degree_six():
    value, bound = reduce_quotients(
        ADAPTIVE_METHOD, lambda x: 3 * x - 2 * x**2 + 5 * x**3 + x**4 - 4 * x**5 + 7 * x**6, noise=1e-15
    )
    assert value == pytest.approx(3, abs=1e-12)
    assert abs(value - 3) <= bound


@pytest.mark.parametrize(
    "method", [ADAPTIVE_METHOD, make_central_method(0.25), make_forward_method(0.25)], ids=lambda method: method.name
)
@pytest.mark.parametrize(
    ("function", "slope"),
    [(math.sin, 1.0), (math.exp, 1.0), (math.tanh, 1.0), (lambda x: 1 / (1 - x), 1.0)],
    ids=["sin", "exp", "tanh", "1 / (1 - x)"],
)
def test_the_bound_holds_the_truncation(method, function, slope):
    value, bound = reduce_quotients(method, function)
    assert 0 < abs(value - slope) <= bound + 1e-15


def test_error_bound_is_tight():
    """Were it infinite, it would hold anything."""
    assert reduce_quotients(ADAPTIVE_METHOD, math.sin)[1] < 1e-4
    assert reduce_quotients(make_central_method(0.25), math.sin)[1] < 0.05
    assert reduce_quotients(make_forward_method(0.25), math.exp)[1] < 0.5


@pytest.mark.parametrize(
    "method", [ADAPTIVE_METHOD, make_central_method(0.25), make_forward_method(0.25)], ids=lambda method: method.name
)
def test_noise_is_in_the_bound(method):
    assert reduce_quotients(method, math.sin, noise=1.0)[1] >= 0.9


def test_divergent_table_has_no_bound():
    assert reduce_quotients(ADAPTIVE_METHOD, lambda x: math.sin(40 * x))[1] == np.inf
    assert reduce_quotients(ADAPTIVE_METHOD, lambda x: math.sin(40 * x), steps=STEPS / 64)[1] < 1e-3
    for method in (make_central_method(0.25), make_forward_method(0.25)):
        assert reduce_quotients(method, lambda x: math.sin(40 * x))[1] == np.inf
        assert reduce_quotients(method, lambda x: math.sin(40 * x), steps=STEPS / 64)[1] < 10


def test_quotients_that_converge_to_another_number_have_no_bound():
    """Relative errors of the quotients of a transformer, of which a part has a scale below the steps.

    The quotients change by a quarter each time. Their first extrapolation, whose changes should leave a sixteenth,
    converges to -2.7e-6.
    """
    errors = np.array([5.56143255066809e-05, 1.13414428536844e-05, 7.21361883904027e-07, -1.82886153466215e-06])
    _, bound = extrapolate_central(1 + errors[:, None], np.full((4, 1), 1e-11))
    assert bound[0] == np.inf
    _, bound = extrapolate_central(1 + 1e-4 * 4.0 ** -np.arange(4)[:, None], np.full((4, 1), 1e-11))
    assert bound[0] < 1e-9


def test_noise_alone_does_not_pass_for_divergence():
    values = np.array([[1.0], [1.0 + 1e-9], [1.0 - 2e-9]])
    assert extrapolate_central(values, np.full((3, 1), 1e-8))[1] < 1e-6
    assert extrapolate_central(values, np.full((3, 1), 1e-12))[1] == np.inf


def test_each_element_takes_its_own_entry():
    quotients = np.concatenate([compute_quotients(math.sin), compute_quotients(lambda x: math.sin(40 * x))], axis=1)
    bounds = extrapolate_central(quotients, np.zeros_like(quotients))[1]
    assert np.isfinite(bounds[0])
    assert bounds[1] == np.inf


def test_one_number_is_extrapolated_as_a_table_of_one_element() -> None:
    generator, bounded, unbounded = np.random.default_rng(5), 0, 0
    for _ in range(3000):
        levels = int(generator.integers(3, 6))
        errors = 10 ** generator.uniform(-12, 0) * generator.uniform(3, 5) ** -np.arange(levels)
        quotients = 10 ** generator.uniform(-300, 300) * (generator.choice([-1, 0, 1]) + errors)
        floors = np.abs(quotients[0]) * 10 ** generator.uniform(-16, -4) * 2.0 ** np.arange(levels)
        strays = generator.random(levels) < 0.03
        quotients[strays] = generator.choice([np.nan, np.inf, 0.0, 1e308, -1e308], int(strays.sum()))
        with np.errstate(all="ignore"):
            values, bounds = extrapolate_central(quotients[:, None], floors[:, None])
        number = extrapolate_central_number(quotients.tolist(), floors.tolist())
        np.testing.assert_array_equal(number, (values[0], bounds[0]))
        bounded, unbounded = bounded + np.isfinite(number[1]), unbounded + np.isinf(number[1])
    assert bounded > 1000
    assert unbounded > 100
