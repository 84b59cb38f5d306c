"""What multiplies a gradient on its way back, as ops declare it."""

import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.multipliers import (
    Multiplier,
    declare_count_multipliers,
    declare_division,
    declare_factor,
    declare_scalar_multiplier,
    is_telling_value,
)


def test_only_an_operand_of_one_element_is_a_multiplier() -> None:
    assert declare_scalar_multiplier("factor", np.full((1, 1, 1), 0.8), (0,)) == [
        Multiplier("factor", "factor", 0.8, (0,))
    ]
    assert declare_scalar_multiplier("division", np.full((1,), 0.8), (0,)) == [
        Multiplier("division", "division by", 0.8, (0,))
    ]
    assert declare_scalar_multiplier("factor", np.full((1, 2), 0.8), (0,)) == []


def test_factor_multiplies_and_division_divides() -> None:
    assert declare_factor(3, "exponent") == Multiplier("factor", "exponent", 3.0)
    assert declare_division(4) == Multiplier("division", "division by", 4.0)


@pytest.mark.parametrize(
    ("shape", "counts"),
    [
        ((), []),
        ((1,), []),
        ((5,), [5]),
        ((5, 3), [5, 15, 3]),
        ((1, 3), [3]),
        ((5, 1), [5]),
    ],
)
def test_mean_divides_by_batch_sample_or_all_elements(shape: tuple[int, ...], counts: list[int]) -> None:
    assert [multiplier.value for multiplier in declare_count_multipliers("mean", shape)] == counts


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (2.0, True),
        (-1.0, True),
        (1e100, True),
        (-1e-100, True),
        (1.0, False),
        (0.0, False),
        (np.inf, False),
        (1e200, False),
        (-1e-200, False),
        (5e-324, False),
    ],
)
def test_multiplier_of_one_or_zero_is_not_reported(value: float, plain: bool) -> None:
    assert is_telling_value(value) == plain


@pytest.mark.parametrize("name", OP_REGISTRY)
def test_positions_and_slots_that_are_declared_are_those_of_the_op(name: str) -> None:
    op = OP_REGISTRY[name]
    assert set(op.multiplying_slots) <= {slot.name for slot in op.slots}
    assert set(op.multiplying_slots.values()) <= {"factor", "division"}


@pytest.mark.parametrize("op", ["narrow", "clamp", "softplus", "cumsum", "maximum", "layer_norm", "vector_norm", "pad"])
def test_an_op_whose_numbers_multiply_nothing_declares_none(op: str) -> None:
    inputs = [np.ones((1, 2, 2))] * len(OP_REGISTRY[op].slots)
    attributes = {"narrow": {"dim": 0, "start": 1, "length": 1}, "cumsum": {"dim": 0}, "pad": {"pad": [1, 1]}}
    attributes["layer_norm"] = {"normalized_shape": [2]}
    assert not OP_REGISTRY[op](**attributes.get(op, {})).list_gradient_multipliers(*inputs)
