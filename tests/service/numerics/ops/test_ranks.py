from itertools import product

import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY, ranks
from service.numerics.ops.discrete import ANY_VALUE
from service.numerics.ops.op import ShapeError
from service.numerics.ops.ranks import FirstRanks, OneRank, Ordering, OrderSoFar

ORDERINGS: dict[str, Ordering] = {
    "argsort": OP_REGISTRY["argsort"](dim=1),
    "argsort, descending": OP_REGISTRY["argsort"](dim=-2, descending=True),
    "argsort, stable": OP_REGISTRY["argsort"](dim=1, stable=True),
    "first": FirstRanks(dim=1, k=2),
    "first, ascending": FirstRanks(dim=2, k=3, descending=False),
    "one": OneRank(dim=0, rank=1),
    "one, without axis": OneRank(dim=1, rank=3, keepdim=False),
    "largest so far": OrderSoFar(dim=1),
    "smallest so far": OrderSoFar(dim=2, largest=False),
    "argmax": OP_REGISTRY["argmax"](),
    "argmax, dim": OP_REGISTRY["argmax"](dim=1),
    "argmin": OP_REGISTRY["argmin"](keepdim=True),
    "argmin, dim": OP_REGISTRY["argmin"](dim=-1, keepdim=True),
}


@pytest.mark.parametrize("name", ORDERINGS)
def test_positions_are_those_of_pytorch(name: str) -> None:
    order = ORDERINGS[name]
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    expected = np.stack([order.torch_forward(torch, torch.tensor(tile)).numpy() for tile in x])
    np.testing.assert_array_equal(order.forward(x), expected)
    assert expected.shape[1:] == order.infer_output_shape(x.shape[1:])


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("row", [[1.0, 3.0, 3.0, 1.0], [2.0, np.nan, 5.0, np.nan], [np.inf, -np.inf, np.inf, -np.inf]])
def test_the_first_of_equal_elements_is_taken_and_nan_before_all(name: str, row: list[float]) -> None:
    expected = getattr(torch, name)(torch.tensor(row)).item()
    assert OP_REGISTRY[name]().forward(np.array([row])).item() == expected


@pytest.mark.parametrize("descending", [False, True])
def test_a_stable_order_keeps_equal_elements_as_they_stand(descending: bool) -> None:
    x = np.array([[1.0, 0.0, np.nan, 1.0, 0.0, np.nan, np.inf]])
    expected = torch.argsort(torch.tensor(x[0]), stable=True, descending=descending)
    np.testing.assert_array_equal(OP_REGISTRY["argsort"](descending=descending).forward(x)[0], expected)


def test_running_extremes_take_the_last_of_equal_elements() -> None:
    x = np.array([[1.0, 1.0, 0.0, 1.0, np.nan, 2.0, np.nan]])
    for largest, function in ((True, torch.cummax), (False, torch.cummin)):
        expected = function(torch.tensor(x[0]), 0).indices
        np.testing.assert_array_equal(OrderSoFar(dim=0, largest=largest).forward(x)[0], expected)


def list_possible_positions(order: Ordering, x: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The positions in `order` at all corners of the errors, and midway, as a mask of results and elements."""
    moves = np.array(list(product((-1.0, 0.0, 1.0), repeat=x.size)))
    positions = order.forward(x + 0.999999 * moves * errors)
    return (positions[..., None] == np.arange(x.size)).reshape(len(moves), -1, x.size).any(axis=0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "order",
    [
        OP_REGISTRY["argsort"](),
        OP_REGISTRY["argsort"](descending=True, stable=True),
        FirstRanks(dim=0, k=2),
        OneRank(dim=0, rank=2),
        OrderSoFar(dim=0),
        OrderSoFar(dim=0, largest=False),
        OP_REGISTRY["argmax"](dim=0, keepdim=True),
        OP_REGISTRY["argmin"](dim=0, keepdim=True),
    ],
    ids=repr,
)
def test_values_cover_all_orders_within_the_errors(order: Ordering, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(1, 6))
    errors = generator.choice([0.0, 0.01, 0.3, 0.8], x.shape)
    values = order.list_values([errors], x)
    np.testing.assert_array_equal(values[:1], order.forward(x))
    listed = (values[..., None] == np.arange(6)).any(axis=0)
    possible = list_possible_positions(order, x, errors)
    assert not (possible & ~listed).any()
    # A list of everything would make every check inconclusive.
    assert listed.sum() <= possible.sum() + 6


def test_equal_elements_are_open_unless_the_order_is_stable() -> None:
    x, exact = np.array([[2.0, 1.0, 2.0]]), np.zeros((1, 3))
    assert len(OP_REGISTRY["argsort"]().list_values([exact], x)) > 1
    assert len(OP_REGISTRY["argsort"](stable=True).list_values([exact], x)) == 1
    assert len(OP_REGISTRY["argmax"]().list_values([exact], x)) == 1
    assert len(OneRank(dim=0, rank=2).list_values([exact], x)) > 1
    assert len(OP_REGISTRY["argsort"](stable=True).list_values([exact + 1e-9], x)) > 1
    np.testing.assert_array_equal(np.unique(OP_REGISTRY["argmax"]().list_values([exact + 1e-9], x)), [0, 2])


def test_only_rows_with_near_elements_are_open() -> None:
    x = np.array([[[1.0, 2.0, 3.0], [1.0, 1.0 + 1e-12, 3.0]]])
    values = OP_REGISTRY["argsort"]().list_values([np.full(x.shape, 1e-11)], x)
    assert (values[:, 0] == [0, 1, 2]).all()
    assert {tuple(value) for value in values[:, 1]} >= {(0, 1, 2)}
    assert set(values[:, 1, 0]) == {0, 1}
    assert set(values[:, 1, 2]) == {2}


@pytest.mark.parametrize("limit", ["MAX_CHOICE_TABLE", "_MAX_VALUES"])
def test_too_many_possible_positions_are_any(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(ranks, limit, 2)
    values = OP_REGISTRY["argsort"]().list_values([np.zeros((1, 5))], np.ones((1, 5)))
    assert (values == ANY_VALUE).any()


@pytest.mark.parametrize("error", [np.inf, np.nan])
def test_an_unknown_error_leaves_every_position_possible(error: float) -> None:
    x = np.array([[1.0, 2.0, 3.0]])
    with np.errstate(invalid="ignore"):
        values = OP_REGISTRY["argsort"]().list_values([np.full(x.shape, error)], x)
    assert all(set(values[:, position]) == {0, 1, 2} for position in range(3))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="a k from 1 to 3, the length of axis -1"):
        FirstRanks(dim=-1, k=4).infer_output_shape((2, 3))
    with pytest.raises(ShapeError, match="an axis from -2 to 1, not 2"):
        OP_REGISTRY["argsort"](dim=2).infer_output_shape((2, 3))
    with pytest.raises(ShapeError, match="an axis with elements"):
        OP_REGISTRY["argmax"](dim=1).infer_output_shape((2, 0))
    assert OP_REGISTRY["argsort"]().forward(np.array([5.0])).tolist() == [0]
