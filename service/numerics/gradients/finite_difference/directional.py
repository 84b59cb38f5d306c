"""Differences along random directions of whole tensors.

A tensor x becomes x + u sum_j t_j d_j, with t at 0: the loss is differenced by t as by any other tensor, and its
gradient there is u (d_j . g), j = 1 ... k. So a direction costs what an element costs, however many elements the tensor
has, and steps, bounds, noise and kinks are those of the engine. The unit u is that of the tensor's largest element, or
1: the engine looks for a step of t near 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.difference import Difference, DifferenceStatus
from service.numerics.gradients.finite_difference.difference_plan import DifferencePlan
from service.numerics.gradients.finite_difference.engine import DifferenceProgress, differentiate_numerically
from service.numerics.gradients.finite_difference.method import ADAPTIVE_METHOD, DifferenceMethod
from service.numerics.model.graph import Graph, Node
from service.numerics.ops.directional_move import DirectionalMove


class DirectionalPlan(DifferencePlan):
    """A plan by which everything is moved in all that reads it: nothing is handed back, element by element."""

    def _linear_readers(self, name: str) -> list[tuple[Node, int]]:
        return []


@dataclass(frozen=True)
class MovedModel:
    """A model with moves for some of its tensors and nodes.

    Attributes
    ----------
    graph
        The model.
    moves
        Name of the leaf of moves, (k,), of each tensor or node.
    """

    graph: Graph
    move_names: Mapping[str, str]


def add_direction_inputs(
    graph: Graph, directions: Mapping[str, Array], units: Mapping[str, float] | None = None
) -> MovedModel:
    """Let tensors and nodes of a model move along directions, (k, *shape), by name, in units that are 1 by default."""
    units = units or {}
    moves = {name: _make_unused_name(f"{name} moves", graph) for name in directions}
    ends = {name: _make_unused_name(f"{name} moved", graph) for name in directions}
    added = [
        Node(ends[name], DirectionalMove(directions=along, unit=units.get(name, 1.0)), (name, moves[name]))
        for name, along in directions.items()
    ]
    nodes = [
        replace(node, operands=tuple(ends.get(each, each) if isinstance(each, str) else each for each in node.operands))
        for node in graph.nodes
    ]
    computed = {node.name for node in graph.nodes}
    leaves = {name: shape for name, shape in graph.shapes.items() if name not in computed}
    lengths: dict[str, Shape] = {moves[name]: (len(along),) for name, along in directions.items()}
    return MovedModel(Graph([*added, *nodes], leaves | lengths, graph.leaf_kinds), moves)


def _make_unused_name(name: str, graph: Graph) -> str:
    while name in graph.shapes:
        name += "'"
    return name


def plan_directional_differences(
    graph: Graph,
    leaves: Mapping[str, Array],
    names: Sequence[str],
    count: int,
    method: DifferenceMethod = ADAPTIVE_METHOD,
) -> DifferencePlan:
    """Plan the differences along `count` directions of each of the names, which need not have been drawn."""
    nothing = np.float64(0)
    shapeless = add_direction_inputs(
        graph, {name: np.broadcast_to(nothing, (count, *graph.shapes[name])) for name in names}
    )
    given = {**leaves, **{each: np.broadcast_to(nothing, (1, count)) for each in shapeless.move_names.values()}}
    return DirectionalPlan(shapeless.graph, given, list(shapeless.move_names.values()), method)


def differentiate_along_directions(
    graph: Graph,
    leaves: Mapping[str, Array],
    directions: Mapping[str, Array],
    method: DifferenceMethod = ADAPTIVE_METHOD,
    seed: int = 0,
    progress: DifferenceProgress | None = None,
    plan: DifferencePlan | None = None,
) -> dict[str, Difference]:
    """Difference the loss along directions.

    Parameters
    ----------
    graph, leaves, method, seed, progress
        As of `differentiate`.
    directions
        Of each tensor, weight or node, (k, *shape).
    plan
        Of so many directions of the same names, where it has been made already.

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
    at_rest = {model.move_names[name]: np.zeros((1, len(along))) for name, along in directions.items()}
    names, given = list(model.move_names.values()), {**leaves, **at_rest}
    plan = plan or DirectionalPlan(model.graph, given, names, method)
    told = None if progress is None else _report_original_names(progress, model.move_names)
    found = differentiate_numerically(model.graph, given, names, method, seed, told, plan=plan)
    return {name: _rescale_difference(found[model.move_names[name]], 1 / units[name]) for name in directions}


def make_unexamined_difference(shape: Shape, evaluations: int) -> Difference:
    """What is known of single elements where a tensor was moved as a whole."""
    unknown = np.full(shape, np.nan)
    status = np.full(shape, DifferenceStatus.NOT_EXAMINED, np.uint8)
    return Difference(unknown, np.full(shape, np.inf), status, evaluations, np.full(shape, np.inf), unknown)


def _choose_direction_unit(value: Array) -> float:
    """Power of two next to the largest element, 1 at least, at which the engine begins to look for a step."""
    largest = float(np.abs(value).max(initial=0, where=np.isfinite(value)))
    return max(1.0, 2.0 ** np.floor(np.log2(largest))) if largest > 0 else 1.0


def _rescale_difference(difference: Difference, factor: float) -> Difference:
    """Quotients of what was moved in other units; a power of two rounds nothing."""

    def sized(array: Array | None) -> Any:
        return None if array is None else array * factor

    return replace(
        difference,
        value=difference.value * factor,
        error_bound=difference.error_bound * factor,
        rounding_error=difference.rounding_error * factor,
        steps=difference.steps / factor,
        left_derivative=sized(difference.left_derivative),
        right_derivative=sized(difference.right_derivative),
    )


def _report_original_names(progress: DifferenceProgress, moves: Mapping[str, str]) -> DifferenceProgress:
    """Tell of a tensor by its own name."""
    names = {move: name for name, move in moves.items()}

    def told(name: str, done: int, total: int) -> None:
        progress(names.get(name, name), done, total)

    return told
