"""Rounding errors of one op, as the rounding model has them: of a result as a whole, or of what is made inside the op.

What an error does depends on where it is made. An error of the sum of a row of exponentials moves the whole row by one
factor, and a gradient along which all shares add up to 0 hardly sees it; independent errors of the same size in every
element of the row would be seen in full. So an op with a structure inside computes itself in the textbook's steps, and
adds to each the error of that step (`Op.forward_with_errors`, `Op.backward_with_errors`). An op of one step says what
its result is made of (`Rounding`), and gets the same by default.

Sources: Higham, Accuracy and Stability of Numerical Algorithms (2002), sections 2.2 (the model), 2.6 and 4.2 (sums);
for the cap, section 2.1: fl(a + b) is the number nearest to a + b, and a and b are numbers, so that the error is never
more than min(abs(a), abs(b)).
"""

from typing import NamedTuple, Protocol

from service.numerics.core.batching import Array

MEAN_ROUNDING = 0.4
"""Part of u abs(x) that stands for a number x that is rounded once, and for nothing else.

Of many errors what comes out may be several times their root mean square; of one it is never more than u abs(x). The
allowance is six times the root mean square of an error uniform in +-u, so that 0.4 allow 1.4 u abs(x).
"""


class Rounding(NamedTuple):
    """What the rounding of one result is made of: an error of about u sqrt(terms) magnitude.

    `magnitude` is the op in its textbook form evaluated on absolute values, of the result's shape behind a tile
    axis; `terms` is the length of the longest sum inside it.
    """

    magnitude: Array
    term_count: int


class ErrorModel(Protocol):
    """Adds to arrays, (K or 1, ...), the errors that an arithmetic makes in them.

    Attributes
    ----------
    own
        The errors are those of the form in which `Op.forward` computes, where that is not the textbook's.
    flush
        What functions such as exp lose where their value is below the smallest normal number, in units of u: libraries
        return 0 there, or come by way of an infinity.
    scale
        Size of the arithmetic's own errors over that of those which are added.
    """

    as_implemented: bool
    underflow_loss: float
    spread_scale: float

    def __call__(
        self, array: Array, magnitude: Array | None = None, terms: float = 1, most: Array | None = None
    ) -> Array:
        """Add an error of about u sqrt(terms) magnitude, of the array itself by default, and of no more than `most`."""
        ...

    def add_rounding_error(self, array: Array, rounding: Rounding | None) -> Array:
        """Add the error of a result as a whole; none for None."""
        ...
