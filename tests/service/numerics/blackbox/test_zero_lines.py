"""Lines that are zero, with a case on each side of each limit."""

import numpy as np
import pytest

from service.numerics.blackbox.allowance import CandidateAllowance
from service.numerics.blackbox.zero_lines import are_lines_zero, sum_effects
from service.numerics.core.precision import PRECISIONS
from tests.service.numerics.blackbox.stated_derivatives import make_derivatives, make_point

U = 2.0**-53
FP64 = PRECISIONS["FP64"]


def find_zeros(candidate, *, others=(), value=0.0, allowed=1000 * U, sizes=1.0, other_effect=0.0, **known):
    """Elements of a tensor with `others` that are not moved."""
    judged = np.atleast_1d(np.asarray(candidate, float))
    move_sizes = np.broadcast_to(float(sizes), judged.shape)
    allowance = CandidateAllowance(judged, *[np.full(judged.shape, allowed)] * 2, np.zeros(judged.shape), move_sizes)
    gradient = np.concatenate([judged, np.asarray(others, float)])
    with np.errstate(all="ignore"):
        effects = sum_effects(gradient, np.full(gradient.shape, float(sizes)), judged, move_sizes)
    reference = make_derivatives(np.broadcast_to(value, judged.shape), allowed, **known)
    point = make_point(np.zeros(gradient.size), np.full(gradient.size, float(sizes)))
    with np.errstate(all="ignore"):
        return are_lines_zero(allowance, effects, point, reference, FP64, other_effect).tolist()


def test_a_line_without_evidence_is_not_zero():
    assert find_zeros([0.0, 10 * U]) == [False, False]


def test_a_constant_line_is_zero_for_a_candidate_of_exactly_zero():
    assert find_zeros([0.0, -0.0, 5e-324, np.nan, np.inf], is_constant=True) == [True, True, False, False, False]
    # Beside a huge element the product is no number.
    assert find_zeros([1e-300, 1e300], is_constant=True) == [False, False]


@pytest.mark.parametrize(("total", "zero"), [(63, True), (65, False)])
def test_the_elements_of_a_jittering_loss_are_zero_together(total, zero):
    assert find_zeros([total * U], has_jitter=True) == [zero]
    assert find_zeros([0.0], others=[total * U / 8] * 8, has_jitter=True) == [zero]
    assert find_zeros([0.0], others=[-total * U / 8] * 8, has_jitter=True) == [zero]


@pytest.mark.parametrize(
    ("known", "zero"),
    [
        ({}, True),
        ({"value": 999 * U}, True),
        ({"value": 1001 * U}, False),
        ({"allowed": 4095 * U}, True),
        ({"allowed": 4097 * U}, False),
        ({"allowed": 2.0**-10, "resolution": 2.0**-9}, True),
        ({"allowed": 2.0**-9, "resolution": 2.0**-9}, False),
        ({"sizes": 2.0**-50}, False),
    ],
)
def test_a_jittering_loss_is_zero_within_its_roundings(known, zero):
    assert find_zeros([0.0], has_jitter=True, **known) == [zero]


@pytest.mark.parametrize(
    ("candidate", "known", "zero"),
    [
        (0.0, {}, True),
        (0.0, {"least_curvature_effect": 0.99e9 * U}, False),
        (0.0, {"least_curvature_effect": np.nan}, False),
        # 64 u of the curvature, or of the root of it times the loss.
        (63 * U, {}, True),
        (65 * U, {}, False),
        (630 * U, {"base_magnitude": 100.0}, True),
        (650 * U, {"base_magnitude": 100.0}, False),
    ],
)
def test_a_minimum_is_zero_beside_its_curvature(candidate, known, zero):
    """Of 1000 roundings a curvature of 1e9 of them is a million times as much."""
    known = {"least_curvature_effect": 1.0, **known}
    assert find_zeros([candidate], **known) == [zero]


def test_the_largest_curvature_of_a_tensor_counts_for_all_of_it():
    assert find_zeros([0.0, 0.0], least_curvature_effect=np.array([1e-3, 1.0])) == [True, True]
    assert find_zeros([1e-17, 1e-17], least_curvature_effect=np.array([1e-12, 1.0]), base_magnitude=0.0) == [
        False,
        True,
    ]


@pytest.mark.parametrize(("effect", "zero"), [(1.01e9 * U, True), (0.99e9 * U, False)])
def test_a_tensor_is_zero_beside_the_effect_of_another(effect, zero):
    assert find_zeros([0.0], other_effect=effect) == [zero]
    assert find_zeros([0.0], others=[65 * U], other_effect=effect) == [False]


@pytest.mark.parametrize("exponent", [-960, 0, 900])
def test_zeros_do_not_depend_on_the_unit_of_the_point(exponent):
    unit = 2.0**exponent
    for candidate, zero in ((63, True), (65, False)):
        assert find_zeros([candidate * U / unit], allowed=1000 * U / unit, sizes=unit, has_jitter=True) == [
            zero and exponent > -50
        ]
