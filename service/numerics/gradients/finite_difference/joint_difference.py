"""The difference of the loss along one random direction of many tensors at once.

Tensor i moves by t s_i d_i, with d_i standard Gaussian and s_i a number of eight bits, all of them together. The
derivative by t at 0 is sum_i s_i d_i . g_i. It takes six evaluations of the loss, however many tensors there are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.vector_norms import euclidean_norm, is_finite
from service.numerics.gradients.finite_difference.adjoint_noise import LinePoint, estimate_adjoint_noise
from service.numerics.gradients.finite_difference.ambiguous_branches import has_pieces_nearby
from service.numerics.gradients.finite_difference.line_model import make_line_model
from service.numerics.gradients.finite_difference.method import extrapolate_central_number
from service.numerics.gradients.finite_difference.probe import (
    CURVATURE_NOISE,
    CURVATURE_ROUNDING,
    UNDERFLOW_LOSS,
    find_terms_over_poles,
)
from service.numerics.gradients.finite_difference.quotients import DifferenceQuotients, estimate_sum_rounding
from service.numerics.model.graph import Graph

STEP_COUNT = 3
EVALUATIONS_PER_STEP = 2 * STEP_COUNT
"""Evaluations of the loss for one first step and its halvings."""
_MAX_PASS_ELEMENTS = 2**17 - 1
"""Elements of one array up to which a pass takes several evaluations of a line together.

A line moves every tensor, so that nothing of it stays in the cache from one evaluation to the next, and the number of
calls counts. An array below a mebibyte does not have to be mapped by itself (`gunicorn/memory_allocator.py`).
"""
_FIRST_STEP = 2.0**-11
_LARGEST_SCALE = math.sqrt(2)
"""Scale of the tensor that moves the most, over its size: its first move is 2^-10.5 of that.

The noise rules in large models, which a smaller step would make larger, and truncation in small ones.
"""
_LARGEST_SPREAD = 14
"""Binary orders by which a tensor moves less than that which moves the most, at most."""
_SCALE_BITS = 8
"""Bits of a scale: its product with a direction of 24 bits and a step does not round."""
_WITHOUT_INFLUENCE = 40
"""Binary orders by which the loss changes less with a tensor, moved by its size, for it to get no share."""
MAX_STEPS = 4
"""First steps that a difference tries."""
_RETREAT = 2.0**-4
"""Factor of the step where it was too large for any bound."""
_SMALLEST_FACTOR = 2.0**-8
_NOISE_OF_LAST_ENTRY = 6.6
"""Noise of the last entry of Neville's table of three central quotients, over that of the first quotient."""
_DOMINANCE = 16.0
"""Truncation over noise from which a smaller step is worth its evaluations."""
_TIGHT_BOUND = 2.0**-26
"""Bound, as a part of the norm of the direction's gradient, that is tight enough."""
_ALWAYS_CALM = 0.75
_SMALLEST_SCALE = 2.0**-900
"""Smallest scale, and inverse of the largest, within which nothing overflows or underflows."""


@dataclass(frozen=True)
class JointDifference:
    """The difference of the loss along a direction of many tensors.

    Attributes
    ----------
    directions
        Standard Gaussian direction d_i of each tensor, of its shape.
    scales
        Scale s_i of each tensor, a number of eight bits.
    value, error_bound
        Derivative of the loss by t, and its largest expected error: NaN and infinity where there is no bound.
    evaluations
        Evaluations of the loss.
    """

    directions: Mapping[str, Array]
    scales: Mapping[str, float]
    value: float
    error_bound: float
    evaluations: int


def can_move_jointly(graph: Graph, point: LinePoint, seed: int) -> bool:
    """Return whether a point has all that a joint difference needs.

    All values and gradients are finite, and no piece of a piecewise op ends at the point.

    Parameters
    ----------
    graph
        The model.
    point
        Its values and gradients at the point.
    seed
        Seed of the moves that look for another piece.
    """
    arrays = (*point.values.values(), *point.gradients.values())
    for array in iterate_interruptibly(arrays):
        if array.dtype.kind == "f" and not is_finite(array):
            return False
    return not has_pieces_nearby(graph, point.values, np.random.default_rng([seed, 0xFD]))


def differentiate_jointly(
    graph: Graph, point: LinePoint, directions: Mapping[str, Array], seed: int = 0
) -> JointDifference:
    """Return the difference of the loss along one direction of many tensors.

    Parameters
    ----------
    graph
        The model.
    point
        Its values and gradients in float64, of which `can_move_jointly` holds.
    directions
        Standard Gaussian direction of each tensor, weight or node that moves, of its shape, in numbers of 24 bits.
    seed
        Seed of all that is random.

    Notes
    -----
    Central quotients at h, h/2 and h/4 go into Neville's table (`method.py`), and the bound is

        distance of the entry to those it came from + its noise,

    and no less than rho^4 |s g|, where rho is the move of the tensor that moves the most over its own size, and |s g|
    the norm of all s_i g_i together. Two entries may agree by chance, and an estimate that is 0 by chance would be no
    bound: the error of the second column is c h^4, which is of that size for functions that change by as much as
    themselves where a tensor moves by its size.

    The noise is that of `adjoint_noise.py`. It relies on the backward passes of the ops, as the rest of this package
    does not: but for the noise and the scales the difference knows no derivative. A backward pass that is wrong
    disagrees with the difference along the same direction.

    The scales give each tensor an equal share of the derivative: s_i is in proportion to 1 / |g_i| to eight bits, so
    that no tensor is lost beside another one. But a tensor moves by 2^-14 at least of what another one does, relative
    to its size: so short a move would drown in rounding. A tensor on which the loss hardly depends moves as far as any.

    Steps have to be calm, as in `step_scale.py`: nothing downstream moves by more than 1 or its own size, or falls
    below a quarter of it, and no exponent or phase leaves its leeway.
    """
    with np.errstate(all="ignore"):
        scales = _choose_scales(point, directions)
        if scales is None:
            return JointDifference(directions, dict.fromkeys(directions, 1.0), math.nan, math.inf, 0)
        return _LineDifference(graph, point, directions, scales, seed).differentiate()


@dataclass(frozen=True)
class _Scales:
    """Scales of the tensors, the largest relative move for t = 1, and the norm of the gradient along them."""

    by_name: Mapping[str, float]
    largest_move: float
    gradient_norm: float


def _choose_scales(point: LinePoint, directions: Mapping[str, Array]) -> _Scales | None:
    """Return the scale of each tensor, or None where there is no gradient, or no scale within the range."""
    sizes = {name: _measure_size(point.values[name]) for name in directions}
    norms = {name: euclidean_norm(point.gradients[name]) for name in directions}
    influences = {name: _log2(norms[name]) + math.log2(sizes[name]) for name in directions}
    largest = max(influences.values())
    if not (math.isfinite(largest) and all(map(math.isfinite, sizes.values()))):
        return None
    sharing = {name for name, influence in influences.items() if influence > largest - _WITHOUT_INFLUENCE}
    least = min(influences[name] for name in sharing)
    scales = {
        name: _keep_bits(
            _LARGEST_SCALE * size, max(least - influences[name], -_LARGEST_SPREAD) if name in sharing else 0.0
        )
        for name, size in sizes.items()
    }
    if not all(_SMALLEST_SCALE <= scale <= 1 / _SMALLEST_SCALE for scale in scales.values()):
        return None
    norm = math.hypot(*(scales[name] * norms[name] for name in directions))
    return _Scales(scales, max(scales[name] / sizes[name] for name in directions), norm)


def _keep_bits(size: float, exponent: float) -> float:
    """Return size 2^exponent with the first bits alone, 0 where it underflows."""
    significand, binade = math.frexp(size)
    significand, shift = math.frexp(significand * 2.0 ** (exponent - math.floor(exponent)))
    kept = math.floor(significand * 2**_SCALE_BITS) / 2**_SCALE_BITS
    return math.ldexp(kept, binade + shift + math.floor(exponent))


def _measure_size(value: Array) -> float:
    """Return the root mean square of a tensor, 1 for one of zeros."""
    return euclidean_norm(value) / math.sqrt(value.size) or 1.0


def _log2(number: float) -> float:
    return math.log2(number) if number > 0 else -math.inf


@dataclass(frozen=True)
class _Estimate:
    """A value with its bound, and the part of the bound that is noise."""

    value: float
    bound: float
    noise: float


class _LineDifference:
    """The model along one direction."""

    def __init__(
        self, graph: Graph, point: LinePoint, directions: Mapping[str, Array], scales: _Scales, seed: int
    ) -> None:
        line = make_line_model(graph, point.values, directions, scales.by_name)
        self._base_gradients = line.model.add_moved_arrays(point.gradients)
        self._graph, self._downstream = line.graph, line.downstream
        self._responses = self._downstream.compute_linear_responses(np.ones((1, 1)))
        self._terms_at_rest = self._downstream.split_terms_at_rest()
        self._directions, self._scales = directions, scales
        self._generator = np.random.default_rng([seed, 0xFD])
        self._evaluations = 0

    def differentiate(self) -> JointDifference:
        """Return the difference by the first step that is small enough."""
        value, bound = self._search_step()
        return JointDifference(self._directions, self._scales.by_name, value, bound, self._evaluations)

    def _search_step(self) -> tuple[float, float]:
        """Return value and bound of the best step, NaN and infinity for none."""
        step = _FIRST_STEP
        best: _Estimate | None = None
        for _ in range(MAX_STEPS):
            estimate = self._estimate(step)
            if estimate is None:
                step *= _RETREAT
                continue
            if best is not None and abs(estimate.value - best.value) > estimate.bound + best.bound:
                # One of both was too bold, and nothing tells which.
                return math.nan, math.inf
            best = estimate if best is None or estimate.bound < best.bound else best
            truncation = estimate.bound - estimate.noise
            if truncation <= max(_DOMINANCE * estimate.noise, _TIGHT_BOUND * self._scales.gradient_norm):
                break
            # The error falls as h^4, and the noise grows as 1/h.
            factor = max(_SMALLEST_FACTOR, (estimate.noise / truncation) ** (1 / 5))
            step *= 2.0 ** math.floor(math.log2(factor))
        return (math.nan, math.inf) if best is None else (best.value, best.bound)

    def _estimate(self, step: float) -> _Estimate | None:
        """Return the estimate from one step and its halvings, or None where there is no bound."""
        steps = step * 2.0 ** -np.arange(STEP_COUNT)
        terms, coefficients, values = self._evaluate_terms(steps)
        if not (np.isfinite(terms).all() and self._is_calm(values)):
            return None
        moved = LinePoint(values, self._graph.backward_to(values))
        noise = estimate_adjoint_noise(self._downstream, moved, self._base_gradients, self._generator)
        differences = terms[:, 0] - terms[:, 1]
        if coefficients is not None:
            differences = differences * coefficients
        slack = CURVATURE_NOISE * noise / math.sqrt(terms.shape[-1]) + CURVATURE_ROUNDING * np.abs(differences[:1])
        if find_terms_over_poles(terms[None], self._terms_at_rest, coefficients, slack) is not None:
            return None
        quotients = self._divide(differences, steps, noise)
        value, bound = extrapolate_central_number(
            quotients.values[:, 0].tolist(), quotients.noise_floors[:, 0].tolist()
        )
        if not math.isfinite(bound):
            return None
        coincidence = (step * self._scales.largest_move) ** 4 * self._scales.gradient_norm
        noise_of_entry = _NOISE_OF_LAST_ENTRY * float(quotients.noise[0]) + float(quotients.rounding_error[0])
        return _Estimate(value, max(bound, coincidence + noise_of_entry), noise_of_entry)

    def _evaluate_terms(self, steps: Array) -> tuple[Array, Array | None, Mapping[str, Array]]:
        """Return the terms at both ends of each step, (steps, 2, terms), their coefficients, and the first values."""
        moves = np.multiply.outer(steps, (1.0, -1.0)).ravel()
        passes = min(moves.size, -(-moves.size * self._downstream.widest_array // _MAX_PASS_ELEMENTS))
        length = -(-moves.size // passes)
        first, *others = [
            self._downstream.evaluate_terms_on_line(self._responses, moves[start : start + length])
            for start in range(0, moves.size, length)
        ]
        self._evaluations += moves.size
        terms = np.concatenate([first[0], *(other[0] for other in others)]).reshape(len(steps), 2, -1)
        return terms, first[1], first[2]

    def _divide(self, differences: Array, steps: Array, noise: float) -> DifferenceQuotients:
        width, count = 2 * float(steps[0]), differences.shape[-1]
        rounding = estimate_sum_rounding(count) * float(np.abs(differences[0]).sum()) / width + UNDERFLOW_LOSS
        return DifferenceQuotients(
            (differences.sum(axis=-1) / (2 * steps))[:, None],
            np.array([(noise + UNDERFLOW_LOSS * count) / width]),
            np.array([rounding]),
        )

    def _is_calm(self, values: Mapping[str, Array]) -> bool:
        """Return whether nothing moves too far at the first step."""
        point = self._downstream.point
        for node in iterate_interruptibly(self._downstream.nodes):
            value, rest = values[node.name], point.values[node.name]
            # A move of 3/4 at most is calm whatever the size: what is larger than 1 keeps a quarter of itself.
            if np.abs(value - rest).max(initial=0) <= _ALWAYS_CALM:
                continue
            limits, smallest_size, _ = point.move_limits(node.name)
            if not ((np.abs(value - rest) <= limits) & (np.abs(value) >= smallest_size)).all():
                return False
        return all((fraction <= 1).all() for fraction in self._downstream.compute_leeway_fractions(dict(values)))
