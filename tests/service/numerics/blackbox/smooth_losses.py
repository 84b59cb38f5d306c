"""Smooth losses whose gradients are known in closed form, and plans that are carried out on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.blackbox.domain import ElementMoves
from service.numerics.blackbox.layout import EvaluationLayout, lay_out_evaluations
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.noise import LossNoise, estimate_noise, find_loss_format
from service.numerics.blackbox.schedule import STEP_SCHEDULES, choose_move_sizes, round_to_power_of_two
from service.numerics.core.precision import PRECISIONS

Array = np.ndarray[Any, Any]
MAX_FREQUENCIES = {"FP64": 300.0, "FP32": 20.0, "FP16": 3.0, "BF16": 1.0}
"""How often a loss may turn within the scale, for the finest step of the datatype to see it as smooth."""


@dataclass(frozen=True)
class SmoothLoss:
    """A loss of many points at once, (points, n) to (points,), and its gradient at one, (n,)."""

    loss: Callable[[Array], Array]
    gradient: Callable[[Array], Array]


def draw_smooth_loss(generator: np.random.Generator, n: int, fastest: float) -> SmoothLoss:
    """Waves, exponentials, poles beside the real axis, networks, log-sum-exp, fits, powers, roots."""
    w = fastest ** generator.uniform(-1, 1) if fastest > 1 else 10 ** generator.uniform(-2, 0)
    a, b = generator.normal(size=n), generator.normal(size=n)
    unit, m = a / np.sqrt(n), generator.normal(size=(n, 5)) / np.sqrt(n)
    v, s = generator.normal(size=5), min(w, 5.0)

    def by_softmax(x: Array) -> Array:
        z = s * x @ m
        p = np.exp(z - z.max())
        p = p / p.sum()
        p[0] -= 1
        return s * m @ p

    def by_log_sum(x: Array) -> Array:
        z = s * x @ m
        top = z.max(axis=1)
        return np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[:, 0]

    kinds = [
        SmoothLoss(lambda x: np.sin(w * (x @ unit) + b[0]), lambda x: w * unit * np.cos(w * (x @ unit) + b[0])),
        SmoothLoss(lambda x: np.exp(s * (x @ unit)), lambda x: s * unit * np.exp(s * (x @ unit))),
        SmoothLoss(
            lambda x: (1 / (1 + (w * x) ** 2)).mean(axis=1), lambda x: -2 * w * w * x / (1 + (w * x) ** 2) ** 2 / n
        ),
        SmoothLoss(lambda x: np.tanh(s * x @ m) @ v, lambda x: m @ (s * v * (1 - np.tanh(s * x @ m) ** 2))),
        SmoothLoss(by_log_sum, by_softmax),
        SmoothLoss(lambda x: ((x * a - b) ** 2).mean(axis=1), lambda x: 2 * a * (x * a - b) / n),
        SmoothLoss(lambda x: (x**4).mean(axis=1), lambda x: 4 * x**3 / n),
        SmoothLoss(
            lambda x: np.sqrt(0.1 + ((x - a) ** 2).mean(axis=1)),
            lambda x: (x - a) / n / np.sqrt(0.1 + ((x - a) ** 2).mean()),
        ),
    ]
    return kinds[generator.integers(len(kinds))]


def make_point(values: Array, datatype: str = "FP64", *, random: bool = True) -> TensorPoint:
    values, schedule = PRECISIONS[datatype].round_to_nearest(np.asarray(values, np.float64)), STEP_SCHEDULES[datatype]
    sizes = choose_move_sizes(values.ravel(), schedule, random=random)
    return TensorPoint(
        values,
        schedule,
        round_to_power_of_two(float(np.median(sizes))),
        ElementMoves(sizes, np.zeros(sizes.shape, int)),
    )


def make_layout(
    values: Array, datatype: str = "FP64", *, random: bool = True, count: int | None = None, seed: int = 0
) -> EvaluationLayout:
    return lay_out_evaluations(
        {"w": make_point(values, datatype, random=random)}, random=random, count=count, seed=seed
    )


def add_noise(losses: Array, relative: float, generator: np.random.Generator, kind: str = "normal") -> Array:
    """Errors of a deviation relative to each loss; or losses as float32 has them."""
    if kind == "float32":
        return losses.astype(np.float32).astype(np.float64)
    drawn = generator.normal(size=losses.shape)
    if kind == "uniform":
        drawn = generator.uniform(-1, 1, losses.shape) * np.sqrt(3)
    return losses * (1 + relative * drawn)


def estimate_planned_noise(losses: Array) -> LossNoise:
    return estimate_noise(losses[:3], losses[3:19].reshape(2, 8), find_loss_format(losses))
