"""What a backward pass may choose where its op has a kink.

At a tie the derivative of a node is one of a set: a weight in [0, 1] between the slopes of relu, weights that are not
negative and sum to one over the elements that attain a maximum, the unit ball of the dual norm for a norm at 0. A
*unit* is one such choice, an *alternative* one corner of its set (of a ball: one axis). If g_o is the gradient of the
output element o that a unit belongs to, alternative a with weight w_a hands back

    dL/dx_i += sum_a w_a c_ai g_o

with coefficients c_ai that are numbers at a point. So a choice is linear in g, and sparse: a list of entries.

Source: Clarke, Optimization and Nonsmooth Analysis (1990), section 2.3 (sums, maxima and norms).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array

BranchDerivative = tuple[int, Array, Array | float]
"""Position of an operand, flat index of its element in each unit, and the coefficient there."""


@dataclass(frozen=True)
class SubgradientChoices:
    """The choices of one node, by alternative, (n,), and by entry, (e,).

    Attributes
    ----------
    units
        Unit of each alternative, from 0 on, ascending; alternatives of one unit stand in the order of a loop.
    weights
        Weight that the op's own backward pass gives it.
    tied
        Whether it ties at the very point, and not only within what its inputs may be off by.
    outputs
        Flat index of the element of the output that it belongs to.
    alternatives, positions, elements, coefficients
        Of each entry: the alternative, the position of the operand, the flat index of its element, c.
    ball
        Order of the norm in whose unit ball the weights lie; None where they are not negative and sum to one.
    """

    units: Array
    weights: Array
    is_exact_tie: Array
    output_indices: Array
    entry_alternatives: Array
    entry_positions: Array
    entry_elements: Array
    entry_coefficients: Array
    ball_order: float | None = None

    @property
    def alternative_count(self) -> int:
        """Number of alternatives."""
        return self.units.size


def choose_between_derivatives(
    outputs: Array,
    upper_share: Array,
    is_exact_tie: Array,
    low: Sequence[BranchDerivative],
    high: Sequence[BranchDerivative],
) -> SubgradientChoices | None:
    """Choices between two slopes, one for each unit, given the share that the backward pass gives to the second."""
    count = outputs.size
    if not count:
        return None
    empty = np.zeros(0, np.int64)
    entries = [(empty, empty, empty, np.zeros(0))]
    entries += [
        _make_entries(2 * np.arange(count) + side, each) for side, ends in enumerate((low, high)) for each in ends
    ]
    alternatives, positions, elements, coefficients = (np.concatenate(each) for each in zip(*entries, strict=True))
    return SubgradientChoices(
        np.repeat(np.arange(count), 2),
        np.stack([1.0 - upper_share, upper_share], axis=1).ravel().astype(np.float64),
        np.repeat(is_exact_tie, 2),
        np.repeat(outputs, 2),
        alternatives,
        positions,
        elements,
        coefficients,
    )


def _make_entries(alternatives: Array, derivative: BranchDerivative) -> tuple[Array, Array, Array, Array]:
    """Entries of one alternative of each unit; an element may be one for each, or an axis of them behind."""
    position, elements, coefficient = derivative
    behind = elements.shape[1:]
    spread = np.broadcast_to(alternatives.reshape(-1, *(1,) * len(behind)), elements.shape)
    factors = np.broadcast_to(np.asarray(coefficient, np.float64), elements.shape)
    return spread.ravel(), np.full(elements.size, position), elements.ravel(), factors.ravel()


def choose_among_elements(
    units: Array,
    outputs: Array,
    elements: Array,
    weights: Array,
    is_exact_tie: Array,
    coefficients: Array | float = 1.0,
    ball_order: float | None = None,
) -> SubgradientChoices | None:
    """Choices of elements of the one operand, one entry for each alternative.

    A unit that has one alternative is none, except of a ball. `units` are any ascending numbers.
    """
    _, numbers, counts = np.unique(units, return_inverse=True, return_counts=True)
    several = np.ones(units.size, np.bool_) if ball_order is not None else counts[numbers] > 1
    if not several.any():
        return None
    _, numbers = np.unique(units[several], return_inverse=True)
    count = numbers.size
    factors = np.broadcast_to(np.asarray(coefficients, np.float64), units.shape)[several]
    return SubgradientChoices(
        numbers,
        weights[several].astype(np.float64),
        is_exact_tie[several],
        outputs[several],
        np.arange(count),
        np.zeros(count, np.int64),
        elements[several],
        factors,
        ball_order,
    )


def merge_choices(parts: Sequence[SubgradientChoices | None]) -> SubgradientChoices | None:
    """Choices of several kinds at one node, all of simplices."""
    found = [each for each in parts if each is not None]
    if len(found) < 2:
        return found[0] if found else None
    units = np.cumsum([0, *(int(each.units.max()) + 1 for each in found)])
    starts = np.cumsum([0, *(each.alternative_count for each in found)])

    def joined(name: str, offsets: Array | None = None) -> Array:
        arrays = [getattr(each, name) for each in found]
        return np.concatenate(arrays if offsets is None else [a + o for a, o in zip(arrays, offsets, strict=False)])

    return SubgradientChoices(
        joined("units", units),
        joined("weights"),
        joined("is_exact_tie"),
        joined("output_indices"),
        joined("entry_alternatives", starts),
        joined("entry_positions"),
        joined("entry_elements"),
        joined("entry_coefficients"),
    )
