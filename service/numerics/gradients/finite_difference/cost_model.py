"""Estimates of the cost of planning and differencing, before either begins.

Operations are multiply-adds, as in a plan. Bytes are the most that is held at once beside the tensors of the request.
They count the arrays that grow with the model. For a small model the estimate is too small by the memory of Python and
NumPy themselves.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from service.numerics.core.batching import MAX_TILE_ELEMENTS, Array, Shape, count_elements
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.gradients.finite_difference.difference_plan import DifferencePlan, Perturbation
from service.numerics.model.graph import Graph, Node
from service.numerics.model.monte_carlo import ROUNDING_SWEEPS
from service.numerics.ops.op import WORK_PER_CALL

_BYTES_PER_FLOAT = 8
_CALLS_PER_REACHED_NODE = 4
"""Calls of NumPy for each node that a tensor reaches, whatever its size: planning propagates labels through it."""
_WORK_PER_LABEL = 3
"""Multiply-adds that take as long as propagating one label through one element."""
_NARROW_MODEL_ELEMENTS = 2**11
"""Elements up to which moves are measured side by side, four at a time: see `noise_meter.py`."""
_BYTES_PER_REACHED_NODE, _BYTES_PER_OPERAND = 1000, 100
"""Bytes for each node that a name reaches, and for each operand of such a node, in the paths that a plan compares."""
_TEMPORARY_ARRAYS = 4
"""Temporary arrays of an op, in units of its output."""
_BYTES_PER_PRODUCT = 800
"""Bytes for each product of an op that is written out: an array of its indices, one of its factors, some at a time."""
_ROWS_PER_BLOCK = 10
"""Rows of a block of products, or of quotients, while they are summed."""
_TYPICAL_LEVELS = 3
"""Levels of a typical table."""


class DifferenceCost(NamedTuple):
    """Multiply-adds and bytes."""

    work: int
    memory_bytes: int


def estimate_planning_cost(graph: Graph, names: Sequence[str], direct: bool = False) -> DifferenceCost:
    """Return the most that planning the differences by some names takes.

    Labels go from each name, and from the names that it may follow from, through all reached nodes: two for each axis.

    Parameters
    ----------
    graph
        The model.
    names
        Names to difference by.
    direct
        True if each name is only moved; False by default.
    """
    reached_nodes = _find_reached_nodes(graph)
    names = list(dict.fromkeys(names)) if direct else _find_followed_names(graph, names)
    rows = np.array([reached_nodes[name] for name in names])
    labels = np.array([2 * max(1, len(graph.shapes[name])) for name in names])
    sizes = np.array([count_elements(graph.shapes[node.name]) for node in graph.nodes], dtype=np.float64)
    name_sizes = np.array([count_elements(graph.shapes[name]) for name in names])
    elements_through = np.array(graph.count_propagation_elements(), dtype=np.float64)
    work = (
        _WORK_PER_LABEL * labels @ (rows @ elements_through + name_sizes)
        + _CALLS_PER_REACHED_NODE * WORK_PER_CALL * rows.sum()
    )
    operands = np.array([len(node.operands) for node in graph.nodes])
    # Each name keeps the ends of the box of elements that each term feels.
    kept_bytes = (
        _BYTES_PER_REACHED_NODE * rows.sum()
        + _BYTES_PER_OPERAND * (rows @ operands).sum()
        + _BYTES_PER_FLOAT * labels.sum() * _count_terms(graph)
    )
    return DifferenceCost(
        int(work), int(1.5 * _BYTES_PER_FLOAT * (labels * (rows @ sizes + name_sizes)).max(initial=0) + kept_bytes)
    )


_COST_BY_PLAN: WeakKeyDictionary[DifferencePlan, DifferenceCost] = WeakKeyDictionary()
"""Costs of the plans that are alive."""


def estimate_cost(plan: DifferencePlan) -> DifferenceCost:
    """Return the cost of a first level: bytes at most, and operations at least."""
    if plan not in _COST_BY_PLAN:
        _COST_BY_PLAN[plan] = _compute_cost(plan)
    return _COST_BY_PLAN[plan]


def _compute_cost(plan: DifferencePlan) -> DifferenceCost:
    """Return the sum of everything that is counted.

    Memory holds at once every value, and its perturbed twins in the sweeps of the rounding model; the box of the
    elements that each term feels; the quotients of all names and the tables of the requested ones; and the values of
    one tile, or of the sweeps that measure its noise.
    """
    graph, shapes = plan.graph, plan.graph.shapes
    paths = [plan.get_path(name) for name in plan.find_needed_names(plan.names)]
    perturbations = [path.perturbation for path in paths if path.perturbation is not None]
    values = sum(count_elements(shapes[node.name]) for node in graph.nodes)
    levels = plan.method.step_count
    quotients = sum(count_elements(shapes[path.name]) for path in paths) * (levels + 2)
    tables = sum(count_elements(shapes[name]) for name in plan.names) * 4 * _TYPICAL_LEVELS
    largest = max(count_elements(shapes[path.name]) for path in paths)
    boxes = sum(_count_colouring_numbers(perturbation) for perturbation in perturbations)
    path_bytes = sum(
        _BYTES_PER_REACHED_NODE + _BYTES_PER_OPERAND * len(node.operands)
        for perturbation in perturbations
        for node in perturbation.downstream.nodes
    )
    product_bytes = _BYTES_PER_PRODUCT * max(
        (pullback.product_count for path in paths for pullback in path.pullbacks), default=0
    )
    blocks = _ROWS_PER_BLOCK * max(MAX_TILE_ELEMENTS, largest) * (1 + any(path.pullbacks for path in paths))
    evaluated_elements = max(
        (_count_evaluated_elements(perturbation, shapes) for perturbation in perturbations), default=0
    )
    floats = (ROUNDING_SWEEPS + 2) * values + quotients + tables + boxes + blocks + evaluated_elements
    return DifferenceCost(plan.first_level_work, _BYTES_PER_FLOAT * floats + path_bytes + product_bytes)


def _count_colouring_numbers(perturbation: Perturbation) -> int:
    """Return the numbers of a colouring: felt elements, their noise and colours."""
    colouring = perturbation.colouring
    return 2 * colouring.lowest_felt.size + 2 * colouring.lowest_felt.shape[-1] + count_elements(colouring.shape)


def _count_terms(graph: Graph) -> int:
    """Return the largest number of terms whose sum the loss is.

    They belong to the chain of ops of one element that ends in the loss.
    """
    nodes = {node.name: node for node in graph.nodes}
    terms, pending, seen_names = 0, [graph.loss_name], {graph.loss_name}
    while pending:
        node = nodes[pending.pop()]
        sources = [name for name in node.source_names if name in nodes and count_elements(graph.shapes[name]) == 1]
        terms += graph.estimate_cost([node]).largest_array if node.op.ends_in_sum else 1
        pending += [name for name in sources if name not in seen_names]
        seen_names.update(sources)
    return terms


def _count_evaluated_elements(perturbation: Perturbation, shapes: dict[str, Shape]) -> int:
    """Return the elements held while a tile is evaluated, or its noise measured."""
    downstream = perturbation.downstream
    values_elements = (
        sum(count_elements(shapes[node.name]) for node in downstream.nodes)
        + _TEMPORARY_ARRAYS * downstream.widest_array
    )
    noise_elements = (
        (ROUNDING_SWEEPS + 1) * values_elements * (4 if downstream.widest_array < _NARROW_MODEL_ELEMENTS else 1)
    )
    evaluations = perturbation.method.evaluations_per_colour * perturbation.colouring.colour_count
    evaluations_in_tile = max(1, min(evaluations, MAX_TILE_ELEMENTS // downstream.widest_array))
    return max(noise_elements, values_elements * evaluations_in_tile)


def _find_reached_nodes(graph: Graph) -> dict[str, Array]:
    """Return whether each name reaches each node, in graph order, (nodes,)."""
    node_indices = {node.name: index for index, node in enumerate(graph.nodes)}
    reached = {name: np.zeros(len(graph.nodes), np.bool_) for name in graph.shapes}
    for node in iterate_interruptibly(reversed(graph.nodes)):
        for source in node.source_names:
            reached[source] |= reached[node.name]
            reached[source][node_indices[node.name]] = True
    return reached


def _find_followed_names(graph: Graph, names: Iterable[str]) -> list[str]:
    """Return the names, and all names that their differences may follow from.

    A name may follow from its linear readers, and so on.
    """
    followed_names = set(names)
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for source in node.source_names:
            readers.setdefault(source, []).append(node)
    ordered = [name for name in graph.shapes if name not in {node.name for node in graph.nodes}]
    for name in [*ordered, *(node.name for node in graph.nodes)]:
        if name in followed_names:
            followed_names.update(node.name for node in readers.get(name, ()) if _is_linear_reader(node, name))
    return [name for name in graph.shapes if name in followed_names]


def _is_linear_reader(node: Node, name: str) -> bool:
    slots = [slot.name for slot, operand in zip(node.operand_slots, node.operands, strict=True) if operand == name]
    return all(slot in node.op.linear_in for slot in slots)
