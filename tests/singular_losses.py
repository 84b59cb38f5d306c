"""Losses beside singularities of each of their elements, at distances from 1e-12 to 0.1 of the point's scale.

The gradient is that of mpmath, at the number that the point is. A seed stands for the same problem for good. The
generators serve the tests, on fixed seeds, and `benchmarks/bound_coverage.py`, on fresh ones.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.blackbox.layout import lay_out_evaluations
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import make_point

Array = np.ndarray[Any, Any]
_DIGITS = 60
_SOUGHT_ERROR = 1e-4


@dataclass(frozen=True)
class Singularity:
    """A function of the distance t from its singularity, and its derivative by mpmath."""

    evaluate: Callable[[Array], Array]
    differentiate: Callable[[Any], Any]
    has_both_sides: bool = True


def _take_power(exponent: float) -> Callable[[Any], Any]:
    """Return the derivative of |t|^exponent."""
    return lambda t: mpmath.sign(t) * mpmath.mpf(exponent) * abs(t) ** (mpmath.mpf(exponent) - 1)


SINGULARITIES = {
    "root": Singularity(np.sqrt, _take_power(0.5), has_both_sides=False),
    "power 3/2": Singularity(lambda t: t**1.5, _take_power(1.5), has_both_sides=False),
    "logarithm": Singularity(np.log, lambda t: 1 / t, has_both_sides=False),
    "t log t": Singularity(lambda t: t * np.log(t), lambda t: mpmath.log(t) + 1, has_both_sides=False),
    "pole": Singularity(lambda t: 1 / t, lambda t: -1 / t**2),
    "double pole": Singularity(lambda t: 1 / t**2, lambda t: -2 / t**3),
    "log |t|": Singularity(lambda t: np.log(np.abs(t)), lambda t: 1 / t),
    "root of |t|": Singularity(lambda t: np.sqrt(np.abs(t)), _take_power(0.5)),
    "cube root": Singularity(np.cbrt, lambda t: 1 / (3 * mpmath.cbrt(abs(t)) ** 2)),
    "|t| ^ 3/2": Singularity(lambda t: np.abs(t) ** 1.5, _take_power(1.5)),
    "t log |t|": Singularity(lambda t: t * np.log(np.abs(t)), lambda t: mpmath.log(abs(t)) + 1),
    "kink": Singularity(np.abs, mpmath.sign),
}


@dataclass(frozen=True)
class SingularVariant:
    """How the elements are moved, in how many tensors, of which datatype."""

    random: bool = False
    tensors: int = 1
    datatype: str = "FP64"


VARIANTS = {
    "elements": SingularVariant(),
    "directions": SingularVariant(random=True),
    "two tensors": SingularVariant(tensors=2),
    "float32": SingularVariant(datatype="FP32"),
}


@dataclass(frozen=True)
class SingularLine:
    """One line: its derivative with the bound, its distance from the truth, and the outcome of the right gradient."""

    description: str
    bound: float
    error: float
    outcome: Outcome

    @property
    def is_bounded(self) -> bool:
        """True if something is known of the derivative."""
        return bool(np.isfinite(self.bound))

    @property
    def is_false(self) -> bool:
        """True if the bound does not hold."""
        return self.is_bounded and not self.error <= self.bound


class SingularProblem:
    """A weighted sum of one singular function of each element, and half of the times of smooth ones too."""

    def __init__(self, kind: str, datatype: str, seed: int) -> None:
        self._singularity = SINGULARITIES[kind]
        generator = np.random.default_rng([seed, *kind.encode()])
        n = int(generator.integers(2, 5))
        self._scale = 10 ** generator.uniform(-6, 6)
        self._places = self._scale * generator.uniform(0.8, 1.9, n)
        distances = self._scale * 10 ** generator.uniform(-12, -1, n)
        if self._singularity.has_both_sides:
            distances *= generator.choice([-1, 1], n)
        self.point = PRECISIONS[datatype].round_to_nearest(self._places + distances)
        if datatype != "FP64":
            # The distance is kept where the datatype has no number as near to the singularity.
            self._places = self.point - distances
        self._weights, self._smooth_weights = generator.normal(size=n), generator.normal(size=n) * generator.integers(2)

    def evaluate(self, points: Array) -> Array:
        """Return the losses at points, (..., n); NaN without a value."""
        with np.errstate(all="ignore"):
            singular = self._weights * self._singularity.evaluate((points - self._places) / self._scale)
            losses = singular.sum(axis=-1) + (self._smooth_weights * np.sin(points / self._scale)).sum(axis=-1)
        return np.where(np.isfinite(losses), losses, np.nan)

    def differentiate(self) -> list[Any]:
        """Return the gradient at the point in many digits."""
        with mpmath.workdps(_DIGITS):
            scale = mpmath.mpf(self._scale)
            return [
                (w * self._singularity.differentiate((mpmath.mpf(x) - a) / scale) + c * mpmath.cos(x / scale)) / scale
                for x, a, w, c in zip(
                    self.point.tolist(),
                    self._places.tolist(),
                    self._weights.tolist(),
                    self._smooth_weights.tolist(),
                    strict=True,
                )
            ]


def judge_right_gradient(kind: str, variant: str, seed: int) -> list[SingularLine]:
    """Judge the right gradient of a problem; return its lines, or none where the point has no loss."""
    form = VARIANTS[variant]
    problem = SingularProblem(kind, form.datatype, seed)
    parts = {f"w{number}": part for number, part in enumerate(np.array_split(problem.point, form.tensors))}
    points = {name: make_point(part, form.datatype, random=form.random) for name, part in parts.items()}
    layout = lay_out_evaluations(points, random=form.random, count=None, seed=seed)
    losses = problem.evaluate(np.concatenate([layout.stack_points(name) for name in parts], axis=1))
    truth = problem.differentiate() if np.isfinite(losses[0]) else [mpmath.inf]
    right = np.array([float(number) for number in truth])
    if not np.isfinite(right).all():
        return []
    candidates = dict(zip(parts, np.array_split(right, form.tensors), strict=True))
    precisions = dict.fromkeys(parts, PRECISIONS[form.datatype])
    _, judgements = judge_candidates(layout, losses, candidates, precisions, _SOUGHT_ERROR)
    lines: list[SingularLine] = []
    for name, part in zip(parts, np.array_split(np.array(truth, object), form.tensors), strict=True):
        tensor_lines = layout.lines[name]
        for number, result in enumerate(judgements[name].direction_results):
            if form.random:
                direction = tensor_lines.directions[number] * tensor_lines.direction_weights
                with mpmath.workdps(_DIGITS):
                    derivative = mpmath.fdot(zip(direction.tolist(), part, strict=True))
            else:
                derivative = part[result.index[0]]
            error = abs(derivative - result.reference) if np.isfinite(result.reference) else np.inf
            lines.append(
                SingularLine(
                    f"judge_right_gradient({kind!r}, {variant!r}, {seed}): {name} line {number}, "
                    f"difference {result.reference:.9g}, bound {result.error_bound:.3g}, truth {float(derivative):.9g}",
                    float(result.error_bound),
                    float(error),
                    result.outcome,
                )
            )
    return lines


def count_lines(lines: Sequence[SingularLine]) -> dict[str, int]:
    """Count lines: all, those with a bound, those whose bound is false, and the outcomes of right gradients."""
    outcomes = Counter(line.outcome for line in lines)
    return {
        "lines": len(lines),
        "bounded": sum(line.is_bounded for line in lines),
        "false": sum(line.is_false for line in lines),
        "passed": outcomes[Outcome.PASS],
        "failed": outcomes[Outcome.FAIL],
    }
