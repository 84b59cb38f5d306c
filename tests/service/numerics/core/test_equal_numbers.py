import numpy as np

from service.numerics.core.equal_numbers import count_equal_numbers, find_equal_numbers, find_longest_repeat


def test_groups_are_those_of_equal_numbers() -> None:
    numbers = np.array([[2.0, 1.0, 2.0], [2.0, 2.0, 2.0]])
    groups = find_equal_numbers(numbers)
    assert groups is not None
    assert groups.tolist() == [[1, 0, 1], [1, 1, 1]]
    assert count_equal_numbers(numbers).tolist() == [[5, 1, 5], [5, 5, 5]]


def test_few_are_none_and_neither_are_numbers_that_do_not_round() -> None:
    for each in (1.0, 0.0, np.inf, np.nan):
        numbers = np.full(4 if each == 1 else 100, each)
        assert find_equal_numbers(numbers) is None
        assert (count_equal_numbers(numbers) == 1).all()
    assert find_equal_numbers(np.empty(0)) is None


def test_the_longest_repeat_leaves_out_what_does_not_round() -> None:
    assert find_longest_repeat(np.array([0.0, 0, 0, 3, 1, 3, np.inf, np.inf, np.inf, np.nan])) == 2
    assert find_longest_repeat(np.zeros(3)) == find_longest_repeat(np.empty(0)) == 0
