"""The V-curve of one element: naive differences of the whole loss, by step.

No care is taken here, on purpose: the loss is evaluated whole, in float64, at the represented sum x + h, and the
difference is divided by the nominal h. So the error falls with the step (as h for the forward difference, as h^2 for
the central one) until the rounding of the loss, divided by h, takes over. The complex step subtracts nothing, and so
has no such other side.

References
----------
For the complex step: Squire and Trapp, SIAM Review 40 (1998) 110-112.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array, broadcast_batch, count_elements
from service.numerics.model.graph import Graph
from service.numerics.ops.analytic_continuation import take_imaginary_part
from service.numerics.ops.op import WORK_PER_CALL

_DECADES = [float(f"1e{exponent}") for exponent in range(-16, 0)]
_FRACTIONS_OF_DECADE = 10 ** (np.arange(4) / 4)

CURVE_STEPS = np.append(np.multiply.outer(_DECADES, _FRACTIONS_OF_DECADE), 1.0)
"""Steps from 1e-16 to 1, ascending, four to a decade; every power of ten is one of them."""

_MAX_ELEMENTS_PER_PASS = 2**18
"""Elements that the evaluations of one pass of a curve may hold together, unless one alone holds more."""
_BYTES_PER_FLOAT = 8
_TEMPORARY_ARRAYS = 1
"""Temporary arrays of the ops, in units of the elements of one pass."""
_REAL_PRODUCTS_PER_COMPLEX = 4
"""Real products in a complex one."""

CurveProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class StepCurve:
    """Differences of the loss for one element, each (steps,), finite or not.

    Attributes
    ----------
    steps
        Steps h.
    forward, central
        (f(x + h) - f(x)) / h and (f(x + h) - f(x - h)) / (2 h).
    complex_step
        Im f(x + i h) / h; None if an op on the way to the loss is not analytic.
    """

    steps: Array
    forward: Array
    central: Array
    complex_step: Array | None

    @property
    def evaluations(self) -> int:
        """Return the number of evaluations of the loss."""
        return 1 + (2 if self.complex_step is None else 3) * self.steps.size


def compute_step_curve(
    graph: Graph, leaves: Mapping[str, Array], name: str, element: int, progress: CurveProgress | None = None
) -> StepCurve:
    """Return the differences of the loss by one element, for every step.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    name
        Name of a tensor, weight or node.
    element
        Flat index into it.
    progress
        Callback before each pass, with the name, the done and the total evaluations; none by default.
    """
    with np.errstate(all="ignore"):
        line = _LossAlongCoordinate(graph, leaves, name, element, progress)
        # The point itself is evaluated beside the others, so that a step that does not move it moves no loss.
        losses = line.evaluate_losses(np.concatenate([[0.0], CURVE_STEPS, -CURVE_STEPS]))
        loss_at_point, right, left = np.split(losses, [1, 1 + CURVE_STEPS.size])
        forward, central = (right - loss_at_point) / CURVE_STEPS, (right - left) / (2 * CURVE_STEPS)
        return StepCurve(
            CURVE_STEPS,
            forward,
            central,
            _difference_complex_step(line, loss_at_point) if supports_complex_step(graph, name) else None,
        )


def supports_complex_step(graph: Graph, name: str) -> bool:
    """Return whether a complex step from a tensor or node passes through to the loss."""
    return all(node.op.supports_complex_step for node in graph.list_downstream_nodes([name]))


def estimate_curve_work(graph: Graph, name: str) -> int:
    """Return the approximate multiply-adds of a curve."""
    cost = graph.estimate_cost(graph.list_downstream_nodes([name]))
    # Real evaluations and complex ones, each as many in one pass as fit.
    evaluation_kinds = [(1 + 2 * CURVE_STEPS.size, 1)] + [
        (CURVE_STEPS.size, _REAL_PRODUCTS_PER_COMPLEX)
    ] * supports_complex_step(graph, name)
    evaluations_per_pass = max(1, _MAX_ELEMENTS_PER_PASS // max(1, cost.largest_array))
    return sum(
        evaluations * products_per_multiply * cost.work
        + -(-evaluations // evaluations_per_pass) * WORK_PER_CALL * cost.calls
        for evaluations, products_per_multiply in evaluation_kinds
    )


def estimate_curve_bytes(graph: Graph, name: str) -> int:
    """Return the most bytes that a curve takes.

    It holds every value at the point, and those of one pass, which may be complex.
    """
    pass_elements = _count_evaluated_elements(graph, name) * max(
        1, _MAX_ELEMENTS_PER_PASS // _count_evaluated_elements(graph, name)
    )
    return _BYTES_PER_FLOAT * (graph.estimate_cost().largest_array + 2 * (1 + _TEMPORARY_ARRAYS) * pass_elements)


def _count_evaluated_elements(graph: Graph, name: str) -> int:
    """Return the elements of one evaluation, of the moved tensor and all downstream."""
    return graph.estimate_cost(graph.list_downstream_nodes([name])).largest_array + count_elements(graph.shapes[name])


def _difference_complex_step(line: "_LossAlongCoordinate", loss_at_point: Array) -> Array:
    # The complex logarithm of a negative number is a number. If the real loss is not, its derivative is not either.
    return np.where(
        np.isfinite(loss_at_point), take_imaginary_part(line.evaluate_losses(1j * CURVE_STEPS)) / CURVE_STEPS, np.nan
    )


class _LossAlongCoordinate:
    """The loss along one coordinate."""

    def __init__(
        self, graph: Graph, leaves: Mapping[str, Array], name: str, element: int, progress: CurveProgress | None
    ) -> None:
        self._graph = graph
        self._base = graph.forward(leaves)
        self._name = name
        self._element = element
        self._progress = progress
        self._moves_per_pass = max(1, _MAX_ELEMENTS_PER_PASS // _count_evaluated_elements(graph, name))

    def evaluate_losses(self, moves: Array) -> Array:
        """Return the losses, (moves,), with the element moved by each move.

        Moves are real or complex.
        """
        return np.concatenate([self._evaluate_pass(moves_of_pass) for moves_of_pass in self._evaluate_in_passes(moves)])

    def _evaluate_in_passes(self, moves: Array) -> Iterator[Array]:
        for start in range(0, len(moves), self._moves_per_pass):
            if self._progress is not None:
                self._progress(self._name, start, len(moves))
            yield moves[start : start + self._moves_per_pass]

    def _evaluate_pass(self, moves: Array) -> Array:
        point = self._base[self._name]
        moved_points = np.repeat(point, len(moves), axis=0).astype(np.result_type(point, moves), copy=False)
        moved_points.reshape(len(moves), -1)[:, self._element] += moves
        loss = self._graph.forward_downstream(self._base, {self._name: moved_points})[self._graph.loss_name]
        return broadcast_batch(loss.reshape(len(loss), 1), len(moves))[:, 0]
