import numpy as np
import pytest

from service.numerics.core.equal_numbers import (
    FEW_EQUAL,
    count_equal_numbers,
    find_equal_numbers,
    find_longest_repeat,
)


def test_groups_are_those_of_equal_numbers() -> None:
    numbers = np.array([[2.0, 1.0, 2.0], [2.0, 2.0, 2.0]])
    groups = find_equal_numbers(numbers)
    assert groups is not None
    assert groups.tolist() == [[1, 0, 1], [1, 1, 1]]
    counts = count_equal_numbers(numbers)
    assert counts is not None
    assert counts.tolist() == [[5, 1, 5], [5, 5, 5]]


def test_few_are_none_and_neither_are_numbers_that_do_not_round() -> None:
    for value in (1.0, 0.0, np.inf, np.nan):
        numbers = np.full(4 if value == 1 else 100, value)
        assert find_equal_numbers(numbers) is None
        assert count_equal_numbers(numbers) is None
    assert find_equal_numbers(np.empty(0)) is None


def test_longest_repeat_ignores_exact_numbers() -> None:
    numbers = np.repeat([0.0, 3.0, 1.0, np.inf, np.nan], [30, 6, 5, 20, 10])
    assert find_longest_repeat(numbers) == 6
    for few in (np.zeros(3), np.zeros(300), np.empty(0), np.arange(20.0)):
        assert find_longest_repeat(few) == FEW_EQUAL


@pytest.mark.parametrize("size", [40, 60, 65, 1000, 50_000])
def test_one_repeat_among_many_numbers_is_found(size: int) -> None:
    generator = np.random.default_rng(size)
    for equal in range(1, 12):
        numbers = generator.normal(size=size)
        numbers[generator.permutation(size)[:equal]] = 0.1
        assert find_longest_repeat(numbers) == max(equal, FEW_EQUAL)
        assert find_longest_repeat(numbers.reshape(-1, 5).T) == max(equal, FEW_EQUAL)
        assert (find_equal_numbers(numbers) is None) == (equal <= FEW_EQUAL)


@pytest.mark.parametrize("size", [65, 600, 4096, 4097])
def test_sorted_and_hashed_numbers_have_the_same_longest_repeat(size: int) -> None:
    generator = np.random.default_rng(size)
    for equal in (1, 4, 5, 9):
        numbers = generator.normal(size=size)
        numbers[:40] = [0.0, -0.0, np.inf, -np.inf, np.nan] * 8
        numbers[40 : 40 + equal] = 0.75
        generator.shuffle(numbers)
        assert find_longest_repeat(numbers) == max(FEW_EQUAL, equal)
