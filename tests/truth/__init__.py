"""The gradient of a graph in hundreds of digits: the truth that float64 is tested against.

Written from the mathematics and apart from the code that is tested: every op is spelled out in a handful of primitives
(`forward`), and the chain rule is applied to those alone (`tape`). Of the service only the description of a graph is
used: names, operands, attributes.
"""

from tests.truth.exact_gradients import (
    DIGITS,
    compute_distance,
    compute_gradients,
    compute_loss,
    compute_rounded_gradients,
)

__all__ = ["DIGITS", "compute_distance", "compute_gradients", "compute_loss", "compute_rounded_gradients"]
