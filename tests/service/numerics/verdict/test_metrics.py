import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from schemas.report import Metrics
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict import metrics
from service.numerics.verdict.metrics import METRIC_NAMES, make_unknown_distances, measure_distances

FP64 = PRECISIONS["FP64"]
PAIRS = array_shapes(max_dims=3, max_side=4).flatmap(
    lambda shape: st.tuples(*[arrays(np.float64, shape, elements=st.floats(-1e6, 1e6))] * 2)
)


@given(PAIRS)
def test_metrics_agree_with_plain_formulas(pair):
    a, b = pair
    distances = measure_distances(a, b, FP64)
    d = np.abs(a - b)
    size = np.maximum(np.abs(a), np.abs(b))
    assert distances.max_abs == d.max()
    assert distances.max_rel == pytest.approx(
        np.max(np.divide(d, size, out=np.zeros_like(d), where=size > 0)), rel=1e-12
    )
    assert distances.rms == pytest.approx(math.sqrt(math.fsum((d * d).ravel()) / a.size), rel=1e-9, abs=1e-150)
    norms = [math.hypot(*array.ravel()) for array in (a, b, a - b)]
    assert distances.relative_l2 == pytest.approx(
        norms[2] / max(*norms[:2]) if max(*norms[:2]) else 0, rel=1e-9, abs=1e-300
    )
    assert d[distances.worst_index] == d.max()


@pytest.mark.parametrize(("a", "b"), [(10, 11), (1 + 2**-52, 1), (-0.33, math.nextafter(-0.33, 0)), (1e308, -1e308)])
@pytest.mark.parametrize("exponent", [0, -900])
def test_the_largest_relative_difference_is_rounded_once(a, b, exponent):
    """Between neighbours too, where quotients of each by their size would differ by a rounding as large."""
    exact = abs(Fraction(a) - Fraction(b)) / max(abs(Fraction(a)), abs(Fraction(b)))
    scaled = [np.array([math.ldexp(value, exponent)]) for value in (a, b)]
    assert measure_distances(*scaled, FP64).max_rel == float(exact)


@given(PAIRS)
def test_metrics_are_symmetric(pair):
    a, b = pair
    assert measure_distances(a, b, FP64) == measure_distances(b, a, FP64)
    same = measure_distances(a, a, FP64)
    assert (same.max_abs, same.max_rel, same.rms, same.relative_l2, same.max_ulp) == (0, 0, 0, 0, 0)
    assert same.cosine == pytest.approx(1)


@given(PAIRS, st.integers(-900, 900))
def test_scaling_both_by_a_power_of_two_changes_no_ratio(pair, exponent):
    a, b = (np.where(np.abs(array) < 1e-3, 0, array) for array in pair)
    plain, scaled = measure_distances(a, b, FP64), measure_distances(np.ldexp(a, exponent), np.ldexp(b, exponent), FP64)
    assert scaled.rms == pytest.approx(math.ldexp(plain.rms, exponent), rel=1e-12)
    for name in ("max_rel", "relative_l2", "cosine"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "cosine"), [([0, 0], [0, 0], 1), ([0, 0], [1, 0], 0), ([1, 0], [0, 1], 0), ([1, 1], [-1, -1], -1)]
)
def test_cosine_agrees_with_its_formula(a, b, cosine):
    assert measure_distances(np.array(a, float), np.array(b, float), FP64).cosine == pytest.approx(cosine)


def test_metrics_of_huge_and_tiny_values_are_right():
    huge = measure_distances(np.array([1e308]), np.array([-1e308]), FP64)
    assert huge.max_abs == math.inf
    assert huge.max_rel == pytest.approx(2)
    assert huge.relative_l2 == pytest.approx(2)
    tiny = measure_distances(np.array([5e-324, 0]), np.array([0.0, 0]), FP64)
    assert tiny.max_abs == 5e-324
    assert (tiny.max_rel, tiny.relative_l2, tiny.max_ulp) == (1, 1, 1)


def test_a_nan_makes_every_metric_nan_and_is_the_worst():
    distances = measure_distances(np.array([[1.0, np.inf], [np.nan, np.nan]]), np.zeros((2, 2)), FP64)
    assert all(math.isnan(getattr(distances, name)) for name in distances._asdict() if name != "worst_index")
    assert distances.worst_index == (1, 0)


def test_infinity_makes_distances_infinite_or_nan():
    distances = measure_distances(np.array([1.0, np.inf]), np.array([5.0, 2.0]), FP64)
    assert (distances.max_abs, distances.rms, distances.max_ulp) == (math.inf,) * 3
    assert math.isnan(distances.relative_l2)
    assert distances.worst_index == (1,)
    assert math.isnan(measure_distances(np.array([np.inf]), np.array([np.inf]), FP64).max_abs)


def test_worst_index_is_the_first_of_equals_and_empty_for_scalars():
    assert measure_distances(np.array([0.0, 2, 2]), np.zeros(3), FP64).worst_index == (1,)
    assert measure_distances(np.array(1.5), np.array(1.0), FP64).worst_index == ()


def test_units_are_those_of_the_precision_that_is_judged():
    a, b = np.array([1.0]), np.array([1 + 2**-23])
    assert measure_distances(a, b, PRECISIONS["FP32"]).max_ulp == 1
    assert measure_distances(a, b, PRECISIONS["FP16"]).max_ulp == 0
    assert measure_distances(a, b, FP64).max_ulp == 2**29


def test_the_wire_has_every_metric():
    assert (*METRIC_NAMES, "worst_index") == tuple(Metrics.__annotations__)


@pytest.mark.parametrize("position", [0, 5, metrics._BLOCK_LENGTH, 2 * metrics._BLOCK_LENGTH + 1])
def test_blocks_together_are_the_whole(position):
    generator = np.random.default_rng(position)
    a = generator.normal(size=2 * metrics._BLOCK_LENGTH + 7)
    b = a * (1 + 1e-9 * generator.normal(size=a.size))
    b[position] = a[position] + 1.0
    distances = measure_distances(a, b, FP64)
    assert distances.worst_index == (position,)
    assert distances.max_abs == abs(a[position] - b[position])
    assert distances.relative_l2 == pytest.approx(np.linalg.norm(a - b) / max(map(np.linalg.norm, (a, b))), rel=1e-12)
    assert distances.rms == pytest.approx(float(np.sqrt(np.square(a - b).mean())), rel=1e-12)
    assert distances.max_ulp == FP64.compute_ulp_distance(a, b).max()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_is_not_finite_in_a_later_block_is_found(number):
    a = np.ones(metrics._BLOCK_LENGTH + 3)
    a[-1] = number
    assert measure_distances(a, np.ones(a.shape), FP64).worst_index == (a.size - 1,)
    assert not math.isfinite(measure_distances(a, np.ones(a.shape), FP64).rms)


def test_nothing_is_known_of_the_distance_from_what_is_not_known():
    shape = (2, 3)
    assert repr(make_unknown_distances(shape)) == repr(measure_distances(np.ones(shape), np.full(shape, np.nan), FP64))
    assert make_unknown_distances(()).worst_index == ()
