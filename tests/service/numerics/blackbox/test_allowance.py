"""What a candidate may be off by, as (1), (2) and (3) of the module state it."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from service.numerics.blackbox import allowance
from service.numerics.blackbox.allowance import choose_allowed_roundoffs
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.reference import Tolerance
from tests.service.numerics.blackbox.stated_derivatives import (
    draw_directions,
    make_derivatives,
    make_element_lines,
    make_point,
)

FP64 = PRECISIONS["FP64"]
OFF = 256 * 2.0**-53
C = np.array([1.0, -2.0, 0.5])
X = np.array([0.7, -0.3, 0.9])


def compute_element_allowance(c=C, x=X, sizes=None, reference=None, precision=FP64, tolerance=None):
    point = make_point(x, sizes)
    derivatives = make_derivatives(c, 1e-10) if reference is None else reference
    return allowance.compute_element_allowance(make_element_lines(point), point, c, derivatives, precision, tolerance)


def compute_direction_allowance(c=C, reference=None, precision=FP64, tolerance=None, count=4):
    point = make_point(np.zeros(len(c)))
    derivatives = make_derivatives(np.zeros(count), 1e-10) if reference is None else reference
    return allowance.compute_direction_allowance(
        draw_directions(point, count), point, c, derivatives, precision, tolerance
    )


@pytest.mark.parametrize(("name", "count"), [("FP64", 256), ("FP32", 256), ("TF32", 24), ("FP16", 24), ("BF16", 24)])
def test_units_are_fewer_of_arithmetics_that_accumulate_in_a_wider_one(name, count):
    assert choose_allowed_roundoffs(PRECISIONS[name]) == count


@pytest.mark.parametrize("name", ["FP64", "FP32", "BF16"])
def test_element_allowance_equals_its_formula(name):
    """Formula (1), of elements that are all moved by 1."""
    precision, bend = PRECISIONS[name], np.array([3.0, 0.0, -7.0])
    allowance = compute_element_allowance(reference=make_derivatives(C, 1e-3, curvature=bend), precision=precision)
    off = choose_allowed_roundoffs(precision) * precision.unit_roundoff
    certain = 1e-3 + off * np.abs(C)
    shared, bent = off * np.sqrt(np.mean(C**2)), off / 16 * np.sqrt(3) * np.abs(bend)
    np.testing.assert_allclose(allowance.passing_error, certain, rtol=1e-13)
    np.testing.assert_allclose(allowance.allowed_error, certain + shared + bent, rtol=1e-13)
    assert (allowance.candidate_derivatives == C).all()


@pytest.mark.parametrize("unit", [2.0**-30, 2.0**40])
def test_element_allowance_scales_with_the_unit_of_the_element(unit):
    """x and s in other units, and so the candidate, the derivative, its bound and its bend over s."""
    other, bound, bend = np.array([unit, 1.0, 1.0]), np.full(3, 1e-15), np.array([4.0, 5.0, 6.0])
    usual = compute_element_allowance(sizes=np.ones(3), reference=make_derivatives(C, bound, curvature=bend))
    allowance = compute_element_allowance(
        C / other, X * other, other, make_derivatives(C / other, bound / other, curvature=bend / other)
    )
    for name in ("candidate_derivatives", "passing_error", "allowed_error", "doubtful_error"):
        np.testing.assert_allclose(getattr(allowance, name) * other, getattr(usual, name), rtol=1e-12)
    np.testing.assert_allclose(allowance.move_sizes, usual.move_sizes * other)
    larger = compute_element_allowance(
        C / other, X, np.ones(3), make_derivatives(C / other, bound / other, curvature=bend / other)
    )
    assert larger.allowed_error[1] != pytest.approx(usual.allowed_error[1], rel=1e-5, abs=0), (
        "but not of the candidate alone"
    )


def test_the_share_of_the_curvature_grows_with_the_bend_and_is_not_certain():
    bends = np.array([0.0, 1e3, -2e3])
    allowance = compute_element_allowance(np.ones(3), reference=make_derivatives(np.ones(3), curvature=bends))
    shares = (allowance.allowed_error - allowance.allowed_error[0]) / (OFF / 16 * np.sqrt(3))
    np.testing.assert_allclose(shares, np.abs(bends), rtol=1e-10)
    assert len(set(allowance.passing_error.tolist())) == 1


def test_a_bend_of_which_nothing_is_known_allows_nothing_more():
    known = compute_element_allowance(reference=make_derivatives(C, curvature=0.0))
    unknown = compute_element_allowance(reference=make_derivatives(C, curvature=np.array([np.nan, np.inf, -np.inf])))
    assert (unknown.allowed_error == known.allowed_error).all()


def test_an_element_that_is_not_finite_does_not_excuse_the_others():
    c = np.array([np.nan, -2.0, 0.5])
    assert (compute_element_allowance(c).allowed_error[1:] <= compute_element_allowance().allowed_error[1:]).all()
    assert np.isfinite(compute_element_allowance(c).allowed_error).all()
    assert np.isnan(compute_element_allowance(c).candidate_derivatives[0])


@pytest.mark.parametrize("bend", [0.0, 1e12])
def test_tolerance_replaces_the_element_allowance(bend):
    reference = make_derivatives(2 * C, 1e-3, curvature=bend)
    allowance = compute_element_allowance(reference=reference, tolerance=Tolerance(rtol=0.25, atol=0.125))
    for error in (allowance.passing_error, allowance.allowed_error):
        assert (error == 0.125 + 0.25 * np.abs(2 * C)).all()
    assert not allowance.doubtful_error.any()
    assert compute_element_allowance(reference=reference).doubtful_error.all(), "without one there is something"


def test_tolerance_replaces_the_direction_allowance():
    tolerance = Tolerance(rtol=0.25, atol=0.125)
    quiet, loud = (
        compute_direction_allowance(reference=make_derivatives(np.zeros(4), value, curvature=value))
        for value in (0.0, 1e3)
    )
    assert (loud.allowed_error > quiet.allowed_error).all()
    quiet, loud = (
        compute_direction_allowance(
            reference=make_derivatives(np.zeros(4), value, curvature=value), tolerance=tolerance
        )
        for value in (0.0, 1e3)
    )
    assert (loud.allowed_error == quiet.allowed_error).all()
    assert (quiet.allowed_error <= 2 * np.linalg.norm(0.125 + 0.25 * np.abs(C)) * (1 + 1e-12)).all()
    assert not quiet.doubtful_error.any()


@pytest.mark.parametrize("name", ["FP64", "BF16"])
def test_along_directions_six_deviations_of_the_rounding_are_certain(name):
    """Of an error of U u |c| / 6, that is, N(0, .) along each; and what the inner product itself is rounded by."""
    precision = PRECISIONS[name]
    deviation = choose_allowed_roundoffs(precision) * precision.unit_roundoff * np.linalg.norm(C) / 6
    allowance = compute_direction_allowance(reference=make_derivatives(np.zeros(4), 0.25), precision=precision)
    np.testing.assert_allclose((allowance.passing_error - 0.25) / deviation, 6, rtol=0.2 if name == "FP64" else 1e-9)
    assert (allowance.passing_error - 0.25 >= 6 * deviation * (1 - 1e-2)).all()


def test_along_directions_the_largest_bend_counts_for_all():
    bends = np.array([1e3, -1e6, 0.0, np.nan])
    allowance = compute_direction_allowance(reference=make_derivatives(np.zeros(4), curvature=bends))
    np.testing.assert_allclose(allowance.allowed_error - allowance.passing_error, OFF / 16 * 1e6, rtol=1e-9)


def test_doubtful_error_follows_from_the_loss_and_lets_nothing_pass():
    small, large = (
        compute_element_allowance(reference=make_derivatives(C, 1e-10, base_magnitude=value)) for value in (1.0, 1e9)
    )
    np.testing.assert_allclose(large.doubtful_error, 256 * 2.0**-53 * 1e9 / large.move_sizes, rtol=1e-14)
    assert (large.doubtful_error > 1e4 * large.allowed_error).all()
    assert (small.passing_error == large.passing_error).all()
    assert (small.allowed_error == large.allowed_error).all()


def test_doubtful_error_along_a_direction_is_the_norm_of_its_elements():
    for c in (C[:1], np.ones(16)):
        allowance = compute_direction_allowance(c)
        np.testing.assert_allclose(allowance.doubtful_error, 256 * 2.0**-53 * np.sqrt(len(c)), rtol=1e-14)


def test_doubtful_error_of_narrow_arithmetic_is_at_most_that_of_float32():
    narrow, single, double = (
        compute_element_allowance(precision=PRECISIONS[name]).doubtful_error for name in ("BF16", "FP32", "FP64")
    )
    assert (narrow == single).all()
    assert (double < single).all()


@pytest.mark.parametrize("of", [compute_element_allowance, compute_direction_allowance])
def test_a_loss_of_nothing_but_zeros_calls_only_another_candidate_than_zero_undecidable(of):
    nothing = make_derivatives(np.zeros(3 if of is compute_element_allowance else 4), is_constant=True)
    assert np.isinf(of(C, reference=nothing).allowed_error).all()
    assert np.isfinite(of(0 * C, reference=nothing).allowed_error).all()
    assert np.isfinite(of(C, reference=replace(nothing, is_constant=~nothing.is_constant)).allowed_error).all()
    assert np.isfinite(of(C, reference=replace(nothing, bound=nothing.bound + 1e-9)).allowed_error).all()


def test_the_size_of_an_element_is_its_move_or_itself_if_that_is_larger():
    point = make_point(np.array([8.0, 0.25, -8.0]), np.array([1.0, 2.0, 16.0]))
    assert allowance.compute_move_magnitudes(make_element_lines(point), point).tolist() == [8, 2, 16]
    assert allowance.compute_move_magnitudes(draw_directions(point, 2), point).tolist() == [8, 2, 16]


def test_shared_sizes_are_those_of_exact_arithmetic_beyond_the_range_of_float64():
    generator = np.random.default_rng(2)
    for _ in range(50):
        exponents = generator.integers(-1000, 1000, (2, 4))
        gradient, sizes = np.ldexp(generator.normal(size=4), exponents[0]), np.ldexp(1.0, exponents[1])
        products = [Fraction(c) * Fraction(s) for c, s in zip(gradient.tolist(), sizes.tolist(), strict=True)]
        largest = max(map(abs, products))
        norm = np.sqrt(float(sum((product / largest) ** 2 for product in products)))
        found = allowance.measure_shared_sizes(gradient, sizes, sizes, OFF)
        for share, size in zip(found.tolist(), sizes.tolist(), strict=True):
            exact = largest / Fraction(size) * Fraction(OFF * norm / 2)
            if 2**-1000 < exact < 2**1000:
                assert share == pytest.approx(float(exact), rel=1e-14, abs=0)
            else:
                assert share >= 2.0**999 if exact > 1 else share <= 2.0**-999


def test_a_candidate_whose_numbers_multiply_beyond_the_largest_has_an_allowance():
    candidate, reference = np.array([1e308, 1.0, 1.0]), make_derivatives(C, 1e-10)
    computed = compute_element_allowance(candidate, X, np.full(3, 2.0**500), reference)
    assert np.isfinite(computed.allowed_error).all()
    assert computed.allowed_error[0] < 1e300


def test_an_element_that_underflows_before_it_is_weighted_is_off_by_as_much_more():
    precision = PRECISIONS["FP16"]
    point = make_point(np.zeros(3), np.array([2.0**20, 1.0, 1.0]))
    lines, reference = draw_directions(point, 4), make_derivatives(np.zeros(4))
    found = allowance.compute_direction_allowance(lines, point, np.zeros(3), reference, precision)
    assert lines.direction_weights[0] == 2.0**20
    assert (found.allowed_error >= 6 / np.sqrt(12) * 2.0**20 * precision.smallest_subnormal).all()
