import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.discrete import ANY_VALUE, Comparison, DiscreteOp, LogicalPair

DISCRETE = {name: op for name, op in OP_REGISTRY.items() if issubclass(op, DiscreteOp)}
COMPARISONS = sorted(name for name, op in DISCRETE.items() if issubclass(op, Comparison))
LOGICAL_PAIRS = sorted(name for name, op in DISCRETE.items() if issubclass(op, LogicalPair))
VALUES = np.array([-1.0, 0.0, -0.0, 1.0, np.inf, -np.inf, np.nan])
TRUTHS = np.array([[True, True, False, False], [True, False, True, False]])


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.bool_])
def test_comparisons_are_those_of_pytorch(name: str, dtype: type) -> None:
    values = VALUES[:4].astype(dtype) if dtype is not np.float64 else VALUES
    a, b = values[None, :, None], values[None, None, :]
    expected = getattr(torch, name)(torch.tensor(a[0]), torch.tensor(b[0])).numpy()
    np.testing.assert_array_equal(OP_REGISTRY[name]().forward(a, b)[0], expected)


@pytest.mark.parametrize("name", COMPARISONS)
def test_integers_are_compared_with_floats(name: str) -> None:
    a, b = np.array([[0, 1, 2]]), np.array([[0.5, 1.0, 1.5]])
    expected = getattr(torch, name)(torch.tensor(a[0]), torch.tensor(b[0])).numpy()
    np.testing.assert_array_equal(OP_REGISTRY[name]().forward(a, b)[0], expected)


@pytest.mark.parametrize("name", LOGICAL_PAIRS)
def test_logic_is_that_of_pytorch(name: str) -> None:
    a, b = TRUTHS
    expected = getattr(torch, name)(torch.tensor(a), torch.tensor(b)).numpy()
    np.testing.assert_array_equal(OP_REGISTRY[name]().forward(a[None], b[None])[0], expected)
    np.testing.assert_array_equal(OP_REGISTRY["logical_not"]().forward(a[None])[0], ~a)


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_no_op_of_integers_or_truths_hands_a_gradient_back(name: str) -> None:
    op = DISCRETE[name]()
    kinds = [op.get_slot(position).kinds for position in range(len(op.slots))]
    inputs = [np.ones((2, 3, 4), bool) if kind == ("bool",) else np.ones((2, 3, 4)) for kind in kinds]
    output = op.forward(*inputs)
    assert output.dtype.kind == {"bool": "b", "index": "i"}[op.output_kind]
    for array, result in zip(inputs, op.backward(np.ones(output.shape), output, *inputs), strict=True):
        assert result is None if array.dtype.kind == "b" else not result.any()
    assert np.isinf(op.propagate_dependencies([np.zeros((1, 3, 4))] * len(inputs), *inputs)).all()
    np.testing.assert_array_equal(op.forward_on_branch(op.select_branch(*inputs), *inputs), output)


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_within_the_errors_has_both_values(name: str) -> None:
    op = OP_REGISTRY[name]()
    a, b = np.array([[1.0, 1.0, 1.0, np.inf]]), np.array([[1.0, 1.25, 2.0, 1.0]])
    values = op.list_values([np.full((1, 4), 0.25), np.zeros((1, 4))], a, b)
    np.testing.assert_array_equal(values[0] ^ values[1], [True, True, False, False])
    np.testing.assert_array_equal(op.list_values([np.zeros((1, 4))] * 2, a, b), op.forward(a, b))


def test_errors_of_a_broadcast_number_reach_all_comparisons() -> None:
    values = OP_REGISTRY["gt"]().list_values([np.zeros((1, 2, 2)), np.full((1,), 0.5)], np.eye(2)[None], np.zeros((1,)))
    np.testing.assert_array_equal(values[1] ^ values[0], [[False, True], [True, False]])


def test_values_of_inputs_go_on_to_the_outputs() -> None:
    mask = np.array([[True, False, True], [True, True, True]])
    other = np.array([[True, True, False]])
    np.testing.assert_array_equal(OP_REGISTRY["logical_not"]().list_values([None], mask), ~mask)
    values = OP_REGISTRY["logical_and"]().list_values([None, None], mask, other)
    np.testing.assert_array_equal(values, [[True, False, False], [True, True, False]])
    assert len(OP_REGISTRY["logical_or"]().list_values([None, None], mask, other)) == 1
    index = np.array([[1, 2, 3], [1, 5, 3]])
    np.testing.assert_array_equal(
        OP_REGISTRY["eq"]().list_values([None, None], index, np.array([[1, 5, 5]])),
        [[True, False, False], [True, True, False]],
    )


def test_an_index_that_may_be_anything_may_equal_anything() -> None:
    index = np.array([[1, 2], [ANY_VALUE, 2]])
    values = OP_REGISTRY["eq"]().list_values([None, None], index, np.array([[3, 3]]))
    assert values[:, 0].tolist() == [False, True]
