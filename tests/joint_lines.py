"""Joint differences of problems, and their truth, for the tests."""

from collections.abc import Mapping, Sequence

import mpmath
import numpy as np

from service.numerics.core.batching import Array
from service.numerics.gradients.finite_difference import (
    JointDifference,
    LinePoint,
    can_move_jointly,
    differentiate_jointly,
)
from service.numerics.model.graph import Graph
from service.numerics.verdict.projection import sample_joint_direction
from tests import truth


def compute_point(graph: Graph, leaves: Mapping[str, Array]) -> LinePoint:
    with np.errstate(all="ignore"):
        values = graph.forward(leaves)
        return LinePoint(values, graph.backward(values))


def differentiate_line(
    graph: Graph, point: LinePoint, names: Sequence[str], seed: int = 0, line: int = 0
) -> JointDifference | None:
    """The difference along one direction; None at a kink."""
    if not can_move_jointly(graph, point, seed):
        return None
    directions = {name: sample_joint_direction(line, graph.shapes[name], seed, name) for name in names}
    return differentiate_jointly(graph, point, directions, seed)


def compute_true_derivative(line: JointDifference, gradients: Mapping[str, Array]) -> mpmath.mpf:
    """The derivative along a line by gradients in hundreds of digits, or in float64."""
    with mpmath.workdps(truth.DIGITS):
        parts = [
            mpmath.mpf(line.scales[name]) * mpmath.mpf(float(part)) * mpmath.mpf(element)
            for name, direction in line.directions.items()
            for part, element in zip(direction.ravel(), gradients[name].ravel(), strict=True)
        ]
        return mpmath.fsum(parts)
