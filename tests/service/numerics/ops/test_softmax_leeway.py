import numpy as np

from service.numerics.ops.softmax_leeway import compute_softmax_leeway


def test_softmax_leeway_grows_with_distance_from_the_largest() -> None:
    leeway = compute_softmax_leeway(np.array([[3.0, 2.5, -97.0]]), 1)
    assert leeway.tolist() == [[1.0, 1.0, 12.5]]


def test_softmax_leeway_of_the_largest_is_its_gap() -> None:
    assert compute_softmax_leeway(np.array([[800.0, 0.0, -80.0]]), 1).tolist() == [[100.0, 100.0, 110.0]]


def test_two_that_are_largest_have_no_distance() -> None:
    assert compute_softmax_leeway(np.array([[800.0, 800.0, 0.0]]), 1).tolist() == [[1.0, 1.0, 100.0]]


def test_softmax_leeway_of_masked_or_single_score_is_infinite() -> None:
    assert compute_softmax_leeway(np.array([[2.0, 1.0, -np.inf]]), 1).tolist() == [[1.0, 1.0, np.inf]]
    assert compute_softmax_leeway(np.array([[2.0]]), 1).tolist() == [[np.inf]]


def test_softmax_leeway_spans_several_axes() -> None:
    assert compute_softmax_leeway(np.array([[[0.0, -16.0], [-8.0, -0.5]]]), (1, 2)).tolist() == [
        [[1.0, 2.0], [1.0, 1.0]]
    ]
