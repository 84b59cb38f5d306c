import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from service.numerics.verdict import projection


def test_directions_follow_from_seed_and_name_alone():
    one = projection.sample_directions(3, (2, 4), 7, "w1")
    assert one.shape == (3, 2, 4)
    assert np.array_equal(one, projection.sample_directions(3, (2, 4), 7, "w1"))
    assert not np.array_equal(one, projection.sample_directions(3, (2, 4), 8, "w1"))
    assert not np.array_equal(one, projection.sample_directions(3, (2, 4), 7, "w2"))
    assert projection.sample_directions(2, (), 0, "é").shape == (2,)


def test_joint_directions_follow_from_line_seed_and_name_and_nobody_changes_them():
    one = projection.sample_joint_direction(0, (2, 4), 7, "w1")
    assert np.array_equal(one, projection.sample_joint_direction(0, (2, 4), 7, "w1"))
    for line, seed, name in ((1, 7, "w1"), (0, 8, "w1"), (0, 7, "w2")):
        assert not np.array_equal(one, projection.sample_joint_direction(line, (2, 4), seed, name))
    assert projection.sample_joint_direction(0, (4, 2), 7, "w1").shape == (4, 2)
    generator = np.random.Generator(np.random.SFC64([7, 0xD2, 0, *b"w1"]))
    assert np.array_equal(one, generator.standard_normal((2, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="read-only"):
        one[0, 0] = 0
    large = projection.sample_joint_direction(0, (2**13,), 7, "w1")
    assert large is not projection.sample_joint_direction(0, (2**13,), 7, "w1"), "large ones are not kept"


def test_directions_are_standard_gaussian():
    many = projection.sample_directions(1, (200_000,), 0, "w")
    assert abs(many.mean()) < 0.01
    assert many.std() == pytest.approx(1, abs=0.01)
    assert np.mean(np.abs(many) < 1) == pytest.approx(math.erf(math.sqrt(0.5)), abs=0.01)


@pytest.mark.parametrize("count", [1, 3, 1000, 4097])
def test_inner_products_are_within_their_rounding_of_the_exact_ones(count):
    generator = np.random.default_rng(count)
    gradient = generator.normal(size=count) * 10.0 ** generator.uniform(-9, 9, count)
    directions = generator.normal(size=(4, count))
    values, off = projection.compute_inner_products(directions, gradient)
    for value, bound, direction in zip(values, off, directions, strict=True):
        exact = sum(Fraction(d) * Fraction(g) for d, g in zip(direction.tolist(), gradient.tolist(), strict=True))
        assert abs(Fraction(value) - exact) <= bound
        assert bound <= 1e-13 * np.abs(direction * gradient).sum(), "and the rounding is no more than that"


def test_nonfinite_gradient_has_no_inner_product():
    values, _ = projection.compute_inner_products(np.ones((2, 2)), np.array([np.inf, -np.inf]))
    assert np.isnan(values).all()
    assert np.isinf(projection.compute_directional_allowance(np.ones((2, 2)), np.array([1.0, np.inf]))).all()


def test_directional_allowance_covers_element_errors():
    """A third of all that they may be, all of them and all one way: no sum over their sizes is needed for many."""
    generator = np.random.default_rng(0)
    off = generator.uniform(0, 1, 3000)
    directions = generator.normal(size=(2000, 3000))
    allowed = projection.compute_directional_allowance(directions, off)
    assert (np.abs(directions @ off) / 3 <= allowed).all()
    assert (np.abs(directions @ off) / 3 > allowed / 3).any(), "and no more than is needed by far"
    assert (allowed < (np.abs(directions) @ off) / 15).all()
    few = directions[:, :2]
    expected = np.minimum(np.abs(few) @ off[:2], 2 * np.hypot(*off[:2]))
    assert np.allclose(projection.compute_directional_allowance(few, off[:2]), expected)


@pytest.mark.parametrize("unit", [1e-300, 1.0, 1e300])
def test_norms_neither_overflow_nor_underflow(unit):
    assert projection.euclidean_norm(np.array([[3.0, 4.0]]) * unit) == pytest.approx(5 * unit)
    assert projection.euclidean_norm(np.zeros(3)) == 0
    assert projection.euclidean_norm(np.array([1.0, np.inf])) == np.inf


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_norm_detection_limit_is_the_smallest_found_error(count):
    slack = np.random.default_rng(count).uniform(1, 2, count) * 1e-9
    limit = projection.compute_norm_detection_limit(slack, 3.0)
    assert (
        projection.compute_miss_probability(slack, 3.0, limit.relative_l2)
        == limit.probability
        <= projection.MISS_PROBABILITY
    )
    assert projection.compute_miss_probability(slack, 3.0, limit.relative_l2 * (1 - 1e-9)) > projection.MISS_PROBABILITY
    # Of one direction P(|N| <= x) is about x sqrt(2 / pi).
    if count == 1:
        assert limit.relative_l2 == pytest.approx(
            slack[0] / 3 * math.sqrt(2 / math.pi) / projection.MISS_PROBABILITY, rel=1e-5
        )


def test_direction_without_difference_detects_no_error():
    assert projection.compute_norm_detection_limit(
        np.array([1e-9, np.inf]), 1.0
    ) == projection.compute_norm_detection_limit(np.array([1e-9]), 1.0)
    for slack, size in (([np.inf], 1.0), ([np.nan], 1.0), ([1.0], 0.0), ([1.0], np.nan), ([1e308], 1e-308)):
        assert projection.compute_norm_detection_limit(np.array(slack), size) == projection.NormDetectionLimit(
            np.inf, 1.0
        )


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("spread", [1.0, 1e6])
@pytest.mark.parametrize("unit", [1e-300, 1e-9, 1e200])
def test_bracket_of_a_limit_holds_it(count, spread, unit):
    slack = unit * spread ** np.random.default_rng(count).uniform(0, 1, count)
    low, high = projection._bracket_gaussian_limit(slack, 2.0)
    assert projection.compute_miss_probability(slack, 2.0, 2.0**high) <= projection.MISS_PROBABILITY
    assert projection.compute_miss_probability(slack, 2.0, 2.0 ** (low - 1e-9)) > projection.MISS_PROBABILITY
    if spread == 1.0:
        assert high - low <= 2 * projection._LIMIT_RESOLUTION


@pytest.mark.parametrize("slack", [[0.0], [0.0, 1e-9], [1e300], [5e-324]])
def test_slacks_without_a_bracket_have_a_limit_too(slack):
    """What is 0, or leaves the range of the logarithms."""
    limit = projection.compute_norm_detection_limit(np.array(slack), 1e-10 if slack == [1e300] else 1.0)
    assert limit.probability <= projection.MISS_PROBABILITY or limit == projection.NormDetectionLimit(np.inf, 1.0)


@pytest.mark.parametrize("count", [1, 2, 10, 100, 10**4, 10**6])
def test_inverse_of_erf_is_that_of_hundreds_of_digits(count):
    probability = projection.MISS_PROBABILITY ** (1 / count)
    with mpmath.workdps(40):
        exact = mpmath.erfinv(mpmath.mpf(probability))
        # Beside 1, the inverse magnifies the rounding of erf.
        slope = mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(exact**2)
        assert abs(projection._invert_erf(probability) - exact) <= 2e-16 * (2 * exact + slope * probability)
