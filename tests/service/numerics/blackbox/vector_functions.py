"""Vector-valued functions with exact Jacobians, and their values at the points of a layout."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox.layout import EvaluationLayout, lay_out_evaluations
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.output_judge import OutputJudge
from service.numerics.blackbox.schedule import STEP_SCHEDULES, choose_typical_scale
from service.numerics.core.batching import Array


@dataclass(frozen=True)
class VectorFunction:
    """A function of one vector with its Jacobian."""

    evaluate: Callable[[Array], Array]
    differentiate: Callable[[Array], Array]


def make_saturating_layer(seed: int, sizes: Array | float = 1.0, inputs: int = 4, outputs: int = 5) -> VectorFunction:
    """Return sizes * tanh(A x + b) for a random A and b."""
    generator = np.random.default_rng(seed)
    weights, biases = generator.normal(size=(outputs, inputs)), generator.normal(size=outputs)
    factors = np.broadcast_to(sizes, outputs)
    return VectorFunction(
        lambda x: factors * np.tanh(weights @ x + biases),
        lambda x: (factors * (1 - np.square(np.tanh(weights @ x + biases))))[:, None] * weights,
    )


def lay_out(
    x: Array, *, random: bool, seed: int = 0, datatype: str = "FP64", count: int | None = None
) -> EvaluationLayout:
    """Lay out the evaluations of a function of one tensor, `x`."""
    schedule = STEP_SCHEDULES[datatype]
    point = TensorPoint(x, schedule, choose_typical_scale(x, schedule))
    return lay_out_evaluations({"x": point}, random=random, count=count, seed=seed)


def make_judge(
    function: Callable[[Array], Array], x: Array, *, random: bool, seed: int = 0
) -> tuple[OutputJudge, EvaluationLayout]:
    """Evaluate a function at the points of a layout, and make its judge."""
    layout = lay_out(x, random=random, seed=seed)
    return OutputJudge(layout, np.array([function(point) for point in layout.stack_points("x")]), 1e-4), layout


def list_tangents(layout: EvaluationLayout) -> Array:
    """Return the tangents of the lines of `x`, (k, n)."""
    lines = layout.lines["x"]
    if lines.moved_elements is not None:
        return np.eye(layout.points["x"].values.size)[lines.moved_elements]
    return lines.moves.directions / lines.derivative_units[:, None]
