"""The finite-difference route: differences of the loss itself, in float64, with an error bound for every element."""

from service.numerics.gradients.finite_difference.difference import Difference, Status
from service.numerics.gradients.finite_difference.directional import (
    differentiate_along,
    nothing_by_element,
    planned_along,
)
from service.numerics.gradients.finite_difference.engine import Progress, differentiate
from service.numerics.gradients.finite_difference.foreseen import Needs, needs_of, needs_of_planning
from service.numerics.gradients.finite_difference.method import ADAPTIVE, Method, central, forward
from service.numerics.gradients.finite_difference.plan import Plan, planned

__all__ = [
    "ADAPTIVE",
    "Difference",
    "Method",
    "Needs",
    "Plan",
    "Progress",
    "Status",
    "central",
    "differentiate",
    "differentiate_along",
    "forward",
    "needs_of",
    "needs_of_planning",
    "nothing_by_element",
    "planned",
    "planned_along",
]
