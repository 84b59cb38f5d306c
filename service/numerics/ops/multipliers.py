"""What multiplies the gradient on its way back through an op: what a backward pass may leave out, or apply twice.

An op declares these beside its derivation. Numbers that select, shift, bound or stabilise (`dim`, `start`, an added
constant, a threshold, a margin, `eps`) multiply no gradient, and are never declared.
"""

from typing import Literal, NamedTuple

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements

MultiplierKind = Literal["factor", "division", "mean", "sum"]


class Multiplier(NamedTuple):
    """One number that multiplies what an op hands back.

    Attributes
    ----------
    kind
        A factor multiplies and a division divides; a mean divides by a count; of a sum a mean may be taken by mistake.
    label
        What it is: "factor", "exponent", "division by"; of a count, what is counted.
    value
        The number, which is what is divided by for a division, and the count for a mean or a sum.
    positions
        Operands on the way to which it stands; None for all.
    where
        Where on the gradients of these operands it stands, broadcast to them behind a tile axis; everywhere if None.
    aside
        Says which elements those are, to stand behind the node; nothing where it stands everywhere.
    """

    kind: MultiplierKind
    label: str
    value: float
    operand_positions: tuple[int, ...] | None = None
    applies_at: Array | None = None
    location_note: str = ""


def declare_factor(value: float, label: str = "factor", positions: tuple[int, ...] | None = None) -> Multiplier:
    """Declare a number that multiplies."""
    return Multiplier("factor", label, float(value), positions)


def declare_division(value: float, label: str = "division by", positions: tuple[int, ...] | None = None) -> Multiplier:
    """Declare a number that divides."""
    return Multiplier("division", label, float(value), positions)


def declare_scalar_multiplier(kind: MultiplierKind, operand: Array, positions: tuple[int, ...]) -> list[Multiplier]:
    """Declare an operand of one element on the way to others; nothing where it has more."""
    if operand.size != 1:
        return []
    label = "factor" if kind == "factor" else "division by"
    return [Multiplier(kind, label, float(operand.reshape(())), positions)]


def declare_count_multipliers(kind: MultiplierKind, shape: Shape) -> list[Multiplier]:
    """Declare what a mean or a sum over everything of a shape may be taken over by mistake: a part of it.

    Over (B, ...) these are the whole, the B of the batch and the rest of a sample.
    """
    every = count_elements(shape)
    batch = shape[0] if shape else 1
    counts = [(batch, f"the batch (B = {batch})")]
    if 1 < batch < every:
        counts += [(every, f"all {every} elements"), (every // batch, f"the {every // batch} elements of a sample")]
    elif batch == 1:
        counts = [(every, f"all {every} elements")]
    return [Multiplier(kind, what, float(count)) for count, what in counts if count > 1]


def is_telling_value(value: float) -> bool:
    """Whether a number says anything when it is left out."""
    return bool(np.isfinite(value)) and value not in (0.0, 1.0)
