"""The noise of the differenced terms, measured.

Under the rounding model the difference f(x + h s) - f(x - h s), all elements of a tensor moved at once in a random
direction s, is computed in several sweeps; the spread of each term is what rounding leaves in its difference. Both
contributions are in it: errors downstream of the tensor, drawn anew on each side, and errors upstream, drawn once for
both, which displace the point at which the difference is taken. Moving all elements at once moves each term by no
less, root mean square, than moving any one of them would, so one measurement serves every element.

Noise at the base alone would not do: where a residual is near 0, as in a fitted model, the terms and their errors are
far smaller there than at x +- h.
"""

from collections.abc import Mapping

import numpy as np

from service.numerics.gradients.finite_difference.point import Point
from service.numerics.gradients.finite_difference.step import directions
from service.numerics.gradients.finite_difference.suffix import Suffix
from service.numerics.ops.op import Rounding
from service.numerics.precision import PRECISIONS
from service.numerics.rounding import SAFETY, SWEEPS, MonteCarlo, root_mean_square
from service.numerics.tiles import Array, repeated, size

_DIRECTIONS = (2, 1)
"""Of a narrow model, and of one in which each direction moves thousands of units."""
_WIDE = 2**11
_SERVES = 2.0**-5


class NoiseMeter:
    """Measures the noise of differences of one model at one point.

    Parameters
    ----------
    point
        The model, and where.
    leaves
        Its tensors and weights, float64, (1, ...).
    generator
        All that is random comes from it.
    """

    def __init__(self, point: Point, leaves: Mapping[str, Array], generator: np.random.Generator) -> None:
        self._generator = generator
        self._wide = max(map(size, point.graph.shapes.values())) >= _WIDE
        observer = MonteCarlo(PRECISIONS["FP64"], generator, own=True)
        self.scale = observer.scale
        """Size of the noise in units of what is measured."""
        self.sweeps = point.graph.forward(leaves, observer)
        self._measured: dict[tuple[Suffix, bool], tuple[float, Array]] = {}

    def errors(self, name: str) -> Array | None:
        """What rounding does to a leaf or node, in each of the sweeps, (SWEEPS, ...); None where it is exact."""
        swept = self.sweeps[name]
        if swept.shape[0] == 1 or swept.dtype.kind != "f":
            return None
        return self.scale * (swept[1:] - swept[:1])

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
        observer = MonteCarlo(PRECISIONS["FP64"], self._generator, groups=len(moves), own=True)
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
    unit = of_terms.max(axis=-1, initial=0, keepdims=True)
    unit = np.where((unit > 0) & np.isfinite(unit), unit, 1)
    independent = np.sqrt(np.square(of_terms / unit).sum(axis=-1, keepdims=True))
    together = root_mean_square(deviations.sum(axis=-1, keepdims=True) / unit[..., None], axis=-2)
    return SAFETY * np.fmax(1.0, together / independent) * of_terms
