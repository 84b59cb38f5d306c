"""Finite differences of the loss, term by term, with a bound for each element.

The difference is taken of the terms whose sum the loss is, and summed after: the rounding of the sum never enters.
Steps are powers of two, divided by as represented. All evaluations of a tile run in one pass behind its tile axis,
from the perturbed tensor on.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from service.numerics.gradients.finite_difference.difference import Difference, Status
from service.numerics.gradients.finite_difference.method import ADAPTIVE, Method
from service.numerics.gradients.finite_difference.noise import NoiseMeter
from service.numerics.gradients.finite_difference.step import scale
from service.numerics.graph import Graph, Values
from service.numerics.tiles import Array, size

_TILE_ELEMENTS = 2**17
_UNIT_ROUNDOFF = 2.0**-53


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
    generator = np.random.default_rng([seed, 0xFD])
    base = graph.forward(leaves)
    meter = NoiseMeter(graph, leaves, generator)
    results: dict[str, Difference] = {}
    for name in names:
        unit = method.step or scale(graph, base, name, generator)
        steps = unit * method.steps
        noise = meter.measure(name, method.offsets, steps[:, 0])
        quotients, floors = _quotients(graph, base, name, method.offsets, steps, noise, progress)
        results[name] = _combined(method, quotients, floors, base[name].shape[1:])
    return results


def evaluations(method: Method, elements: int) -> int:
    """Evaluations of the loss that differencing a tensor of so many elements takes."""
    return len(method.offsets) * method.steps.size * elements


def _quotients(
    graph: Graph,
    base: Values,
    name: str,
    offsets: tuple[float, float],
    steps: Array,
    noise: Array,
    progress: Progress | None,
) -> tuple[Array, Array]:
    """Difference quotients and the floors under them, each (rungs, levels, elements)."""
    elements = base[name].size
    quotients = np.empty((*steps.shape, elements))
    floors = np.empty_like(quotients)
    per_element = len(offsets) * steps.size
    total = per_element * elements
    for chunk in _chunks(graph, name, elements, per_element):
        if progress is not None:
            progress(name, per_element * chunk.start, total)
        terms, widths = _evaluated(graph, base, name, offsets, steps.ravel(), chunk)
        differences = terms[:, :, 0] - terms[:, :, 1]
        summed = differences.sum(axis=-1)
        summation = (2 + np.log2(differences.shape[-1])) * _UNIT_ROUNDOFF * np.abs(differences).sum(axis=-1)
        of_noise = np.repeat(noise, steps.shape[1])[:, None]
        shape = (*steps.shape, widths.shape[1])
        quotients[:, :, chunk] = (summed / widths).reshape(shape)
        floors[:, :, chunk] = ((of_noise + summation) / widths).reshape(shape)
    return quotients, floors


def _chunks(graph: Graph, name: str, elements: int, per_element: int) -> Iterator[slice]:
    """Elements whose evaluations fit into one tile."""
    involved = [name, *(node.name for node in graph.downstream([name]))]
    widest = max(size(graph.shapes[each]) for each in involved)
    length = max(1, _TILE_ELEMENTS // (per_element * widest))
    return (slice(start, min(start + length, elements)) for start in range(0, elements, length))


def _evaluated(
    graph: Graph, base: Values, name: str, offsets: tuple[float, float], steps: Array, chunk: slice
) -> tuple[Array, Array]:
    """Terms, (steps, elements, 2, terms), and the distances as represented, (steps, elements); NaN if none is left."""
    point = base[name]
    which = np.arange(chunk.start, chunk.stop, dtype=np.intp)
    moved = point.ravel()[which][:, None] + np.multiply.outer(steps, offsets)[:, None, :]
    widths = moved[..., 0] - moved[..., 1]
    widths = np.where(np.abs(widths) >= 2 * np.spacing(np.abs(moved).max(axis=-1)), widths, np.nan)
    tile = np.repeat(point.reshape(1, -1), moved.size, axis=0)
    tile[np.arange(moved.size), np.broadcast_to(which[:, None], moved.shape).ravel()] = moved.ravel()
    values = graph.resume(base, {name: tile.reshape(-1, *point.shape[1:])})
    return graph.terms(values).reshape(*moved.shape, -1), widths


def _combined(method: Method, quotients: Array, floors: Array, shape: tuple[int, ...]) -> Difference:
    """Reduce each rung to a value and a bound, and take the best rung for each element."""
    reduced = [method.reduce(*rung) for rung in zip(quotients, floors, strict=True)]
    values, bounds = (np.stack(each) for each in zip(*reduced, strict=True))
    bounds = np.where(np.isfinite(values) & np.isfinite(bounds), bounds, np.inf)
    best = np.argmin(bounds, axis=0)[None]
    value, bound = (np.take_along_axis(each, best, axis=0)[0] for each in (values, bounds))
    # Where two rungs exclude each other, one estimate was too bold, and which one is not known.
    gaps = np.where(np.isfinite(bounds), np.abs(values - value) - bounds - bound, 0)
    gap = np.maximum(0, gaps.max(axis=0))
    lost = ~np.isfinite(bound)
    finite = np.isfinite(values).any(axis=0)
    status = np.where(~finite, Status.NOT_FINITE, np.where(lost | (gap > 0), Status.UNSETTLED, Status.SETTLED))
    return Difference(
        np.where(lost, np.nan, value).reshape(shape),
        np.where(lost, np.inf, bound + gap).reshape(shape),
        status.astype(np.uint8).reshape(shape),
        evaluations(method, quotients.shape[-1]),
    )
