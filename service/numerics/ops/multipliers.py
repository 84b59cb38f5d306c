"""Multipliers of the gradient on its way back through an op.

A backward pass may leave one out, or apply it twice. An op declares its multipliers beside its derivation. Numbers that
select, shift, bound or stabilise (`dim`, `start`, an added constant, a threshold, a margin, `eps`) multiply no
gradient, and are never declared.
"""

from typing import Literal, NamedTuple

from service.numerics.core.batching import Array, Shape, count_elements

MultiplierKind = Literal["factor", "division", "mean", "sum"]


class Multiplier(NamedTuple):
    """One number that multiplies the gradients that an op hands back.

    Attributes
    ----------
    kind
        A factor multiplies, and a division divides. A mean divides by a count. In place of a sum a buggy pass may take
        a mean over the count.
    label
        Kind of number: "factor", "exponent", "division by"; for a count, the counted things.
    value
        The factor, the divisor, or the count of a mean or a sum.
    operand_positions
        Operands to whose gradients it applies; None for all.
    applies_at
        Elements of these gradients to which it applies, broadcastable to them behind a tile axis; None for all.
    location_note
        Ending that names these elements behind the node; empty for all.
    """

    kind: MultiplierKind
    label: str
    value: float
    operand_positions: tuple[int, ...] | None = None
    applies_at: Array | None = None
    location_note: str = ""


def declare_factor(value: float, label: str = "factor", positions: tuple[int, ...] | None = None) -> Multiplier:
    """Return a multiplier for a factor."""
    return Multiplier("factor", label, float(value), positions)


def declare_division(value: float, label: str = "division by", positions: tuple[int, ...] | None = None) -> Multiplier:
    """Return a multiplier for a divisor."""
    return Multiplier("division", label, float(value), positions)


def declare_scalar_multiplier(kind: MultiplierKind, operand: Array, positions: tuple[int, ...]) -> list[Multiplier]:
    """Return the multiplier for an operand of one element, or none for a larger one.

    Parameters
    ----------
    kind
        "factor" or "division".
    operand
        The operand, behind a tile axis.
    positions
        Operands to whose gradients it applies.
    """
    if operand.size != 1:
        return []
    label = "factor" if kind == "factor" else "division by"
    return [Multiplier(kind, label, float(operand.reshape(())), positions)]


def declare_count_multipliers(kind: MultiplierKind, shape: Shape) -> list[Multiplier]:
    """Return the counts over which a buggy pass may take a mean or a sum.

    With a shape (B, ...) these are the whole, the B of the batch and the rest of a sample.
    """
    total_count = count_elements(shape)
    batch_size = shape[0] if shape else 1
    counts = [(batch_size, f"the batch (B = {batch_size})")]
    if 1 < batch_size < total_count:
        counts += [
            (total_count, f"all {total_count} elements"),
            (total_count // batch_size, f"the {total_count // batch_size} elements of a sample"),
        ]
    elif batch_size == 1:
        counts = [(total_count, f"all {total_count} elements")]
    return [Multiplier(kind, label, float(count)) for count, label in counts if count > 1]


_TELLING_SIZES = 2.0**-500, 2.0**500
"""Sizes whose squares and reciprocals are normal numbers, so that a wrong use of them leaves a finite gradient."""


def is_telling_value(value: float) -> bool:
    """Tell whether a wrong use of a number changes a gradient, and leaves it finite."""
    return _TELLING_SIZES[0] <= abs(value) <= _TELLING_SIZES[1] and value != 1.0
