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

from service.numerics.gradients.finite_difference.difference import Difference, Status
from service.numerics.gradients.finite_difference.engine import Progress, differentiate
from service.numerics.gradients.finite_difference.method import ADAPTIVE, Method
from service.numerics.gradients.finite_difference.plan import Plan
from service.numerics.graph import Graph, Node
from service.numerics.ops.along import Along
from service.numerics.tiles import Array, Shape


class DirectPlan(Plan):
    """A plan by which everything is moved in all that reads it: nothing is handed back, element by element."""

    def _linear(self, name: str) -> list[tuple[Node, int]]:
        return []


@dataclass(frozen=True)
class Moved:
    """A model with moves for some of its tensors and nodes.

    Attributes
    ----------
    graph
        The model.
    moves
        Name of the leaf of moves, (k,), of each tensor or node.
    """

    graph: Graph
    moves: Mapping[str, str]


def moved(graph: Graph, directions: Mapping[str, Array], units: Mapping[str, float] | None = None) -> Moved:
    """Let tensors and nodes of a model move along directions, (k, *shape), by name, in units that are 1 by default."""
    units = units or {}
    moves = {name: _new(f"{name} moves", graph) for name in directions}
    ends = {name: _new(f"{name} moved", graph) for name in directions}
    added = [
        Node(ends[name], Along(directions=along, unit=units.get(name, 1.0)), (name, moves[name]))
        for name, along in directions.items()
    ]
    nodes = [
        replace(node, operands=tuple(ends.get(each, each) if isinstance(each, str) else each for each in node.operands))
        for node in graph.nodes
    ]
    computed = {node.name for node in graph.nodes}
    leaves = {name: shape for name, shape in graph.shapes.items() if name not in computed}
    lengths: dict[str, Shape] = {moves[name]: (len(along),) for name, along in directions.items()}
    return Moved(Graph([*added, *nodes], leaves | lengths, graph.kinds), moves)


def _new(name: str, graph: Graph) -> str:
    while name in graph.shapes:
        name += "'"
    return name


def planned_along(
    graph: Graph, leaves: Mapping[str, Array], names: Sequence[str], count: int, method: Method = ADAPTIVE
) -> Plan:
    """Plan the differences along `count` directions of each of the names, which need not have been drawn."""
    nothing = np.float64(0)
    shapeless = moved(graph, {name: np.broadcast_to(nothing, (count, *graph.shapes[name])) for name in names})
    given = {**leaves, **{each: np.broadcast_to(nothing, (1, count)) for each in shapeless.moves.values()}}
    return DirectPlan(shapeless.graph, given, list(shapeless.moves.values()), method)


def differentiate_along(
    graph: Graph,
    leaves: Mapping[str, Array],
    directions: Mapping[str, Array],
    method: Method = ADAPTIVE,
    seed: int = 0,
    progress: Progress | None = None,
    plan: Plan | None = None,
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
    units = {name: 1.0 if method.step is not None else _unit(values[name]) for name in directions}
    model = moved(graph, directions, units)
    at_rest = {model.moves[name]: np.zeros((1, len(along))) for name, along in directions.items()}
    names, given = list(model.moves.values()), {**leaves, **at_rest}
    plan = plan or DirectPlan(model.graph, given, names, method)
    told = None if progress is None else _told(progress, model.moves)
    found = differentiate(model.graph, given, names, method, seed, told, plan=plan)
    return {name: _in_units(found[model.moves[name]], 1 / units[name]) for name in directions}


def nothing_by_element(shape: Shape, evaluations: int) -> Difference:
    """What is known of single elements where a tensor was moved as a whole."""
    unknown = np.full(shape, np.nan)
    status = np.full(shape, Status.NOT_EXAMINED, np.uint8)
    return Difference(unknown, np.full(shape, np.inf), status, evaluations, np.full(shape, np.inf), unknown)


def _unit(value: Array) -> float:
    """Power of two next to the largest element, 1 at least, at which the engine begins to look for a step."""
    largest = float(np.abs(value).max(initial=0, where=np.isfinite(value)))
    return max(1.0, 2.0 ** np.floor(np.log2(largest))) if largest > 0 else 1.0


def _in_units(found: Difference, factor: float) -> Difference:
    """Quotients of what was moved in other units; a power of two rounds nothing."""

    def sized(array: Array | None) -> Any:
        return None if array is None else array * factor

    return replace(
        found,
        value=found.value * factor,
        error_bound=found.error_bound * factor,
        rounding=found.rounding * factor,
        steps=found.steps / factor,
        left=sized(found.left),
        right=sized(found.right),
    )


def _told(progress: Progress, moves: Mapping[str, str]) -> Progress:
    """Tell of a tensor by its own name."""
    names = {move: name for name, move in moves.items()}

    def told(name: str, done: int, total: int) -> None:
        progress(names.get(name, name), done, total)

    return told
