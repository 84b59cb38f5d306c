"""Finite differences of the loss, term by term, with a bound for each element.

The difference is taken of the terms whose sum the loss is, and summed after: the rounding of the sum never enters.
Steps are powers of two, divided by as represented. Elements of one colour share an evaluation; the evaluations of a
tile run in one pass behind its tile axis, from the perturbed tensor on.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from service.numerics.gradients.finite_difference.colouring import coloured
from service.numerics.gradients.finite_difference.difference import Difference, Status
from service.numerics.gradients.finite_difference.method import ADAPTIVE, Method
from service.numerics.gradients.finite_difference.noise import NoiseMeter
from service.numerics.gradients.finite_difference.step import scale
from service.numerics.gradients.finite_difference.suffix import Suffix
from service.numerics.graph import Graph, Values
from service.numerics.tiles import Array

_TILE_ELEMENTS = 2**15
_UNIT_ROUNDOFF = 2.0**-53
_SPACING_OF_ZERO = 2.0**-1072
"""Four times the smallest number: what the difference of two terms may lose below the normal numbers."""
_TIGHT = 2.0**-33
"""Bound, as a part of the largest element, below which no further rung is tried."""
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
        results[name] = _Tensor(graph, base, name, method, generator).difference(meter, progress)
    return results


def evaluations(method: Method, colours: int) -> int:
    """Evaluations of the loss that differencing a tensor of so many colours takes, further rungs aside."""
    return len(method.offsets) * method.levels * colours


class _Noise:
    """Noise of the terms, as a part of the largest, whose squares neither overflow nor underflow."""

    def __init__(self, of_terms: Array, scale: float) -> None:
        self.scale = scale
        self.unit = float(of_terms.max(initial=0))
        self.squares = np.square(of_terms / self.unit) if 0 < self.unit < np.inf else np.ones_like(of_terms)


class _Tensor:
    """The differences with respect to one tensor or node."""

    def __init__(self, graph: Graph, base: Values, name: str, method: Method, generator: np.random.Generator) -> None:
        self.point = base[name][0]
        self.name = name
        self.method = method
        self.suffix = Suffix(graph, base, name)
        self.reach = scale(self.suffix, base, generator)
        self.colouring = coloured(graph, base, name)
        # The reach is that of all elements moving at once, whose moves add up in a unit as random ones do.
        self.stride = self.reach * 2.0 ** np.floor(np.log2(self.colouring.together) / 2)
        self.evaluations = 0

    def difference(self, meter: NoiseMeter, progress: Progress | None) -> Difference:
        """Difference all elements on the first rung, those it leaves loose on more, and take the best of each."""

        def rung(fraction: float, elements: Any) -> tuple[Array, Array]:
            steps = (self.method.step or self.stride) * fraction * 2.0 ** -np.arange(self.method.levels)
            noise = meter.measure(self.name, self.method.offsets, steps[0], self.suffix.exact)
            return self._reduced(steps, _Noise(noise, meter.scale), elements, progress)

        found = [rung(self.method.rungs[0], np.arange(self.point.size))]
        for more, wanted in ((self.method.rungs[1:], _loose), (self.method.restarts, _lost)):
            for fraction in more:
                elements = wanted(*_stacked(found))
                if elements.size:
                    found.append(rung(fraction, elements))
        return _best(*_stacked(found), self.point.shape, self.evaluations)

    def _reduced(self, steps: Array, noise: _Noise, elements: Array, progress: Progress | None) -> tuple[Array, Array]:
        """Values and bounds of the elements, and of all that have their colours; NaN and infinite elsewhere."""
        quotients, floors = np.full((2, len(steps), self.point.size), np.nan)
        widths = self._widths(steps)
        colours = np.unique(self.colouring.of_elements.ravel()[elements])
        total = self.evaluations + evaluations(self.method, colours.size)
        for chunk in self._chunks(colours, len(steps)):
            if progress is not None:
                progress(self.name, self.evaluations, total)
            which = self.colouring.members(chunk)
            quotients[:, which], floors[:, which] = self._quotients(chunk, steps, noise, widths, which)
        values, bounds = self.method.reduce(quotients, floors)
        # Where everything saturates, the quotients shrink with the step as those of a smooth function do with h^2.
        known = np.isfinite(values) & np.isfinite(bounds) & (steps[0] <= _MOST_OF_REACH * self.reach)
        return np.where(known, values, np.nan), np.where(known, bounds, np.inf)

    def _widths(self, steps: Array) -> Array:
        """Distances between the two points of each element, as represented, (levels, elements); NaN if none is left."""
        moves = np.multiply.outer(steps, self.method.offsets)[:, :, None]
        if self.suffix.exact:
            return np.broadcast_to(moves[:, 0] - moves[:, 1], (len(steps), self.point.size))
        moved = self.point.ravel() + moves
        widths = moved[:, 0] - moved[:, 1]
        return np.where(np.abs(widths) >= 2 * np.spacing(np.abs(moved).max(axis=1)), widths, np.nan)

    def _chunks(self, colours: Array, levels: int) -> Iterator[Array]:
        """Colours whose evaluations fit into one tile."""
        length = max(1, _TILE_ELEMENTS // (levels * len(self.method.offsets) * self.suffix.widest))
        return (colours[start : start + length] for start in range(0, colours.size, length))

    def _quotients(
        self, colours: Array, steps: Array, noise: _Noise, widths: Array, which: Array
    ) -> tuple[Array, Array]:
        """Difference quotients of elements `which` and the floors under them, each (levels, elements)."""
        felt = self.colouring.felt(colours)
        differences = self._differences(colours, steps)
        terms = differences.shape[-1]
        sums = self._summed(felt, differences)[:, which]
        absolutes = self._summed(felt, np.abs(differences[:, :1]))[:, which]
        squares = np.broadcast_to(noise.squares, (len(colours), 1, terms))
        lengths = np.abs(widths[:, which])
        of_noise = np.sqrt(self._summed(felt, squares)[:, which]) * (noise.unit / lengths) * noise.scale
        # The differences shrink with the steps, and so does the rounding of their sum; what underflows does not.
        summation = (2 + np.log2(terms)) * _UNIT_ROUNDOFF * absolutes * (steps / steps[0])[:, None]
        return sums / widths[:, which], of_noise + summation / lengths + _SPACING_OF_ZERO * terms / lengths

    def _differences(self, colours: Array, steps: Array) -> Array:
        """Differences of the terms, (colours, levels, terms)."""
        self.evaluations += len(colours) * len(steps) * len(self.method.offsets)
        directions = self.colouring.directions(colours)
        responses = self.suffix.responses(directions.reshape(-1, *self.point.shape))
        moves = np.multiply.outer(steps, self.method.offsets)
        fitting = max(1, _TILE_ELEMENTS // (len(colours) * moves.shape[1] * self.suffix.widest))
        parts = [
            self.suffix.terms(responses, moves[start : start + fitting].ravel())
            for start in range(0, len(moves), fitting)
        ]
        terms = np.concatenate(parts, axis=1).reshape(len(colours), *moves.shape, -1)
        return terms[:, :, 0] - terms[:, :, 1]

    def _summed(self, felt: Array, of_terms: Array) -> Array:
        """Sums over the terms that each element is felt by, of (colours, rows, terms): (rows, elements)."""
        count = self.point.size
        flat = felt.ravel()
        rows = [np.bincount(flat, np.ascontiguousarray(row).ravel(), count + 1) for row in of_terms.swapaxes(0, 1)]
        return np.array(rows)[:, :count]


def _stacked(found: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    values, bounds = zip(*found, strict=True)
    return np.stack(values), np.stack(bounds)


def _lost(values: Array, bounds: Array) -> Array:
    """Elements that no rung gave a bound; values and bounds are (rungs, elements)."""
    return np.flatnonzero(~np.isfinite(bounds).any(axis=0))


def _loose(values: Array, bounds: Array) -> Array:
    """Elements whose bound is worth narrowing."""
    largest = np.abs(values[np.isfinite(bounds)]).max(initial=0)
    return np.flatnonzero(~(bounds.min(axis=0) <= _TIGHT * largest))


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
