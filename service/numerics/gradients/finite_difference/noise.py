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

from service.numerics.gradients.finite_difference.point import Point
from service.numerics.gradients.finite_difference.step import directions
from service.numerics.gradients.finite_difference.suffix import Suffix
from service.numerics.graph import Graph, Values
from service.numerics.ops.op import Rounding
from service.numerics.precision import PRECISIONS
from service.numerics.rounding import SAFETY, SWEEPS, MonteCarlo, root_mean_square
from service.numerics.tiles import Array, repeated, size

_DIRECTIONS = (2, 1)
"""Of a narrow model, and of one in which each direction moves thousands of units."""
_WIDE = 2**11
_SERVES = 2.0**-5
_SMALLEST = 2.0**-1074


def swept(graph: Graph, leaves: Mapping[str, Array], generator: np.random.Generator) -> tuple[Point, Values]:
    """Evaluate a model at its leaves, float64, (1, ...), and in sweeps of the rounding model, on the pieces there."""
    held, sweeps = graph.held(leaves, _observer(generator))
    return Point(held, {name: each[:1] for name, each in sweeps.items()}), sweeps


def _observer(generator: np.random.Generator, groups: int = 1) -> MonteCarlo:
    return MonteCarlo(PRECISIONS["FP64"], generator, groups, own=True)


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

    def __init__(self, point: Point, sweeps: Mapping[str, Array], generator: np.random.Generator) -> None:
        self._generator = generator
        self._wide = max(map(size, point.graph.shapes.values())) >= _WIDE
        self.sweeps = sweeps
        self.scale = _observer(generator).scale
        """Size of the noise in units of what is measured."""
        self._measured: dict[tuple[Suffix, bool], tuple[float, Array]] = {}

    def errors(self, name: str) -> Array | None:
        """What rounding does to a leaf or node, in each of the sweeps, (SWEEPS, ...); None where it is exact."""
        swept = self.sweeps[name]
        if swept.shape[0] == 1 or swept.dtype.kind != "f":
            return None
        deviations = swept[1:] - swept[:1]
        scaled = self.scale * deviations
        # What underflowed upstream is off by the spacing there, however large what it is multiplied by.
        return np.where((scaled == 0) & (deviations != 0), np.copysign(_SMALLEST, deviations), scaled)

    def measure(self, suffix: Suffix, offsets: tuple[float, float], step: float, parts: Array | None = None) -> Array:
        """Noise of each term of f(x + first h s) - f(x + second h s), absolute, (terms,), in units of `scale`.

        In these units, so that what underflows in the noise of terms need not do so in that of quotients. Where the
        move is exact it is the moved point that rounds, wherever it is first looked at.

        Errors that terms have in common, from upstream, add up in a sum as independent ones do not; by as much as they
        do in the sum of all terms, each term's own is raised. What was measured at a step not much larger serves: the
        noise grows with the step, if at all.

        `parts` are what each element moves by in units of the step, 1 by default.
        """
        key = suffix, parts is None
        last, noise = self._measured.get(key, (np.inf, np.empty(0)))
        if not _SERVES * last <= step <= last:
            noise = self._at(suffix, offsets, step, parts)
            self._measured[key] = step, noise
        return noise

    def _at(self, suffix: Suffix, offsets: tuple[float, float], step: float, parts: Array | None) -> Array:
        along = directions(_DIRECTIONS[self._wide], suffix.shape, self._generator)
        along = along if parts is None else along * parts
        moves = np.concatenate([offset * step * along for offset in offsets])
        # Side by side where a pass costs by the call; one by one where by the element, since a leaf is then moved once.
        passes = np.split(moves, len(moves)) if self._wide else [moves]
        terms = [self._terms(suffix, each) for each in passes]
        joined = terms[0] if len(terms) == 1 else np.concatenate(terms)
        return _noise(joined[: len(along)] - joined[len(along) :]).max(axis=0)

    def _terms(self, suffix: Suffix, moves: Array) -> Array:
        """Terms at each of the moves, (moves, SWEEPS + 1, terms)."""
        observer = _observer(self._generator, len(moves))
        upstream, moved = self.sweeps, self.sweeps[suffix.name] + moves[:1]
        if len(moves) > 1:
            upstream = {each: _side_by_side(self.sweeps[each], len(moves)) for each in suffix.upstream}
            point = repeated(self.sweeps[suffix.name], SWEEPS + 1)
            moved = (point + moves[:, None]).reshape(-1, *point.shape[1:])
        if suffix.exact:
            moved = observer.perturbed(moved, Rounding(np.abs(moved), 1))
        terms = suffix.evaluated({suffix.name: moved}, upstream, observer=observer)
        return repeated(terms, len(moves) * (SWEEPS + 1)).reshape(len(moves), SWEEPS + 1, -1)


def _side_by_side(array: Array, count: int) -> Array:
    return np.concatenate([array] * count) if array.shape[0] > 1 else array


def _noise(differences: Array) -> Array:
    """Noise of each term, (..., terms), of differences without errors and in the sweeps, (..., SWEEPS + 1, terms)."""
    deviations = differences[..., 1:, :] - differences[..., :1, :]
    of_terms = root_mean_square(deviations, axis=-2)
    independent = math.sqrt(of_terms.shape[-1]) * root_mean_square(of_terms, axis=-1)
    together = root_mean_square(np.add.reduce(deviations, axis=-1), axis=-1)
    return (SAFETY * np.fmax(1.0, together / independent))[..., None] * of_terms
