"""The noise of the differenced terms, measured.

Under the rounding model the difference f(x + h s) - f(x - h s), all elements of a tensor moved at once in a random
direction s, is computed in several sweeps; its spread is what rounding leaves in a difference. Both contributions are
in it: errors downstream of the tensor, drawn anew on each side, and errors upstream, drawn once for both, which
displace the point at which the difference is taken. Moving all elements at once moves each term by no less, root
mean square, than moving any one of them would, so one measurement serves every element.

Noise at the base alone would not do: where a residual is near 0, as in a fitted model, the terms and their errors are
far smaller there than at x +- h.
"""

from collections.abc import Mapping

import numpy as np

from service.numerics.gradients.finite_difference.step import directions
from service.numerics.graph import Graph, Values
from service.numerics.precision import PRECISIONS
from service.numerics.rounding import SAFETY, SWEEPS, MonteCarlo, root_mean_square
from service.numerics.tiles import Array, Shape, repeated

_DIRECTIONS = 2


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
        self._sweeps = graph.forward(leaves, MonteCarlo(PRECISIONS["FP64"], generator))

    def measure(self, name: str, offsets: tuple[float, float], steps: Array) -> Array:
        """Noise of f(x + first h s) - f(x + second h s), absolute, for each of the steps h, (steps,)."""
        point = self._sweeps[name]
        shape: Shape = point.shape[1:]
        along = directions(_DIRECTIONS, shape, self._generator)
        # (steps, 2, directions, ...), and each of these for every sweep.
        moves = np.multiply.outer(np.multiply.outer(steps, offsets), along).reshape(-1, *shape)
        observer = MonteCarlo(PRECISIONS["FP64"], self._generator, groups=len(moves))
        moved = self._repeated(point, len(moves)) + np.repeat(moves, SWEEPS + 1, axis=0)
        values = self._graph.resume(self._upstream(name, len(moves)), {name: moved}, observer)
        terms = repeated(self._graph.terms(values, observer), len(moves) * (SWEEPS + 1))
        terms = terms.reshape(len(steps), 2, _DIRECTIONS, SWEEPS + 1, -1)
        differences = (terms[:, 0] - terms[:, 1]).sum(axis=-1)
        deviations = differences[..., 1:] - differences[..., :1]
        return SAFETY * observer.scale * root_mean_square(np.moveaxis(deviations, -1, 0)).max(axis=-1)

    def _upstream(self, name: str, groups: int) -> Values:
        """What the nodes downstream of a name read, once for each group of sweeps."""
        needed = {source for node in self._graph.downstream([name]) for source in node.sources}
        return {other: self._repeated(self._sweeps[other], groups) for other in needed}

    @staticmethod
    def _repeated(array: Array, groups: int) -> Array:
        return np.concatenate([array] * groups) if array.shape[0] > 1 else array
