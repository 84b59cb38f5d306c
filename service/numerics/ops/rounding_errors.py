"""Rounding errors of one op, as the rounding model has them.

They are errors of a result as a whole, or errors of the steps inside the op. The effect of an error depends on its
step. An error of the sum of a row of exponentials moves the whole row by one factor, and a gradient along which all
shares add up to 0 hardly sees it. Independent errors of the same size in every element of the row would be seen in
full. So an op with a structure inside computes itself in the textbook's steps, and adds to each the error of that step
(`Op.forward_with_errors`, `Op.backward_with_errors`). An op of one step returns the magnitude of its result
(`Rounding`), and gets the same by default.

References
----------
Higham, Accuracy and Stability of Numerical Algorithms (2002), sections 2.2 (the model), 2.6 and 4.2 (sums); for the
cap, section 2.1: fl(a + b) is the number nearest to a + b, and a and b are numbers, so that the error is never more
than min(abs(a), abs(b)).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.equal_numbers import find_longest_repeat

MEAN_ROUNDING = 0.4
"""Part of u abs(x) that stands for a number x that is rounded once, and nothing else.

The outcome of many errors may be several times their root mean square; that of one is never more than u abs(x). The
allowance is six times the root mean square of an error uniform in +-u, so that 0.4 allow 1.4 u abs(x).
"""


class Rounding(NamedTuple):
    """The rounding of one result: an error of about u sqrt(term_count) magnitude.

    Attributes
    ----------
    magnitude
        The op in its textbook form on absolute values, of the result's shape behind a tile axis.
    term_count
        Length of the longest sum inside it.
    """

    magnitude: Array
    term_count: int


class ErrorModel(Protocol):
    """A function that adds the errors of an arithmetic to arrays, (K or 1, ...).

    Attributes
    ----------
    as_implemented
        True if the errors are those of the form in which `Op.forward` computes, in place of the textbook's.
    underflow_loss
        Loss of functions such as exp below the smallest normal number, in units of u. Libraries return 0 there, or come
        by way of an infinity.
    spread_scale
        Size of the arithmetic's own errors over that of the added ones.
    """

    as_implemented: bool
    underflow_loss: float
    spread_scale: float

    def __call__(
        self,
        array: Array,
        magnitude: Array | None = None,
        terms: float = 1,
        most: Array | None = None,
        rounded: Array | None = None,
    ) -> Array:
        """Return the array with an error of about u sqrt(terms) magnitude added.

        Parameters
        ----------
        array
            Array, (K or 1, ...).
        magnitude
            Magnitude of the error in units of u; the array's own by default.
        terms
            Number of terms; 1 by default.
        most
            Upper bound of the error; none by default.
        rounded
            Numbers whose rounding is the cause of the error, of the array's shape; the array itself by default.
        """
        ...

    def cast(self, place: str, array: Array) -> Array:
        """Return the array rounded as at a place of `Op.inner_casts`, if programs round there."""
        ...

    def cast_factor(self, place: str, array: Array) -> Array:
        """Return the array rounded as a factor of a product of matrices, if programs round factors."""
        ...

    def add_rounding_error(self, array: Array, rounding: Rounding | None) -> Array:
        """Return the array with the error of a result as a whole; none for None."""
        ...


def count_running_terms(terms: int, gradient: Array, scatter: Callable[[Array], Array]) -> int:
    """Return the number of terms that stands for the running sums of a scatter.

    Programs add one number after the other. Those that are equal round alike, so that n of them are off by up to
    2/3 n u, and not by the root of n: each addition rounds by half a spacing of the sum so far, at most. The allowance
    for m terms is 3.46 sqrt(m) u, six root mean squares of uniform errors.

    Parameters
    ----------
    terms
        Number of terms of the longest sum, if all numbers differ.
    gradient
        Gradients that are added, behind a tile axis.
    scatter
        The sums of such gradients.
    """
    equal = find_longest_repeat(gradient[0])
    if equal**2 > _EQUAL_TERMS * terms:
        equal = min(equal, int(scatter(np.ones_like(gradient[:1])).max(initial=0)))
    return max(terms, equal**2 // _EQUAL_TERMS)


_EQUAL_TERMS = 27
"""Equal numbers of which the running sum is off by as much as that of so many that differ: (3.46 / (2/3))^2."""
