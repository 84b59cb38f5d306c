"""Running error bounds of sums: of the size that the partial sums have, not of the sum of absolute values.

A sum of n terms is rounded after each addition, by u of the partial sum s_k that stands there:
    error of the sum = sum_k d_k s_k,  abs(d_k) <= u,  so of about u sqrt(sum_k s_k^2).
Terms of both signs have partial sums far below sum abs(t), and terms of one sign have sqrt(sum_k s_k^2) = sqrt(n / 3) s
instead of sqrt(n) s. What is added last is in no partial sum before, and a term far below the sum rounds no more than
itself away: fl(a + b) is the number nearest to a + b, so that its error is min(abs(a), abs(b)) at most.

Source: Higham, Accuracy and Stability of Numerical Algorithms (2002), sections 3.3 and 4.2 (running error analysis).
"""

from itertools import pairwise

import numpy as np

from service.numerics.core.batching import Array

_PIECE_COUNT = 4
"""Pieces of a sum at whose ends the partial sums are found."""


def bound_sum(terms: Array) -> Array:
    """Root of the sum of squared partial sums along the last axis, (..., n) to (..., 1).

    In the order of the terms, or in one left to chance, whichever is more: libraries take them in lanes, too.
    """
    count = terms.shape[-1]
    in_order = np.square(np.cumsum(terms, axis=-1)).sum(axis=-1, keepdims=True)
    total = terms.sum(axis=-1, keepdims=True)
    by_chance = count / 3 * np.square(total) + count / 6 * np.square(terms).sum(axis=-1, keepdims=True)
    return np.sqrt(np.maximum(in_order, by_chance))


def bound_product(a: Array, b: Array) -> Array:
    """Root of the sum of squared partial sums, and products, in a @ b: (..., l, n), (..., n, m) to (..., l, m).

    Libraries take these sums in the order of n. At the ends of some pieces of n the partial sums are found; between
    them, from s to s' over c terms t, they are those of an order left to chance: on average
        sum_k s_k^2 = c (s^2 + s s' + s'^2) / 3 + (c / 6) sum t^2
    """
    total = np.zeros((1,) * max(a.ndim, b.ndim))
    squares = total
    for start, stop in pairwise(_list_piece_ends(a.shape[-1])):
        here, count = slice(start, stop), stop - start
        left, right = a[..., here], b[..., here, :]
        moved = total + left @ right
        terms = np.square(left) @ np.square(right)
        squares = squares + count / 3 * (total * total + total * moved + moved * moved)
        squares = squares + (1 + count / 6) * terms
        total = moved
    return np.sqrt(np.maximum(squares, 0))


def _list_piece_ends(count: int) -> list[int]:
    """Where the pieces of a sum begin, and where the last ends."""
    pieces = max(1, min(_PIECE_COUNT, count))
    return [count * piece // pieces for piece in range(pieces + 1)]
