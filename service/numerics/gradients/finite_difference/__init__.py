"""The finite-difference route: differences of the loss itself, in float64, with an error bound for every element."""

from service.numerics.gradients.finite_difference.colouring import colours
from service.numerics.gradients.finite_difference.difference import Difference, Status
from service.numerics.gradients.finite_difference.engine import Progress, differentiate, evaluations
from service.numerics.gradients.finite_difference.method import ADAPTIVE, Method, central, forward

__all__ = [
    "ADAPTIVE",
    "Difference",
    "Method",
    "Progress",
    "Status",
    "central",
    "colours",
    "differentiate",
    "evaluations",
    "forward",
]
