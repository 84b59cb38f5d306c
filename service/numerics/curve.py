"""The V-curve of one element: what naive differences of the whole loss say of its derivative, step by step.

No care is taken here, on purpose: the loss is evaluated whole, in float64, at x + h as the sum is represented, and the
difference is divided by h as it is given. So the error falls with the step (as h for the forward difference, as h^2
for the central one) until the rounding of the loss, divided by h, takes over. The complex step subtracts nothing, and
so has no such other side.

Source of the complex step: Squire and Trapp, SIAM Review 40 (1998) 110-112.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.graph import Graph
from service.numerics.ops.continued import imaginary
from service.numerics.ops.op import CALL
from service.numerics.tiles import Array, repeated, size

_DECADES = [float(f"1e{exponent}") for exponent in range(-16, 0)]
_WITHIN = 10 ** (np.arange(4) / 4)

STEPS = np.append(np.multiply.outer(_DECADES, _WITHIN), 1.0)
"""From 1e-16 to 1, ascending, four to a decade; every power of ten is one of them."""

_TILE_ELEMENTS = 2**18
"""Elements that the evaluations of one pass may hold together, where one alone holds no more."""
_NUMBER = 8
_TEMPORARY = 1
"""Times the elements of one pass that its ops make on their way."""
_OF_COMPLEX = 4
"""Real products in a complex one."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Curve:
    """Differences of the loss for one element, each (steps,); what is not finite is left so.

    Attributes
    ----------
    steps
        h.
    forward, central
        (f(x + h) - f(x)) / h and (f(x + h) - f(x - h)) / (2 h).
    complex_step
        Im f(x + i h) / h; None where an op on the way to the loss is not analytic.
    """

    steps: Array
    forward: Array
    central: Array
    complex_step: Array | None

    @property
    def evaluations(self) -> int:
        """How many of the loss it took."""
        return 1 + (2 if self.complex_step is None else 3) * self.steps.size


def curve(
    graph: Graph, leaves: Mapping[str, Array], name: str, element: int, progress: Progress | None = None
) -> Curve:
    """Difference the loss by one element with every step.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    name
        A tensor, weight or node.
    element
        Flat index into it.
    progress
        Called with the name, and how many of how many evaluations are done, before each pass.
    """
    with np.errstate(all="ignore"):
        line = _Line(graph, leaves, name, element, progress)
        # The point itself is evaluated beside the others, so that what does not move it does not move the loss.
        losses = line.losses(np.concatenate([[0.0], STEPS, -STEPS]))
        here, right, left = np.split(losses, [1, 1 + STEPS.size])
        forward, central = (right - here) / STEPS, (right - left) / (2 * STEPS)
        return Curve(STEPS, forward, central, _complex_step(line, here) if is_analytic(graph, name) else None)


def is_analytic(graph: Graph, name: str) -> bool:
    """Whether a complex step from a tensor or node comes through to the loss."""
    return all(node.op.analytic for node in graph.downstream([name]))


def work(graph: Graph, name: str) -> int:
    """Multiply-adds that a curve takes, about."""
    cost = graph.cost(graph.downstream([name]))
    # Real ones and complex ones, each as many in one pass as fit.
    parts = [(1 + 2 * STEPS.size, 1)] + [(STEPS.size, _OF_COMPLEX)] * is_analytic(graph, name)
    together = max(1, _TILE_ELEMENTS // max(1, cost.elements))
    return sum(count * each * cost.work + -(-count // together) * CALL * cost.calls for count, each in parts)


def bytes_of(graph: Graph, name: str) -> int:
    """Bytes that a curve takes at most: every value at the point, and those of one pass, which may be complex."""
    passing = _elements(graph, name) * max(1, _TILE_ELEMENTS // _elements(graph, name))
    return _NUMBER * (graph.cost().elements + 2 * (1 + _TEMPORARY) * passing)


def _elements(graph: Graph, name: str) -> int:
    """Elements of one evaluation: of what moves, and all that is downstream."""
    return graph.cost(graph.downstream([name])).elements + size(graph.shapes[name])


def _complex_step(line: "_Line", here: Array) -> Array:
    # A logarithm of a negative number is a number here: where the real loss is none, neither is its derivative.
    return np.where(np.isfinite(here), imaginary(line.losses(1j * STEPS)) / STEPS, np.nan)


class _Line:
    """The loss along one coordinate."""

    def __init__(
        self, graph: Graph, leaves: Mapping[str, Array], name: str, element: int, progress: Progress | None
    ) -> None:
        self._graph = graph
        self._base = graph.forward(leaves)
        self._name = name
        self._element = element
        self._progress = progress
        self._length = max(1, _TILE_ELEMENTS // _elements(graph, name))

    def losses(self, moves: Array) -> Array:
        """Loss at the point with the element moved by each of the moves, real or complex, (moves,)."""
        return np.concatenate([self._pass(part) for part in self._parts(moves)])

    def _parts(self, moves: Array) -> Iterator[Array]:
        for start in range(0, len(moves), self._length):
            if self._progress is not None:
                self._progress(self._name, start, len(moves))
            yield moves[start : start + self._length]

    def _pass(self, moves: Array) -> Array:
        point = self._base[self._name]
        moved = np.repeat(point, len(moves), axis=0).astype(np.result_type(point, moves), copy=False)
        moved.reshape(len(moves), -1)[:, self._element] += moves
        loss = self._graph.resume(self._base, {self._name: moved})[self._graph.loss]
        return repeated(loss.reshape(len(loss), 1), len(moves))[:, 0]
