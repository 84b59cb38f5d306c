"""Reach: which elements of a tensor are felt where.

Values given to the elements of a tensor spread through an op as a minimum: an element of the output gets the least
value of all elements that reach it, infinity where none does. That one rule composes through a graph, and answers all
that is asked about reach: with coordinates as values, and with their negatives, the box in which all elements lie that
reach something; with labels, whether more than one reaches it. A spread may say that an element reaches more than it
does, never less.
"""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array


def take_min_over_axes(values: Array, axes: int | tuple[int, ...]) -> Array:
    """Return the smallest label along some axes, which keep the length 1."""
    return values.min(axis=axes, keepdims=True)


def take_min_over_elements(values: Array) -> Array:
    """Return the smallest label behind the tile axis, (K,)."""
    return values.reshape(values.shape[0], -1).min(axis=1)


def take_elementwise_min(*values: Array) -> Array:
    """Return the smaller label of elements side by side, broadcast as by NumPy."""
    first, *others = values
    for other in others:
        first = np.minimum(first, other)
    return first


def drop_missing(values: Any) -> list[Array]:
    """Return the values that there are."""
    return [value for value in values if value is not None]
