"""The measured noise of the differenced terms.

Under the rounding model the difference f(x + h s) - f(x - h s), all elements of a tensor moved at once in a random
direction s, is computed in several sweeps. The spread of each term is the noise that rounding leaves in its difference.
Both contributions are in it: errors downstream of the tensor, drawn anew on each side, and errors upstream, drawn once
for both, which displace the point at which the difference is taken. Moving all elements at once moves each term by no
less, root mean square, than moving any one of them would, so one measurement serves every element.

Errors of float64 are too small to be drawn, so that those of the sweeps are 2^23 times as large, and the spread is
scaled back. That takes the terms to be linear in them. A phase of 1e14 turns many times within an error of 2^-30 of it,
and a spread is then the swing of the cosine, whatever the error. With F the spread of the phase, in units of its
leeway, the true error is F / 2^23 of a leeway, and a function changes over that by F / 2^23 of its swing: so the noise
is F times as large as the spread scaled back, where F exceeds 1.

Noise at the base alone would not do: with a residual near 0, as in a fitted model, the terms and their errors are far
smaller there than at x +- h. Nor do the moved terms alone where they are the smaller ones: a product of n numbers moved
by their parts e_i has at its two ends the factors prod(1 + e_i) and prod(1 - e_i), whose product, prod(1 - e_i^2), is
far below 1 for large n, while the move of one element alone leaves the term as large as it is. If terms fell below a
part of their size at rest, the noise without a move counts, too.
"""

import math
from collections.abc import Mapping

import numpy as np

from service.numerics.core.batching import Array, broadcast_batch, count_elements
from service.numerics.core.precision import PRECISIONS
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.repeat_rounding import RepeatRounding
from service.numerics.gradients.finite_difference.step_scale import draw_search_directions
from service.numerics.model.graph import Graph, NamedArrays
from service.numerics.model.monte_carlo import ROUNDING_SWEEPS, MonteCarloRounding, compute_root_mean_square
from service.numerics.model.rounding import SAFETY_FACTOR
from service.numerics.ops.op import Rounding

_DIRECTION_COUNTS = (2, 1)
"""Directions for a narrow model, and for one in which each direction moves thousands of units."""
_WIDE_MODEL_ELEMENTS = 2**11
_REUSABLE_STEP_RATIO = 2.0**-5
_SMALLEST_NOISE = 2.0**-1074
_FALLEN_PART = 0.25
"""Part of a term at rest below which its noise at the moved points says little of that of other moves."""


def evaluate_with_sweeps(
    graph: Graph, leaves: Mapping[str, Array], generator: np.random.Generator
) -> tuple[BasePoint, NamedArrays]:
    """Return a model at its leaves, on the pieces there, and its values in sweeps.

    The sweeps are those of the rounding model.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    generator
        Source of all that is random.
    """
    held_graph, sweeps = graph.hold_branches(leaves, _make_rounding_observer(generator))
    return BasePoint(held_graph, {name: values[:1] for name, values in sweeps.items()}), sweeps


def _make_rounding_observer(generator: np.random.Generator) -> MonteCarloRounding:
    return MonteCarloRounding(PRECISIONS["FP64"], generator, as_implemented=True)


class NoiseMeter:
    """A meter of the noise of differences of one model at one point.

    Parameters
    ----------
    point
        The model at the point.
    sweeps
        Every leaf and node in sweeps of the rounding model, (SWEEPS + 1, ...), or (1, ...) for an exact one.
    generator
        Source of all that is random.
    """

    def __init__(self, point: BasePoint, sweeps: Mapping[str, Array], generator: np.random.Generator) -> None:
        self._generator = generator
        self._is_wide = max(map(count_elements, point.graph.shapes.values())) >= _WIDE_MODEL_ELEMENTS
        self.sweeps = sweeps
        self.noise_unit = _make_rounding_observer(generator).spread_scale
        """Size of the noise in units of the measured spread."""
        self._measured_noise: dict[tuple[DownstreamGraph, bool], tuple[float, Array]] = {}

    def estimate_rounding_errors(self, name: str) -> Array | None:
        """Return the rounding errors of a leaf or node in each sweep, (SWEEPS, ...).

        None stands for an exact one.
        """
        values_in_sweeps = self.sweeps[name]
        if values_in_sweeps.shape[0] == 1 or values_in_sweeps.dtype.kind != "f":
            return None
        deviations = values_in_sweeps[1:] - values_in_sweeps[:1]
        scaled = self.noise_unit * deviations
        # A value that underflowed upstream is off by the spacing there, however large its factor.
        return np.where((scaled == 0) & (deviations != 0), np.copysign(_SMALLEST_NOISE, deviations), scaled)

    def measure_noise(
        self, downstream: DownstreamGraph, offsets: tuple[float, float], step: float, element_steps: Array | None = None
    ) -> Array:
        """Return the noise of each term of a difference over one step, (terms,).

        It is absolute, in units of `noise_unit`. In these units an underflow in the noise of terms need not be one in
        that of quotients. The difference is f(x + first h s) - f(x + second h s), in random directions s.

        Parameters
        ----------
        downstream
            Nodes downstream of the moving name.
        offsets
            First and second, in units of the step.
        step
            Step h.
        element_steps
            Move of each element in units of the step; 1 by default.

        Notes
        -----
        If the move is exact, the moved point rounds where it is first read. Errors that terms have in common, from
        upstream, add up in a sum as independent ones do not. Each term's own noise is raised by as much as they do in
        the sum of all terms. A measurement at a step not much larger serves: the noise grows with the step, if at all.
        """
        key = downstream, element_steps is None
        last_step, noise = self._measured_noise.get(key, (np.inf, np.empty(0)))
        if not _REUSABLE_STEP_RATIO * last_step <= step <= last_step:
            noise = self._measure_at_step(downstream, offsets, step, element_steps)
            self._measured_noise[key] = step, noise
        return noise

    def _measure_at_step(
        self, downstream: DownstreamGraph, offsets: tuple[float, float], step: float, element_steps: Array | None
    ) -> Array:
        directions = draw_search_directions(_DIRECTION_COUNTS[self._is_wide], downstream.shape, self._generator)
        directions = directions if element_steps is None else directions * element_steps
        moves = np.concatenate([offset * step * directions for offset in offsets])
        # Moves run side by side where a pass costs by the call, and one by one where it costs by the element, since a
        # leaf is then moved once.
        passes = np.split(moves, len(moves)) if self._is_wide else [moves]
        terms, spreads = zip(
            *(self._compute_perturbed_terms(downstream, pass_moves) for pass_moves in passes), strict=True
        )
        all_terms = terms[0] if len(terms) == 1 else np.concatenate(terms)
        differences = all_terms[: len(directions)] - all_terms[len(directions) :]
        if _have_fallen(downstream, all_terms[:, 0]):
            # Two evaluations at rest differ by their rounding alone.
            at_rest, _ = self._compute_perturbed_terms(downstream, np.zeros((2, *downstream.shape)))
            differences = np.concatenate([differences, at_rest[:1] - at_rest[1:]])
        return max(1.0, *spreads) * _estimate_term_noise(differences).max(axis=0)

    def _compute_perturbed_terms(self, downstream: DownstreamGraph, moves: Array) -> tuple[Array, float]:
        """Return the terms at each of the moves, (moves, SWEEPS + 1, terms), and the spread of arguments in leeways."""
        observer = RepeatRounding(self._generator, len(moves))
        upstream, moved_values = self.sweeps, self.sweeps[downstream.name] + moves[:1]
        if len(moves) > 1:
            upstream = {name: _repeat_in_batch(self.sweeps[name], len(moves)) for name in downstream.upstream_names}
            values_in_sweeps = broadcast_batch(self.sweeps[downstream.name], ROUNDING_SWEEPS + 1)
            moved_values = (values_in_sweeps + moves[:, None]).reshape(-1, *values_in_sweeps.shape[1:])
        if downstream.moves_exactly:
            moved_values = observer.add_rounding_error(moved_values, Rounding(np.abs(moved_values), 1))
        values = {downstream.name: moved_values}
        terms = downstream.evaluate_remaining(values, upstream, observer=observer)
        sample_count = ROUNDING_SWEEPS + 1
        spread = downstream.measure_leeway_spread(values, upstream, sample_count)
        return broadcast_batch(terms, len(moves) * sample_count).reshape(len(moves), sample_count, -1), spread


def _repeat_in_batch(array: Array, count: int) -> Array:
    return np.concatenate([array] * count) if array.shape[0] > 1 else array


def _have_fallen(downstream: DownstreamGraph, moved_terms: Array) -> bool:
    """Return whether a term is far smaller at all moved points, (moves, terms), than at rest."""
    at_rest = downstream.evaluate_remaining({downstream.name: downstream.point.values[downstream.name]})
    return bool((np.abs(moved_terms).max(axis=0) < _FALLEN_PART * np.abs(at_rest)).any())


def _estimate_term_noise(differences: Array) -> Array:
    """Return the noise of each term, (..., terms).

    Parameters
    ----------
    differences
        Differences without errors and in the sweeps, (..., SWEEPS + 1, terms).
    """
    deviations = differences[..., 1:, :] - differences[..., :1, :]
    of_terms = compute_root_mean_square(deviations, axis=-2)
    independent = math.sqrt(of_terms.shape[-1]) * compute_root_mean_square(of_terms, axis=-1)
    joint = compute_root_mean_square(np.add.reduce(deviations, axis=-1), axis=-1)
    return (SAFETY_FACTOR * np.fmax(1.0, joint / independent))[..., None] * of_terms
