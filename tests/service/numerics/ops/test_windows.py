import numpy as np
import pytest

from service.numerics.ops import windows
from service.numerics.ops.windows import AxisWindows
from tests.service.numerics.operation_counts import count_operations

MANY = [
    AxisWindows(*each)
    for each in [
        (5, 1),
        (5, 2),
        (4, 3, 2),
        (7, 4, 1, 2),
        (3, 5, 3, 2),
        (40, 13),
        (9, 13, 4, 3),
        (1, 24),
        (60, 31, 2),
        (1, 1),
    ]
]


def held(each: AxisWindows) -> list[np.ndarray]:
    """Places of the elements of each window, from the definition."""
    return [each.stride * p + each.dilation * np.arange(each.window_length) for p in range(each.window_count)]


def data(each: AxisWindows, *lead: int, seed: int = 0) -> np.ndarray:
    # Of few values, so that ties are the rule; longer than is needed, as a padded input may be.
    return np.random.default_rng([seed, *each]).integers(0, 5, (*lead, each.required_length + 2)).astype(np.float64)


@pytest.mark.parametrize("each", MANY, ids=str)
def test_joined_windows_equal_their_definition(each):
    array = data(each, 2, 3)
    np.testing.assert_array_equal(
        windows.take_window_minimum(array, -1, each),
        np.stack([array[..., at].min(axis=-1) for at in held(each)], axis=-1),
    )
    np.testing.assert_array_equal(
        windows.sum_windows(array, -1, each), np.stack([array[..., at].sum(axis=-1) for at in held(each)], axis=-1)
    )


@pytest.mark.parametrize("each", MANY, ids=str)
def test_window_maximum_takes_the_first_of_equals(each):
    array = data(each, 4)
    places = np.broadcast_to(np.arange(array.shape[-1]), array.shape)
    largest, at = windows.take_window_maximum(array, places, -1, each)
    expected = np.stack([own[array[:, own].argmax(axis=-1)] for own in held(each)], axis=-1)
    np.testing.assert_array_equal(at, expected)
    np.testing.assert_array_equal(largest, np.take_along_axis(array, expected, -1))


@pytest.mark.parametrize("each", MANY, ids=str)
def test_elements_gather_from_the_windows_that_hold_them(each):
    values = data(each, 2)[:, : each.window_count]
    total, least = np.zeros((2, each.required_length)), np.full((2, each.required_length), np.inf)
    for p, own in enumerate(held(each)):
        total[:, own] += values[:, [p]]
        least[:, own] = np.minimum(least[:, own], values[:, [p]])
    np.testing.assert_array_equal(windows.sum_over_holding_windows(values, -1, each), total)
    np.testing.assert_array_equal(windows.take_min_over_holding_windows(values, -1, each), least)


def test_any_axis_may_have_windows():
    each = AxisWindows(3, 4, 2)
    array = data(each, 5)
    np.testing.assert_array_equal(windows.sum_windows(array.T, -2, each), windows.sum_windows(array, -1, each).T)
    values = array[:, : each.window_count]
    np.testing.assert_array_equal(
        windows.sum_over_holding_windows(values.T, -2, each), windows.sum_over_holding_windows(values, -1, each).T
    )


@pytest.mark.parametrize("each", [*MANY, AxisWindows(400, 120), AxisWindows(50, 1000, 7, 2)], ids=str)
def test_window_joins_are_counted_as_estimated(each):
    array = data(each)
    for work in (windows.take_window_minimum, windows.sum_windows):
        found = count_operations(work, array, -1, each)
        assert found.elements <= each.join_count
        assert found.elements >= each.join_count - each.required_length - each.window_count
        assert found.calls <= each.call_count


def test_large_windows_take_few_joins():
    assert AxisWindows(401, 120).join_count < 401 * 120 / 8
