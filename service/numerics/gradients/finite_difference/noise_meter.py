"""The noise of the differenced terms, measured.

Under the rounding model the difference f(x + h s) - f(x - h s), all elements of a tensor moved at once in a random
direction s, is computed in several sweeps; the spread of each term is what rounding leaves in its difference. Both
contributions are in it: errors downstream of the tensor, drawn anew on each side, and errors upstream, drawn once for
both, which displace the point at which the difference is taken. Moving all elements at once moves each term by no
less, root mean square, than moving any one of them would, so one measurement serves every element.

Noise at the base alone would not do: where a residual is near 0, as in a fitted model, the terms and their errors are
far smaller there than at x +- h.
"""

import math
from collections.abc import Mapping

import numpy as np

from service.numerics.core.batching import Array, broadcast_batch, count_elements
from service.numerics.core.precision import PRECISIONS
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.step_scale import draw_search_directions
from service.numerics.model.graph import Graph, NamedArrays
from service.numerics.model.rounding import ROUNDING_SWEEPS, SAFETY_FACTOR, MonteCarloRounding, root_mean_square
from service.numerics.ops.op import Rounding

_DIRECTION_COUNTS = (2, 1)
"""Of a narrow model, and of one in which each direction moves thousands of units."""
_WIDE_MODEL_ELEMENTS = 2**11
_REUSABLE_STEP_RATIO = 2.0**-5
_SMALLEST_NOISE = 2.0**-1074


def evaluate_with_sweeps(
    graph: Graph, leaves: Mapping[str, Array], generator: np.random.Generator
) -> tuple[BasePoint, NamedArrays]:
    """Evaluate a model at its leaves, float64, (1, ...), and in sweeps of the rounding model, on the pieces there."""
    held, sweeps = graph.hold_branches(leaves, _make_rounding_observer(generator))
    return BasePoint(held, {name: each[:1] for name, each in sweeps.items()}), sweeps


def _make_rounding_observer(generator: np.random.Generator, groups: int = 1) -> MonteCarloRounding:
    return MonteCarloRounding(PRECISIONS["FP64"], generator, groups, as_implemented=True)


class NoiseMeter:
    """Measures the noise of differences of one model at one point.

    Parameters
    ----------
    point
        The model, and where.
    sweeps
        Every leaf and node in sweeps of the rounding model, (SWEEPS + 1, ...), or (1, ...) where it is exact.
    generator
        All that is random comes from it.
    """

    def __init__(self, point: BasePoint, sweeps: Mapping[str, Array], generator: np.random.Generator) -> None:
        self._generator = generator
        self._is_wide = max(map(count_elements, point.graph.shapes.values())) >= _WIDE_MODEL_ELEMENTS
        self.sweeps = sweeps
        self.noise_unit = _make_rounding_observer(generator).spread_scale
        """Size of the noise in units of what is measured."""
        self._measured_noise: dict[tuple[DownstreamGraph, bool], tuple[float, Array]] = {}

    def rounding_errors(self, name: str) -> Array | None:
        """What rounding does to a leaf or node, in each of the sweeps, (SWEEPS, ...); None where it is exact."""
        swept = self.sweeps[name]
        if swept.shape[0] == 1 or swept.dtype.kind != "f":
            return None
        deviations = swept[1:] - swept[:1]
        scaled = self.noise_unit * deviations
        # What underflowed upstream is off by the spacing there, however large what it is multiplied by.
        return np.where((scaled == 0) & (deviations != 0), np.copysign(_SMALLEST_NOISE, deviations), scaled)

    def measure_noise(
        self, suffix: DownstreamGraph, offsets: tuple[float, float], step: float, element_steps: Array | None = None
    ) -> Array:
        """Noise of each term of f(x + first h s) - f(x + second h s), absolute, (terms,), in units of `scale`.

        In these units, so that what underflows in the noise of terms need not do so in that of quotients. Where the
        move is exact it is the moved point that rounds, wherever it is first looked at.

        Errors that terms have in common, from upstream, add up in a sum as independent ones do not; by as much as they
        do in the sum of all terms, each term's own is raised. What was measured at a step not much larger serves: the
        noise grows with the step, if at all.

        `parts` are what each element moves by in units of the step, 1 by default.
        """
        key = suffix, element_steps is None
        last, noise = self._measured_noise.get(key, (np.inf, np.empty(0)))
        if not _REUSABLE_STEP_RATIO * last <= step <= last:
            noise = self._measure_at_step(suffix, offsets, step, element_steps)
            self._measured_noise[key] = step, noise
        return noise

    def _measure_at_step(
        self, suffix: DownstreamGraph, offsets: tuple[float, float], step: float, element_steps: Array | None
    ) -> Array:
        along = draw_search_directions(_DIRECTION_COUNTS[self._is_wide], suffix.shape, self._generator)
        along = along if element_steps is None else along * element_steps
        moves = np.concatenate([offset * step * along for offset in offsets])
        # Side by side where a pass costs by the call; one by one where by the element, since a leaf is then moved once.
        passes = np.split(moves, len(moves)) if self._is_wide else [moves]
        terms = [self._perturbed_terms(suffix, each) for each in passes]
        joined = terms[0] if len(terms) == 1 else np.concatenate(terms)
        return _estimate_term_noise(joined[: len(along)] - joined[len(along) :]).max(axis=0)

    def _perturbed_terms(self, suffix: DownstreamGraph, moves: Array) -> Array:
        """Terms at each of the moves, (moves, SWEEPS + 1, terms)."""
        observer = _make_rounding_observer(self._generator, len(moves))
        upstream, moved = self.sweeps, self.sweeps[suffix.name] + moves[:1]
        if len(moves) > 1:
            upstream = {each: _repeat_in_batch(self.sweeps[each], len(moves)) for each in suffix.upstream_names}
            point = broadcast_batch(self.sweeps[suffix.name], ROUNDING_SWEEPS + 1)
            moved = (point + moves[:, None]).reshape(-1, *point.shape[1:])
        if suffix.moves_exactly:
            moved = observer.add_rounding_error(moved, Rounding(np.abs(moved), 1))
        terms = suffix.evaluate_remaining({suffix.name: moved}, upstream, observer=observer)
        return broadcast_batch(terms, len(moves) * (ROUNDING_SWEEPS + 1)).reshape(len(moves), ROUNDING_SWEEPS + 1, -1)


def _repeat_in_batch(array: Array, count: int) -> Array:
    return np.concatenate([array] * count) if array.shape[0] > 1 else array


def _estimate_term_noise(differences: Array) -> Array:
    """Noise of each term, (..., terms), of differences without errors and in the sweeps, (..., SWEEPS + 1, terms)."""
    deviations = differences[..., 1:, :] - differences[..., :1, :]
    of_terms = root_mean_square(deviations, axis=-2)
    independent = math.sqrt(of_terms.shape[-1]) * root_mean_square(of_terms, axis=-1)
    together = root_mean_square(np.add.reduce(deviations, axis=-1), axis=-1)
    return (SAFETY_FACTOR * np.fmax(1.0, together / independent))[..., None] * of_terms
