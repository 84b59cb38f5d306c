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

from service.numerics.gradients.finite_difference.step import directions
from service.numerics.graph import Graph
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
    graph, leaves
        The model and its tensors and weights, float64, (1, ...).
    generator
        All that is random comes from it.
    """

    def __init__(self, graph: Graph, leaves: Mapping[str, Array], generator: np.random.Generator) -> None:
        self._graph = graph
        self._generator = generator
        self._wide = max(map(size, graph.shapes.values())) >= _WIDE
        self._measured: dict[str, tuple[float, Array]] = {}
        observer = MonteCarlo(PRECISIONS["FP64"], generator)
        self.scale = observer.scale
        """Size of the noise in units of what is measured."""
        self._sweeps = graph.forward(leaves, observer)

    def measure(self, name: str, offsets: tuple[float, float], step: float, exact: bool = False) -> Array:
        """Noise of each term of f(x + first h s) - f(x + second h s), absolute, (terms,), in units of `scale`.

        In these units, so that what underflows in the noise of terms need not do so in that of quotients. Where the
        move is `exact` it is the moved point that rounds, wherever it is first looked at.

        Errors that terms have in common, from upstream, add up in a sum as independent ones do not; by as much as they
        do in the sum of all terms, each term's own is raised. What was measured at a step not much larger serves: the
        noise grows with the step, if at all.
        """
        last, noise = self._measured.get(name, (np.inf, np.empty(0)))
        if not _SERVES * last <= step <= last:
            noise = self._at(name, offsets, step, exact)
            self._measured[name] = step, noise
        return noise

    def _at(self, name: str, offsets: tuple[float, float], step: float, exact: bool) -> Array:
        shape = self._sweeps[name].shape[1:]
        along = directions(_DIRECTIONS[self._wide], shape, self._generator)
        moves = np.concatenate([offset * step * along for offset in offsets])
        # Side by side where a pass costs by the call; one by one where by the element, since a leaf is then moved once.
        passes = np.split(moves, len(moves)) if self._wide else [moves]
        first, second = np.split(np.concatenate([self._terms(name, each, exact) for each in passes]), 2)
        return np.max([_noise(each) for each in first - second], axis=0)

    def _terms(self, name: str, moves: Array, exact: bool) -> Array:
        """Terms at each of the moves, (moves, SWEEPS + 1, terms)."""
        observer = MonteCarlo(PRECISIONS["FP64"], self._generator, groups=len(moves))
        upstream, moved = self._sweeps, self._sweeps[name] + moves[:1]
        if len(moves) > 1:
            needed = {source for node in self._graph.downstream([name]) for source in node.sources}
            upstream = {each: _side_by_side(self._sweeps[each], len(moves)) for each in needed}
            point = repeated(self._sweeps[name], SWEEPS + 1)
            moved = (point + moves[:, None]).reshape(-1, *point.shape[1:])
        if exact:
            moved = observer.perturbed(moved, Rounding(np.abs(moved), 1))
        values = self._graph.resume(upstream, {name: moved}, observer)
        terms = repeated(self._graph.terms(values, observer), len(moves) * (SWEEPS + 1))
        return terms.reshape(len(moves), SWEEPS + 1, -1)


def _side_by_side(array: Array, count: int) -> Array:
    return np.concatenate([array] * count) if array.shape[0] > 1 else array


def _noise(difference: Array) -> Array:
    """Noise of each term, (terms,), of a difference without errors and in the sweeps, (SWEEPS + 1, terms)."""
    deviations = difference[1:] - difference[:1]
    of_terms = root_mean_square(deviations)
    unit = of_terms.max(initial=0)
    if not 0 < unit < np.inf:
        return of_terms
    independent = np.linalg.norm(of_terms / unit)
    together = root_mean_square(deviations.sum(axis=1)[:, None] / unit)[0]
    return SAFETY * max(1.0, float(together / independent)) * of_terms
