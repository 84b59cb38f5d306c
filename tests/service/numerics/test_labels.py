import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.numerics.labels import CONFLICT, carried, joined, merged, merged_all
from service.numerics.ops import REGISTRY


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 0], 0),
        ([0, 7], 7),
        ([7, 7], 7),
        ([7, 8], CONFLICT),
        ([0, CONFLICT], CONFLICT),
        ([7, CONFLICT], CONFLICT),
        ([CONFLICT, CONFLICT], CONFLICT),
        ([2**40, 2**40 + 1], CONFLICT),
    ],
)
def test_two_at_one_place(labels, expected):
    first, second = np.array([labels])[:, :1], np.array([labels])[:, 1:]
    assert merged(np.array([labels]), 1) == expected
    assert merged_all(np.array([[labels]])) == expected
    assert joined(first, second) == joined(second, first) == expected
    assert carried(lambda planes: planes.sum(axis=1, keepdims=True) / 3, np.array([labels])) == expected


def test_they_broadcast_and_keep_their_places():
    rows, columns = np.array([[[1], [0]]]), np.array([[[0, 1, 2]]])
    np.testing.assert_array_equal(joined(rows, columns), [[[1, 1, CONFLICT], [0, 1, 2]]])
    np.testing.assert_array_equal(merged(np.array([[[1, 1], [0, 2]]]), 2), [[[1], [2]]])


def brute_force(matrix, labels):
    """Row by row, the set of labels that are met."""
    met = [{label for c, label in zip(row, labels, strict=True) if c and label} for row in matrix]
    return [CONFLICT if len(each) > 1 or CONFLICT in each else next(iter(each), 0) for each in met]


@given(
    matrix=hnp.arrays(np.float64, (4, 5), elements=st.sampled_from([0.0, 0.5, 3.0])),
    labels=hnp.arrays(np.int64, 5, elements=st.integers(-1, 9)),
)
def test_carried_is_what_the_matrix_carries(matrix, labels):
    found = carried(lambda planes: planes @ matrix.T, labels[None])[0]
    np.testing.assert_array_equal(found, brute_force(matrix, labels))


def test_nine_colours_are_enough_for_a_convolution_of_three_by_three():
    """A spread is no wider than it must be: rows stay rows, elements elements."""
    rows, columns = np.indices((7, 8))
    labels = (1 + 3 * (rows % 3) + columns % 3)[None]
    conv, weight = REGISTRY["conv2d"](), np.ones((1, 3, 3))
    assert (conv.spread((labels, np.zeros((1, 3, 3), int), None), np.ones((1, 7, 8)), weight, None) == CONFLICT).all()
    alone = labels * (labels == 5)
    reached = conv.spread((alone, np.zeros((1, 3, 3), int), None), np.ones((1, 7, 8)), weight, None)
    assert (reached == 5).all()
    x, w = np.ones((1, 4, 3)), np.ones((1, 2, 3))
    of_rows = np.repeat([[[1], [2], [3], [4]]], 3, axis=2)
    found = REGISTRY["linear"]().spread((of_rows, np.zeros((1, 2, 3), int), None), x, w, None)
    np.testing.assert_array_equal(found, of_rows[..., :2])
    each = np.arange(1, 13).reshape(1, 3, 4)
    np.testing.assert_array_equal(REGISTRY["tanh"]().spread((each,), each), each)
    np.testing.assert_array_equal(REGISTRY["mul"]().spread((each, each * 0), each, each), each)
    np.testing.assert_array_equal(REGISTRY["softmax"](dim=1).spread((of_rows,), x), of_rows)
