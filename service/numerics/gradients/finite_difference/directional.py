"""Differences along random directions of whole tensors.

A tensor x becomes x + u sum_j t_j d_j, with t at 0. The loss is differenced by t as by any other tensor, and its
gradient there is u (d_j . g), j = 1 ... k. So a direction costs as much as an element, however many elements the tensor
has, and steps, bounds, noise and kinks are those of the engine. The unit u is that of the tensor's largest element, or
1: the engine looks for a step of t near 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.difference import Difference, DifferenceProgress, DifferenceStatus
from service.numerics.gradients.finite_difference.difference_plan import DifferencePlan
from service.numerics.gradients.finite_difference.engine import differentiate_numerically
from service.numerics.gradients.finite_difference.method import ADAPTIVE_METHOD, DifferenceMethod
from service.numerics.gradients.finite_difference.moved_model import add_direction_inputs
from service.numerics.model.graph import Graph, Node


class DirectionalPlan(DifferencePlan):
    """A plan that moves every name in all its readers.

    No reader hands quotients back, element by element.
    """

    def _find_linear_readers(self, name: str) -> list[tuple[Node, int]]:
        return []


def plan_directional_differences(
    graph: Graph,
    leaves: Mapping[str, Array],
    names: Sequence[str],
    count: int,
    method: DifferenceMethod = ADAPTIVE_METHOD,
) -> DifferencePlan:
    """Return the plan of the differences along `count` directions of each name.

    The directions need not have been drawn.
    """
    zero = np.float64(0)
    model = add_direction_inputs(graph, {name: np.broadcast_to(zero, (count, *graph.shapes[name])) for name in names})
    all_leaves = {**leaves, **{move_name: np.broadcast_to(zero, (1, count)) for move_name in model.move_names.values()}}
    return DirectionalPlan(model.graph, all_leaves, list(model.move_names.values()), method)


def differentiate_along_directions(
    graph: Graph,
    leaves: Mapping[str, Array],
    directions: Mapping[str, Array],
    method: DifferenceMethod = ADAPTIVE_METHOD,
    seed: int = 0,
    progress: DifferenceProgress | None = None,
    plan: DifferencePlan | None = None,
) -> dict[str, Difference]:
    """Return the differences of the loss along directions.

    Parameters
    ----------
    graph, leaves, method, seed, progress
        Parameters of `differentiate_numerically`.
    directions
        Directions of each tensor, weight or node, (k, *shape).
    plan
        Plan of as many directions of the same names; made anew by default.

    Returns
    -------
    dict[str, Difference]
        Inner products of the gradient with each of the directions, (k,), by name.
    """
    with np.errstate(all="ignore"):
        values = graph.forward(leaves)
    units = {
        name: 1.0 if method.given_step is not None else _choose_direction_unit(values[name]) for name in directions
    }
    model = add_direction_inputs(graph, directions, units)
    moves_at_rest = {
        model.move_names[name]: np.zeros((1, len(tensor_directions))) for name, tensor_directions in directions.items()
    }
    names, all_leaves = list(model.move_names.values()), {**leaves, **moves_at_rest}
    plan = plan or DirectionalPlan(model.graph, all_leaves, names, method)
    translated_progress = None if progress is None else _report_original_names(progress, model.move_names)
    differences = differentiate_numerically(
        model.graph, all_leaves, names, method, seed, translated_progress, plan=plan
    )
    return {name: _rescale_difference(differences[model.move_names[name]], 1 / units[name]) for name in directions}


def make_unexamined_difference(shape: Shape, evaluations: int) -> Difference:
    """Return the difference of elements that were moved only as a whole tensor.

    Its arrays take no memory: each is a view of one number.
    """
    unknown, unbounded, status = _repeat_unexamined_numbers(shape)
    return Difference(unknown, unbounded, status, evaluations, unbounded, unknown, is_unexamined=True)


@lru_cache(maxsize=256)
def _repeat_unexamined_numbers(shape: Shape) -> tuple[Array, Array, Array]:
    """Return NaN, infinity and the status of elements that were not examined, of some shape and read-only."""
    status = np.uint8(DifferenceStatus.NOT_EXAMINED)
    return np.broadcast_to(np.nan, shape), np.broadcast_to(np.inf, shape), np.broadcast_to(status, shape)


def _choose_direction_unit(value: Array) -> float:
    """Return the power of two next to the largest element, 1 at least.

    The engine begins to look for a step there.
    """
    largest = float(np.abs(value).max(initial=0, where=np.isfinite(value)))
    return max(1.0, 2.0 ** np.floor(np.log2(largest))) if largest > 0 else 1.0


def _rescale_difference(difference: Difference, factor: float) -> Difference:
    """Return a difference in other units of the moves.

    The factor is a power of two, which rounds nothing.
    """

    def rescale(array: Array | None) -> Any:
        return None if array is None else array * factor

    return replace(
        difference,
        value=difference.value * factor,
        error_bound=difference.error_bound * factor,
        rounding_error=difference.rounding_error * factor,
        steps=difference.steps / factor,
        left_derivative=rescale(difference.left_derivative),
        right_derivative=rescale(difference.right_derivative),
    )


def _report_original_names(progress: DifferenceProgress, moves: Mapping[str, str]) -> DifferenceProgress:
    """Return a progress callback that names a tensor by its own name."""
    original_names = {move: name for name, move in moves.items()}

    def report_by_name(name: str, done: int, total: int) -> None:
        progress(original_names.get(name, name), done, total)

    return report_by_name
