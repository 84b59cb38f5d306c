"""Placements by index: values and gradients counted by hand, and repeated indices."""

import numpy as np
import pytest
import torch

from service.checks.graph.check import check
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
        ("index_add", {"dim": 0}, ((), (2,), (2,)), "at least one axis"),
        ("index_add", {"dim": 1}, ((), (1,), (1,)), "an axis from -1 to 0"),
        ("scatter_add", {"dim": 0}, ((), (2,), (2,)), "equally many axes"),
        ("index_put", {}, ((3,), (1,), (1,), (1,)), "no more indices"),
        ("index_put", {}, ((3, 3), (2,), (2,), (3,)), "broadcast together"),
        ("index_put", {}, ((3, 3), (4,), (2,)), "[2, 3]"),
    ],
)
def test_placements_refuse_by_name(name, attributes, shapes, words) -> None:
    assert words in get_refusal(name, attributes, *shapes)


NUMBER_OPS = {
    # PyTorch's own backward pass fails where the index has an axis more than the source, or less.
    "scatter_add": lambda x, i, s: torch.scatter_add(x, 0, i, s.reshape(i.shape)),
    "scatter": lambda x, i, s: torch.scatter(x, 0, i, s.reshape(i.shape)),
    "index_add": lambda x, i, s: torch.index_add(x, 0, i, s),
    "index_copy": lambda x, i, s: torch.index_copy(x, 0, i, s),
}


@pytest.mark.parametrize("index_shape", [(), (1,)], ids=["index", "index of 1"])
@pytest.mark.parametrize("source_shape", [(), (1,)], ids=["source", "source of 1"])
@pytest.mark.parametrize("name", NUMBER_OPS)
def test_a_number_is_a_vector_of_one_element(name, index_shape, source_shape) -> None:
    if name.startswith("index") and source_shape:
        assert "numbers" in get_refusal(name, {"dim": 0}, (), index_shape, source_shape), "as PyTorch does"
        return
    leaves = [torch.tensor(2.0, requires_grad=True), torch.full(source_shape, 3.0, requires_grad=True)]
    torch.square(NUMBER_OPS[name](leaves[0], torch.zeros(index_shape, dtype=torch.int64), leaves[1])).sum().backward()
    model = f"y = {name}(x, 0, i, s)\nq = square(y)\nloss = sum(q)"
    index = {"datatype": "INT64", "shape": list(index_shape), "data": [0]}
    body = {"model": model, "tensors": {"i": index}, "weights": {"x": 2.0, "s": leaves[1].tolist()}}
    candidate = {name: leaf.grad.tolist() for name, leaf in zip("xs", leaves, strict=True)}
    assert check({**body, "candidate": candidate})["outcome"] == "pass"
    wrong = {"x": candidate["x"] + 1.0, "s": candidate["s"]}
    assert check({**body, "candidate": wrong})["outcome"] == "fail"


@pytest.mark.parametrize("shape", [(), (4,), (2, 1), (1, 1)])
@pytest.mark.parametrize("accumulate", [True, False])
def test_values_of_index_put_are_broadcast(shape, accumulate) -> None:
    generator = np.random.default_rng(1)
    x, values, index = generator.normal(size=(3, 4)), generator.normal(size=shape), [2, 0]
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, values)]
    torch.square(torch.index_put(leaves[0], (torch.tensor(index),), leaves[1], accumulate)).sum().backward()
    model = f"y = index_put(x, values=v, indices=[i], accumulate={accumulate})\nq = square(y)\nloss = sum(q)"
    body = {"model": model, "tensors": {"i": index}, "weights": {"x": x.tolist(), "v": values.tolist()}}
    candidate = {name: leaf.grad.tolist() for name, leaf in zip("xv", leaves, strict=True)}
    assert check({**body, "candidate": candidate})["outcome"] == "pass"
    wrong = {**candidate, "v": (2 * leaves[1].grad).tolist()}
    assert check({**body, "candidate": wrong})["outcome"] == "fail"
