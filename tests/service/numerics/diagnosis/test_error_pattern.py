"""Patterns of wrong elements: planted ones are named exactly, and chance is not named."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.numerics.diagnosis.error_pattern import describe_error_pattern
from tests.service.numerics.diagnosis.test_error_locations import ALL, make_mask

RELATIVE_ALLOWANCE = 1e-10
Change = Callable[[np.ndarray], np.ndarray]
CHANGES: dict[str, Change] = {
    "sign flipped": lambda g: -g,
    "zero": lambda g: 0 * g,
    "doubled": lambda g: 2 * g,
    "halved": lambda g: g / 2,
    "NaN": lambda g: np.nan * g,
    "infinite": lambda g: np.inf * g,
}
FITTED_CHANGES: dict[str, Change] = {
    "times 3": lambda g: 3 * g,
    "times -2": lambda g: -2 * g,
    "times 1/8": lambda g: g / 8,
    "times 1.732": lambda g: np.sqrt(3) * g,
    "times (1 + 1e-05)": lambda g: (1 + 1e-5) * g,
    "times (1 - 0.0002)": lambda g: (1 - 2e-4) * g,
    "too large by 0.25 each": lambda g: g + 0.25,
    "too small by 1e-06 each": lambda g: g - 1e-6,
}


def describe(wrong: np.ndarray, change: Change, seed: int = 0, undecided: np.ndarray | None = None) -> str:
    """Plant a change at the elements of a mask, and describe it."""
    generator = np.random.default_rng(seed)
    right = generator.normal(size=wrong.shape) + generator.choice([-3, 3], size=wrong.shape)
    allowed = RELATIVE_ALLOWANCE * np.abs(right)
    measured = right + allowed * generator.uniform(-0.5, 0.5, size=wrong.shape)
    judged = np.where(wrong, change(right), right)
    return describe_error_pattern("w", judged, measured, allowed, wrong, None if undecided is None else ~undecided)


def add_noise(g: np.ndarray) -> np.ndarray:
    return g + np.random.default_rng(1).normal(size=g.shape)


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        (make_mask((), ()), "its one element"),
        (make_mask((3, 4), ALL), "all elements"),
        (make_mask((64, 5), slice(16)), "exactly rows 0 to 15"),
        (make_mask((32, 5), slice(16)), "exactly rows 0 to 15 (the first half)"),
        (make_mask((4, 9), (ALL, slice(None, None, 2))), "exactly every second column"),
        (make_mask((4, 9), (ALL, slice(1, None, 3))), "exactly every third column from 1 on"),
        (make_mask((7, 3), 6), "exactly the last row (6)"),
        (make_mask((7, 3), (ALL, 2)), "exactly the last column (2)"),
        (make_mask((9,), slice(0, None, 2)), "exactly every second element"),
        (make_mask((2, 3, 5), (ALL, 2)), "exactly the last index (2) of axis 1"),
        (make_mask((5, 5), np.triu_indices(5, 1)), "exactly the elements above the diagonal"),
        (make_mask((5, 5), np.tril_indices(5)), "exactly the diagonal and the elements below it"),
        (~make_mask((6, 5), 2), "exactly all but row 2"),
        (~make_mask((6, 5), (2, 1)), "all elements but w[2][1]"),
        (make_mask((5, 6), ([0, 1, 2, 3, 4], [1, 4, 3, 5, 0])), None),
    ],
)
@pytest.mark.parametrize("relation", CHANGES)
def test_planted_place_and_relation_are_described(wrong: np.ndarray, place: str | None, relation: str) -> None:
    if place is None:
        place = f"{np.count_nonzero(wrong)} of {wrong.size} elements"
    assert describe(wrong, CHANGES[relation]) == f"{place}, {relation}"


@pytest.mark.parametrize("relation", FITTED_CHANGES)
def test_fitted_number_needs_three_elements(relation: str) -> None:
    change = FITTED_CHANGES[relation]
    assert describe(make_mask((7, 3), 6), change) == f"exactly the last row (6), {relation}"
    assert describe(make_mask((7, 3), (6, slice(2))), change) == "exactly the last row (6) of columns 0 to 1"
    assert describe(make_mask((7, 3), (6, 1)), change) == "one element: w[6][1]"


def test_few_elements_are_named_one_by_one() -> None:
    assert describe(make_mask((2, 2), (1, 1)), CHANGES["sign flipped"]) == "one element, sign flipped: w[1][1]"
    scattered = make_mask((5, 6), ([0, 2, 4], [1, 5, 0]))
    assert describe(scattered, CHANGES["doubled"]) == "3 elements, doubled: w[0][1], w[2][5], w[4][0]"
    assert describe(scattered, add_noise) == "3 elements: w[0][1], w[2][5], w[4][0]"


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.15, 0.85))
def test_random_set_is_described_by_its_count(seed: int, share: float) -> None:
    wrong = np.random.default_rng(seed).uniform(size=(9, 11)) < share
    # A tenth of a per mille of such sets is regular by chance.
    assert describe(wrong, add_noise, seed) == f"{np.count_nonzero(wrong)} of 99 elements"


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(CHANGES)), st.integers(0, 6))
def test_single_deviating_element_removes_the_relation(seed: int, relation: str, position: int) -> None:
    wrong = make_mask((7, 3), ALL)

    def change(right: np.ndarray) -> np.ndarray:
        changed = CHANGES[relation](right)
        changed[position, 1] = 1.5 * right[position, 1]
        return changed

    assert describe(wrong, change, seed) == "all elements"


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 19))
def test_single_changed_element_removes_the_exact_place(seed: int, position: int) -> None:
    wrong = make_mask((8, 9), slice(2, 6))
    toggled = wrong.copy()
    toggled.ravel()[3 * position + 1] ^= True
    assert describe(wrong, add_noise, seed) == "exactly rows 2 to 5"
    assert describe(toggled, add_noise, seed) == f"{np.count_nonzero(toggled)} of 72 elements"


def test_undecided_elements_remove_the_exact_place() -> None:
    wrong, undecided = make_mask((8, 9), slice(2, 6)), make_mask((8, 9), (0, 0))
    assert describe(wrong, CHANGES["doubled"], undecided=undecided) == "36 of 71 elements, doubled"
    assert describe(wrong, CHANGES["doubled"], undecided=~wrong) == "all 36 elements that could be judged, doubled"
    assert describe(wrong, CHANGES["doubled"], undecided=make_mask((8, 9))) == "exactly rows 2 to 5, doubled"


@pytest.mark.parametrize("relation", ["sign flipped", "doubled", "halved"])
def test_gradient_within_its_allowance_has_no_relation(relation: str) -> None:
    right = np.full(5, 1e-3)
    judged = CHANGES[relation](right)
    wrong = np.ones(5, np.bool_)
    assert describe_error_pattern("w", judged, right, np.full(5, 1e-6), wrong) == f"all elements, {relation}"
    assert describe_error_pattern("w", judged, right, np.full(5, 4e-4), wrong) == "all elements"


def test_constant_gradient_with_constant_error_is_described_by_a_factor() -> None:
    """Of both, the factor is named: what was added to numbers that do not differ cannot be told from it."""
    right, wrong = np.full(5, 2.0), np.ones(5, np.bool_)
    assert describe_error_pattern("w", right + 1, right, 1e-12 * right, wrong) == "all elements, times 3/2"
    zero = np.zeros(5)
    assert describe_error_pattern("w", zero + 1, zero, np.full(5, 1e-12), wrong) == "all elements"


def test_partly_nonfinite_errors_have_no_relation() -> None:
    right, wrong = np.arange(1.0, 6.0), np.ones(5, np.bool_)
    judged = np.where(right > 2, np.nan, -right)
    assert describe_error_pattern("w", judged, right, 1e-12 * right, wrong) == "all elements"


@pytest.mark.parametrize("shape", [(9,), (3, 3), (2, 5), (2, 2, 2)])
def test_exact_words_are_those_of_one_set_alone(shape: tuple[int, ...]) -> None:
    sets_by_words: dict[str, np.ndarray] = {}
    for bits in product((False, True), repeat=int(np.prod(shape))):
        wrong = np.array(bits).reshape(shape)
        if not wrong.any():
            continue
        words = describe(wrong, CHANGES["doubled"])
        if " of " in words.partition(" elements")[0] and "exactly" not in words:
            continue
        assert words not in sets_by_words, words
        sets_by_words[words] = wrong
    assert len(sets_by_words) > 100


@pytest.mark.parametrize(("factor", "words"), [(1e310, None), (1e200, None), (1e8, "times 1e+08"), (-3.0, "times -3")])
def test_a_factor_beyond_the_range_is_not_named(factor: float, words: str | None) -> None:
    """Candidates may hold any numbers of float64 beside references that are far smaller."""
    reference = np.array([1e-20, 2e-20, 3e-20, 5e-20]) * (1e-280 if abs(factor) > 1e300 else 1.0)
    judged = np.array([1.0, 2.0, 3.0, 5.0]) * (1e10 if abs(factor) > 1e300 else factor * 1e-20)
    with np.errstate(all="ignore"):
        text = describe_error_pattern("w", judged, reference, 1e-9 * np.abs(reference), np.ones(4, np.bool_))
    assert (words is None) == ("times" not in text)
    assert words is None or words in text
