"""Finite differences of the loss, term by term, with a bound for each element.

The difference is taken of the terms whose sum the loss is, and summed after: the rounding of the sum never enters.
Steps are powers of two, divided by as represented. All evaluations of a tile run in one pass behind its tile axis,
from the perturbed tensor on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.numerics.gradients.finite_difference.difference import Difference, Status
from service.numerics.gradients.finite_difference.method import ADAPTIVE, Method
from service.numerics.gradients.finite_difference.noise import NoiseMeter
from service.numerics.gradients.finite_difference.step import scale
from service.numerics.graph import Graph, Values
from service.numerics.tiles import Array, repeated, size

_TILE_ELEMENTS = 2**17
_UNIT_ROUNDOFF = 2.0**-53
_MOST_OF_REACH = 4.0
"""Largest step from which a bound may follow: the reach is found for all elements moving at once, a step moves one."""


class Progress(Protocol):
    """Is told between tiles how far the engine is, and may raise to stop it."""

    def __call__(self, name: str, done: int, total: int) -> None:
        """Take note of `done` of `total` evaluations of the loss for the tensor or node `name`."""
        ...


def differentiate(
    graph: Graph,
    leaves: Mapping[str, Array],
    names: Sequence[str],
    method: Method = ADAPTIVE,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Difference]:
    """Difference the loss with respect to each of the names.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    names
        Tensors, weights or nodes.
    method
        How.
    seed
        All that is random follows from it.
    progress
        Called between tiles.
    """
    # Steps may leave the domain of the loss; what is not finite there is looked for in the results.
    with np.errstate(all="ignore"):
        return _differentiate(graph, leaves, names, method, np.random.default_rng([seed, 0xFD]), progress)


def _differentiate(
    graph: Graph,
    leaves: Mapping[str, Array],
    names: Sequence[str],
    method: Method,
    generator: np.random.Generator,
    progress: Progress | None,
) -> dict[str, Difference]:
    base = graph.forward(leaves)
    # On the pieces of the base, so that no step has to be smaller than the way to the next kink.
    graph = graph.held(base)
    meter = NoiseMeter(graph, leaves, generator)
    results: dict[str, Difference] = {}
    for name in names:
        reach = scale(graph, base, name, generator)
        tensor = _Tensor(graph, base, name, method, reach, meter, progress)
        results[name] = tensor.difference()
    return results


def evaluations(method: Method, elements: int) -> int:
    """Evaluations of the loss that differencing a tensor of so many elements takes, restarts aside."""
    return len(method.offsets) * method.levels * len(method.rungs) * elements


@dataclass
class _Tensor:
    """The differences with respect to one tensor or node."""

    graph: Graph
    base: Values
    name: str
    method: Method
    reach: float
    meter: NoiseMeter
    progress: Progress | None
    evaluations: int = 0

    def difference(self) -> Difference:
        """Reduce each rung to a value and a bound, restart where none has one, and take the best for each element."""
        point = self.base[self.name]
        values, bounds = self._reduced(self.method.rungs, np.arange(point.size))
        for restart in self.method.restarts:
            lost = np.flatnonzero(~np.isfinite(bounds).any(axis=0))
            if not lost.size:
                break
            more = np.full((2, 1, point.size), np.nan)
            more[:, :, lost] = self._reduced((restart,), lost)
            values = np.concatenate([values, more[0]])
            bounds = np.concatenate([bounds, np.where(np.isnan(more[1]), np.inf, more[1])])
        return _best(values, bounds, point.shape[1:], self.evaluations)

    def _reduced(self, rungs: tuple[float, ...], elements: Array) -> tuple[Array, Array]:
        """Values and bounds, each (rungs, elements)."""
        steps = (self.method.step or self.reach) * self.method.steps(rungs)
        noise = self.meter.measure(self.name, self.method.offsets, steps[:, 0])
        values = np.empty((len(rungs), elements.size))
        bounds = np.empty_like(values)
        for chunk in _chunks(self.graph, self.name, elements.size, steps.size * len(self.method.offsets)):
            quotients, floors = self._quotients(steps, noise, elements[chunk])
            for rung in range(len(rungs)):
                values[rung, chunk], bounds[rung, chunk] = self.method.reduce(quotients[rung], floors[rung])
        # Where everything saturates, the quotients shrink with the step as those of a smooth function do with h^2.
        within = steps[:, :1] <= _MOST_OF_REACH * self.reach
        known = np.isfinite(values) & np.isfinite(bounds) & within
        return values, np.where(known, bounds, np.inf)

    def _quotients(self, steps: Array, noise: Array, elements: Array) -> tuple[Array, Array]:
        """Difference quotients and the floors under them, each (rungs, levels, elements)."""
        if self.progress is not None:
            total = max(evaluations(self.method, self.base[self.name].size), self.evaluations)
            self.progress(self.name, self.evaluations, total)
        terms, widths = _evaluated(self.graph, self.base, self.name, self.method.offsets, steps.ravel(), elements)
        self.evaluations += len(self.method.offsets) * widths.size
        differences = terms[:, :, 0] - terms[:, :, 1]
        summation = (2 + np.log2(differences.shape[-1])) * _UNIT_ROUNDOFF * np.abs(differences).sum(axis=-1)
        of_noise = np.repeat(noise, steps.shape[1])[:, None]
        shape = (*steps.shape, elements.size)
        quotients = differences.sum(axis=-1) / widths
        return quotients.reshape(shape), ((of_noise + summation) / widths).reshape(shape)


def _chunks(graph: Graph, name: str, elements: int, per_element: int) -> Iterator[slice]:
    """Elements whose evaluations fit into one tile."""
    involved = [name, *(node.name for node in graph.downstream([name]))]
    widest = max(size(graph.shapes[each]) for each in involved)
    length = max(1, _TILE_ELEMENTS // (per_element * widest))
    return (slice(start, min(start + length, elements)) for start in range(0, elements, length))


def _evaluated(
    graph: Graph, base: Values, name: str, offsets: tuple[float, float], steps: Array, which: Array
) -> tuple[Array, Array]:
    """Terms, (steps, elements, 2, terms), and the distances as represented, (steps, elements); NaN if none is left."""
    point = base[name]
    moved = point.ravel()[which][:, None] + np.multiply.outer(steps, offsets)[:, None, :]
    widths = moved[..., 0] - moved[..., 1]
    widths = np.where(np.abs(widths) >= 2 * np.spacing(np.abs(moved).max(axis=-1)), widths, np.nan)
    tile = np.repeat(point.reshape(1, -1), moved.size, axis=0)
    tile[np.arange(moved.size), np.broadcast_to(which[:, None], moved.shape).ravel()] = moved.ravel()
    values = graph.resume(base, {name: tile.reshape(-1, *point.shape[1:])})
    return repeated(graph.terms(values), moved.size).reshape(*moved.shape, -1), widths


def _best(values: Array, bounds: Array, shape: tuple[int, ...], evaluations: int) -> Difference:
    """Take the rung of the smallest bound for each element; values and bounds are (rungs, elements)."""
    best = np.argmin(bounds, axis=0)[None]
    value, bound = (np.take_along_axis(each, best, axis=0)[0] for each in (values, bounds))
    # Where two rungs exclude each other, one estimate was too bold, and which one is not known.
    known = np.isfinite(bounds)
    gaps = np.where(known, np.abs(np.where(known, values, 0) - value) - bounds - bound, 0)
    gap = np.maximum(0, gaps.max(axis=0))
    lost = ~np.isfinite(bound)
    finite = np.isfinite(values).any(axis=0)
    status = np.where(~finite, Status.NOT_FINITE, np.where(lost | (gap > 0), Status.UNSETTLED, Status.SETTLED))
    return Difference(
        np.where(lost, np.nan, value).reshape(shape),
        np.where(lost, np.inf, bound + gap).reshape(shape),
        status.astype(np.uint8).reshape(shape),
        evaluations,
    )
