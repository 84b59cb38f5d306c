"""Choices that a backward pass may make where its op has a kink.

At a tie the derivative of a node is one of a set: a weight in [0, 1] between the slopes of relu, weights that are not
negative and sum to one over the elements that attain a maximum, the unit ball of the dual norm for a norm at 0. A
*unit* is one such choice, an *alternative* one corner of its set (of a ball: one axis).

Notes
-----
If g_o is the gradient of the output element o that a unit belongs to, alternative a with weight w_a hands back

    dL/dx_i += sum_a w_a c_ai g_o

with coefficients c_ai that are numbers at a point. So a choice is linear in g, and sparse: a list of entries.

References
----------
Clarke, Optimization and Nonsmooth Analysis (1990), section 2.3 (sums, maxima and norms).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array

BranchDerivative = tuple[int, Array, Array | float]
"""Position of an operand, flat index of its element in each unit, and the coefficient of that element."""


@dataclass(frozen=True)
class SubgradientChoices:
    """The choices of one node, by alternative, (n,), and by entry, (e,).

    Attributes
    ----------
    units
        Unit of each alternative, from 0 on, ascending. The alternatives of a unit stand together.
    weights
        Weight that the op's own backward pass gives to each alternative.
    is_exact_tie
        Mask of alternatives that tie at the very point, and not only within the errors of the inputs.
    output_indices
        Flat index of the output element of each alternative.
    entry_alternatives
        Alternative of each entry.
    entry_positions
        Position of the operand of each entry.
    entry_elements
        Flat index of the operand's element of each entry.
    entry_coefficients
        Coefficient c of each entry.
    ball_order
        Order of the norm in whose unit ball the weights lie; None for weights that are not negative and sum to one.
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
        """Return the number of alternatives."""
        return self.units.size


def choose_between_derivatives(
    outputs: Array,
    upper_share: Array,
    is_exact_tie: Array,
    low: Sequence[BranchDerivative],
    high: Sequence[BranchDerivative],
) -> SubgradientChoices | None:
    """Return choices between two slopes, one for each unit, or None without units.

    Parameters
    ----------
    outputs
        Flat index of the output element of each unit.
    upper_share
        Share that the backward pass gives to the upper slope, (units,).
    is_exact_tie
        Mask of units that tie at the very point, (units,).
    low, high
        Derivatives on the lower and on the upper piece.
    """
    count = outputs.size
    if not count:
        return None
    empty = np.zeros(0, np.int64)
    entries = [(empty, empty, empty, np.zeros(0))]
    entries += [
        _make_entries(2 * np.arange(count) + side, derivative)
        for side, ends in enumerate((low, high))
        for derivative in ends
    ]
    alternatives, positions, elements, coefficients = (np.concatenate(arrays) for arrays in zip(*entries, strict=True))
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
    """Return the entries of one alternative of each unit.

    A unit has one element, or an axis of them behind.
    """
    position, elements, coefficient = derivative
    element_axes = elements.shape[1:]
    spread_alternatives = np.broadcast_to(alternatives.reshape(-1, *(1,) * len(element_axes)), elements.shape)
    factors = np.broadcast_to(np.asarray(coefficient, np.float64), elements.shape)
    return spread_alternatives.ravel(), np.full(elements.size, position), elements.ravel(), factors.ravel()


def choose_among_elements(
    units: Array,
    outputs: Array,
    elements: Array,
    weights: Array,
    is_exact_tie: Array,
    coefficients: Array | float = 1.0,
    ball_order: float | None = None,
) -> SubgradientChoices | None:
    """Return choices among elements of the one operand, or None without choices.

    Each alternative has one entry. A unit with one alternative is no choice, except for a ball.

    Parameters
    ----------
    units
        Unit of each alternative: any ascending numbers.
    outputs, elements
        Flat indices of the output element and of the operand's element of each alternative.
    weights
        Weight that the backward pass gives to each alternative.
    is_exact_tie
        Mask of alternatives that tie at the very point.
    coefficients
        Coefficient of each alternative; 1 by default.
    ball_order
        Order of the norm whose unit ball holds the weights; None, for a simplex, by default.
    """
    _, numbers, counts = np.unique(units, return_inverse=True, return_counts=True)
    has_several = np.ones(units.size, np.bool_) if ball_order is not None else counts[numbers] > 1
    if not has_several.any():
        return None
    _, numbers = np.unique(units[has_several], return_inverse=True)
    count = numbers.size
    factors = np.broadcast_to(np.asarray(coefficients, np.float64), units.shape)[has_several]
    return SubgradientChoices(
        numbers,
        weights[has_several].astype(np.float64),
        is_exact_tie[has_several],
        outputs[has_several],
        np.arange(count),
        np.zeros(count, np.int64),
        elements[has_several],
        factors,
        ball_order,
    )


def merge_choices(choices: Sequence[SubgradientChoices | None]) -> SubgradientChoices | None:
    """Return the choices of several kinds at one node, all of simplices, or None."""
    present_choices = [choice for choice in choices if choice is not None]
    if len(present_choices) < 2:
        return present_choices[0] if present_choices else None
    units = np.cumsum([0, *(int(choice.units.max()) + 1 for choice in present_choices)])
    starts = np.cumsum([0, *(choice.alternative_count for choice in present_choices)])

    def concatenate(name: str, offsets: Array | None = None) -> Array:
        arrays = [getattr(choice, name) for choice in present_choices]
        return np.concatenate(arrays if offsets is None else [a + o for a, o in zip(arrays, offsets, strict=False)])

    return SubgradientChoices(
        concatenate("units", units),
        concatenate("weights"),
        concatenate("is_exact_tie"),
        concatenate("output_indices"),
        concatenate("entry_alternatives", starts),
        concatenate("entry_positions"),
        concatenate("entry_elements"),
        concatenate("entry_coefficients"),
    )
