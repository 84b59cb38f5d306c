"""The bugs of the catalogue, one family a file. Importing the families fills the catalogue.

Each entry simulates the gradient of its bug, and recognises the bug by that. The order of the imports is that of the
search.
"""

from service.numerics.diagnosis.bug import BACKWARD_BUGS, GRADIENT_BUGS
from service.numerics.diagnosis.bugs import (
    added_terms,
    arrangement,
    clipping,
    moments,
    multipliers,
    precision_and_range,
    reduction,
    scaling,
    shift,
    softmax_from_primitives,
)

__all__ = [
    "BACKWARD_BUGS",
    "GRADIENT_BUGS",
    "added_terms",
    "arrangement",
    "clipping",
    "moments",
    "multipliers",
    "precision_and_range",
    "reduction",
    "scaling",
    "shift",
    "softmax_from_primitives",
]
