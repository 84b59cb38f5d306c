"""Placements by index: values and gradients counted by hand, and repeated indices."""

import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from tests.service.numerics.ops.shape_refusals import get_refusal

X = np.array([[10.0, 20.0, 30.0]])
SOURCE = np.array([[1.0, 2.0, 4.0]])
INDEX = np.array([[2, 0, 2]])
G = np.array([[5.0, 6.0, 7.0]])


@pytest.mark.parametrize("name", ["scatter_add", "index_add"])
def test_repeated_indices_add_up(name: str) -> None:
    op = OP_REGISTRY[name](dim=0)
    y = op.forward(X, INDEX, SOURCE)
    np.testing.assert_array_equal(y, [[12, 20, 35]])
    by_x, by_index, by_source = op.backward(G, y, X, INDEX, SOURCE)
    assert by_index is None
    np.testing.assert_array_equal(by_x, G)
    np.testing.assert_array_equal(by_source, [[7, 5, 7]])


@pytest.mark.parametrize("name", ["scatter", "index_copy"])
def test_replaced_elements_have_no_gradient(name: str) -> None:
    op = OP_REGISTRY[name](dim=0)
    index, source = INDEX[:, :2], SOURCE[:, :2]
    y = op.forward(X, index, source)
    np.testing.assert_array_equal(y, [[2, 20, 1]])
    by_x, _, by_source = op.backward(G, y, X, index, source)
    np.testing.assert_array_equal(by_x, [[0, 6, 0]])
    np.testing.assert_array_equal(by_source, [[7, 5]])


def test_index_put_takes_coordinates() -> None:
    x, values, rows, columns = np.zeros((1, 2, 3)), np.array([[1.0, 2.0]]), np.array([[1, 1]]), np.array([[2, 2]])
    op = OP_REGISTRY["index_put"](accumulate=True)
    y = op.forward(x, values, rows, columns)
    np.testing.assert_array_equal(y[0], [[0, 0, 0], [0, 0, 3]])
    by_x, by_values, *_ = op.backward(y, y, x, values, rows, columns)
    np.testing.assert_array_equal(by_x, y)
    np.testing.assert_array_equal(by_values, [[3, 3]])


def test_elements_of_src_beyond_the_index_have_no_gradient() -> None:
    op = OP_REGISTRY["scatter_add"](dim=0)
    y = op.forward(X, INDEX[:, :1], SOURCE)
    np.testing.assert_array_equal(y, [[10, 20, 31]])
    np.testing.assert_array_equal(op.backward(G, y, X, INDEX[:, :1], SOURCE)[2], [[7, 0, 0]])


@pytest.mark.parametrize(
    ("name", "attributes", "shapes", "values"),
    [
        ("scatter", {"dim": 0}, ((3,), (3,), (3,)), (INDEX[0],)),
        ("scatter", {"dim": 1}, ((2, 3), (2, 2), (2, 2)), (np.array([[0, 1], [2, 2]]),)),
        ("index_copy", {"dim": 0}, ((3,), (3,), (3,)), (INDEX[0],)),
    ],
)
def test_elements_that_replace_one_another_are_refused(name, attributes, shapes, values) -> None:
    op = OP_REGISTRY[name](**attributes)
    with pytest.raises(ShapeError, match="without repeats"):
        op.check_values(shapes, None, *values, None)
    op.check_values(shapes, None, np.array([2, 0, 1]) if values[0].ndim == 1 else np.array([[0, 1], [1, 0]]), None)


def test_index_put_refuses_repeats_alone_that_replace() -> None:
    shapes = ((2, 3), (2,), (2,), (2,))
    same, other = np.array([1, 1]), np.array([0, 2])
    with pytest.raises(ShapeError, match="without repeats"):
        OP_REGISTRY["index_put"]().check_values(shapes, None, None, same, same)
    OP_REGISTRY["index_put"]().check_values(shapes, None, None, same, other)
    OP_REGISTRY["index_put"](accumulate=True).check_values(shapes, None, None, same, same)
    with pytest.raises(ShapeError, match="an index from 0 to 1"):
        OP_REGISTRY["index_put"](accumulate=True).check_values(shapes, None, None, other, same)


@pytest.mark.parametrize(
    ("name", "attributes", "shapes", "words"),
    [
        ("scatter", {"dim": 0}, ((3,), (2, 1), (3,)), "equally many axes"),
        ("scatter", {"dim": 0}, ((3, 2), (1, 3), (1, 3)), "not longer than the input"),
        ("scatter_add", {"dim": 0}, ((3,), (2,), (1,)), "not longer than src"),
        ("index_add", {"dim": 1}, ((3, 4), (2,), (3, 3)), "[3, 2]"),
        ("index_add", {"dim": 0}, ((), (1,), (1,)), "at least one axis"),
        ("index_put", {}, ((3,), (1,), (1,), (1,)), "no more indices"),
        ("index_put", {}, ((3, 3), (2,), (2,), (3,)), "broadcast together"),
        ("index_put", {}, ((3, 3), (2,), (2,)), "[2, 3]"),
    ],
)
def test_placements_refuse_by_name(name, attributes, shapes, words) -> None:
    assert words in get_refusal(name, attributes, *shapes)
