import numpy as np
import pytest

from service.numerics.ops import windows
from service.numerics.ops.windows import AxisWindows
from tests.service.numerics.operation_counts import count_operations

MANY = [
    AxisWindows(*parameters)
    for parameters in [
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


def list_window_places(axis_windows: AxisWindows) -> list[np.ndarray]:
    """Places of the elements of axis_windows window, from the definition."""
    return [
        axis_windows.stride * p + axis_windows.dilation * np.arange(axis_windows.window_length)
        for p in range(axis_windows.window_count)
    ]


def draw_data(axis_windows: AxisWindows, *lead: int, seed: int = 0) -> np.ndarray:
    # Of few values, so that ties are the rule; longer than is needed, as a padded input may be.
    return (
        np.random.default_rng([seed, *axis_windows])
        .integers(0, 5, (*lead, axis_windows.required_length + 2))
        .astype(np.float64)
    )


@pytest.mark.parametrize("axis_windows", MANY, ids=str)
def test_joined_windows_equal_their_definition(axis_windows):
    array = draw_data(axis_windows, 2, 3)
    np.testing.assert_array_equal(
        windows.take_window_minimum(array, -1, axis_windows),
        np.stack([array[..., at].min(axis=-1) for at in list_window_places(axis_windows)], axis=-1),
    )
    np.testing.assert_array_equal(
        windows.sum_windows(array, -1, axis_windows),
        np.stack([array[..., at].sum(axis=-1) for at in list_window_places(axis_windows)], axis=-1),
    )


@pytest.mark.parametrize("axis_windows", MANY, ids=str)
def test_window_maximum_takes_the_first_of_equals(axis_windows):
    array = draw_data(axis_windows, 4)
    places = np.broadcast_to(np.arange(array.shape[-1]), array.shape)
    largest, at = windows.take_window_maximum(array, places, -1, axis_windows)
    expected = np.stack([own[array[:, own].argmax(axis=-1)] for own in list_window_places(axis_windows)], axis=-1)
    np.testing.assert_array_equal(at, expected)
    np.testing.assert_array_equal(largest, np.take_along_axis(array, expected, -1))


@pytest.mark.parametrize("axis_windows", MANY, ids=str)
def test_elements_gather_from_the_windows_that_hold_them(axis_windows):
    values = draw_data(axis_windows, 2)[:, : axis_windows.window_count]
    total, least = np.zeros((2, axis_windows.required_length)), np.full((2, axis_windows.required_length), np.inf)
    for p, own in enumerate(list_window_places(axis_windows)):
        total[:, own] += values[:, [p]]
        least[:, own] = np.minimum(least[:, own], values[:, [p]])
    np.testing.assert_array_equal(windows.sum_over_holding_windows(values, -1, axis_windows), total)
    np.testing.assert_array_equal(windows.take_min_over_holding_windows(values, -1, axis_windows), least)


def test_any_axis_may_have_windows():
    axis_windows = AxisWindows(3, 4, 2)
    array = draw_data(axis_windows, 5)
    np.testing.assert_array_equal(
        windows.sum_windows(array.T, -2, axis_windows), windows.sum_windows(array, -1, axis_windows).T
    )
    values = array[:, : axis_windows.window_count]
    np.testing.assert_array_equal(
        windows.sum_over_holding_windows(values.T, -2, axis_windows),
        windows.sum_over_holding_windows(values, -1, axis_windows).T,
    )


@pytest.mark.parametrize("axis_windows", [*MANY, AxisWindows(400, 120), AxisWindows(50, 1000, 7, 2)], ids=str)
def test_window_joins_are_counted_as_estimated(axis_windows):
    array = draw_data(axis_windows)
    for work in (windows.take_window_minimum, windows.sum_windows):
        counts = count_operations(work, array, -1, axis_windows)
        assert counts.elements <= axis_windows.join_count
        assert counts.elements >= axis_windows.join_count - axis_windows.required_length - axis_windows.window_count
        assert counts.calls <= axis_windows.call_count


def test_large_windows_take_few_joins():
    assert AxisWindows(401, 120).join_count < 401 * 120 / 8
