"""The gradient by finite differences of the loss itself.

Differences are in float64, with an error bound for every element.
"""

from service.numerics.core.difference import Difference, DifferenceProgress, DifferenceStatus
from service.numerics.gradients.finite_difference.adjoint_noise import LinePoint
from service.numerics.gradients.finite_difference.cost_model import (
    DifferenceCost,
    estimate_cost,
    estimate_planning_cost,
)
from service.numerics.gradients.finite_difference.difference_plan import DifferencePlan, plan_differences
from service.numerics.gradients.finite_difference.directional import (
    differentiate_along_directions,
    make_unexamined_difference,
    plan_directional_differences,
)
from service.numerics.gradients.finite_difference.engine import differentiate_numerically
from service.numerics.gradients.finite_difference.joint_difference import (
    EVALUATIONS_PER_STEP,
    MAX_STEPS,
    JointDifference,
    can_move_jointly,
    differentiate_jointly,
)
from service.numerics.gradients.finite_difference.method import (
    ADAPTIVE_METHOD,
    DifferenceMethod,
    make_central_method,
    make_forward_method,
)

__all__ = [
    "ADAPTIVE_METHOD",
    "EVALUATIONS_PER_STEP",
    "MAX_STEPS",
    "Difference",
    "DifferenceCost",
    "DifferenceMethod",
    "DifferencePlan",
    "DifferenceProgress",
    "DifferenceStatus",
    "JointDifference",
    "LinePoint",
    "can_move_jointly",
    "differentiate_along_directions",
    "differentiate_jointly",
    "differentiate_numerically",
    "estimate_cost",
    "estimate_planning_cost",
    "make_central_method",
    "make_forward_method",
    "make_unexamined_difference",
    "plan_differences",
    "plan_directional_differences",
]
