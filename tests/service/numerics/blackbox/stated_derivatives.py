"""Points, lines and derivatives as stated, without a loss from which they would follow."""

import numpy as np

from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.domain import ElementMoves
from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.lines import TensorLines, TensorPoint, draw_element_lines, draw_random_lines
from service.numerics.blackbox.schedule import STEP_SCHEDULES
from service.numerics.core.batching import Array

SEED, NAME = 3, "w"


def make_point(values: Array, sizes: Array | None = None, datatype: str = "FP64") -> TensorPoint:
    """A point whose elements are moved by given sizes, powers of two; by 1 where none are given."""
    values = np.asarray(values, np.float64)
    moved = np.ones(values.size) if sizes is None else np.asarray(sizes, np.float64)
    return TensorPoint(values, STEP_SCHEDULES[datatype], 1.0, ElementMoves(moved, np.zeros(values.size, int)))


def make_element_lines(point: TensorPoint) -> TensorLines:
    """Every element of a point, moved alone."""
    return draw_element_lines(point, point.values.size, SEED, NAME)


def draw_directions(point: TensorPoint, count: int) -> TensorLines:
    """Random directions of a point."""
    return draw_random_lines(point, count, SEED, NAME)


def make_derivatives(value: Array, bound: Array | float = 0.0, **other: object) -> DirectionalDerivatives:
    """Derivatives along lines, of a smooth loss of size 1 in float64 unless something else is said."""
    value = np.asarray(value, np.float64)
    fields = {
        "bound": bound,
        "deviation": 0.0,
        "curvature": 0.0,
        "least_curvature_effect": 0.0,
        "base_magnitude": 1.0,
        "loss_magnitude": 1.0,
        "resolution": 2.0**-53,
        "is_constant": False,
        "has_jitter": False,
        "loss_shape": LossShape.SMOOTH,
        "may_have_kink": False,
    } | other
    return DirectionalDerivatives(
        value, **{name: np.broadcast_to(np.asarray(field), value.shape) for name, field in fields.items()}
    )
