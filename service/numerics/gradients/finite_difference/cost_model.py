"""What planning and differencing will take, told before either begins.

Operations are multiply-adds, as those of a plan are. Bytes are the most that is held at once beside the tensors of the
request; what is counted are the arrays that grow with the model, so that a small one is foreseen too small by what
Python and NumPy take for themselves.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from service.numerics.core.batching import MAX_TILE_ELEMENTS, Array, Shape, count_elements
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.gradients.finite_difference.difference_plan import DifferencePlan, Perturbation
from service.numerics.model.graph import Graph, Node
from service.numerics.model.rounding import ROUNDING_SWEEPS
from service.numerics.ops.op import WORK_PER_CALL

_BYTES_PER_FLOAT = 8
_CALLS_PER_REACHED_NODE = 4
"""Calls of NumPy for each node that a tensor reaches, whatever its size: planning spreads labels through it."""
_WORK_PER_LABEL = 3
"""Multiply-adds in the time of spreading one label through one element."""
_NARROW_MODEL_ELEMENTS = 2**11
"""Elements up to which moves are measured side by side, four at a time; see `noise.py`."""
_BYTES_PER_REACHED_NODE, _BYTES_PER_OPERAND = 1000, 100
"""Bytes for each node that a name reaches, and for each operand of such a node, in the ways that a plan weighs."""
_TEMPORARY_ARRAYS = 4
"""Arrays of the size of its output that an op makes on its way."""
_BYTES_PER_PRODUCT = 800
"""Bytes for each product that an op is written out as: an array of its indices, one of its factors, some at a time."""
_ROWS_PER_BLOCK = 10
"""Rows of a block of products, or of quotients, while they are summed up."""
_TYPICAL_LEVELS = 3
"""Of a table, as a rule."""


class DifferenceCost(NamedTuple):
    """Multiply-adds, and bytes."""

    work: int
    memory_bytes: int


def estimate_planning_cost(graph: Graph, names: Sequence[str], direct: bool = False) -> DifferenceCost:
    """What it takes to plan the differences with respect to some names, at most.

    Labels are spread from each name, and from what it may follow from, through all that it reaches: two for each axis.
    `direct` if each is only moved.
    """
    reached = _find_reached_nodes(graph)
    names = list(dict.fromkeys(names)) if direct else _find_followed_names(graph, names)
    rows = np.array([reached[name] for name in names])
    labels = np.array([2 * max(1, len(graph.shapes[name])) for name in names])
    sizes = np.array([count_elements(graph.shapes[node.name]) for node in graph.nodes], dtype=np.float64)
    own = np.array([count_elements(graph.shapes[name]) for name in names])
    through = np.array(graph.propagation_elements(), dtype=np.float64)
    work = _WORK_PER_LABEL * labels @ (rows @ through + own) + _CALLS_PER_REACHED_NODE * WORK_PER_CALL * rows.sum()
    operands = np.array([len(node.operands) for node in graph.nodes])
    # Of each name the ends of the box of elements that each term feels.
    kept = (
        _BYTES_PER_REACHED_NODE * rows.sum()
        + _BYTES_PER_OPERAND * (rows @ operands).sum()
        + _BYTES_PER_FLOAT * labels.sum() * _count_terms(graph)
    )
    return DifferenceCost(
        int(work), int(1.5 * _BYTES_PER_FLOAT * (labels * (rows @ sizes + own)).max(initial=0) + kept)
    )


_COST_BY_PLAN: WeakKeyDictionary[DifferencePlan, DifferenceCost] = WeakKeyDictionary()
"""Of plans that are kept."""


def estimate_cost(plan: DifferencePlan) -> DifferenceCost:
    """What a first rung of a plan takes: bytes at most, and operations at least."""
    if plan not in _COST_BY_PLAN:
        _COST_BY_PLAN[plan] = _compute_cost(plan)
    return _COST_BY_PLAN[plan]


def _compute_cost(plan: DifferencePlan) -> DifferenceCost:
    """Add up what is counted.

    At once are held every value, and its perturbed twins in the sweeps of the rounding model; the box of the elements
    that each term feels; the quotients of all names and the tables of those asked for; and what is evaluated in one
    tile, or in the sweeps that measure its noise.
    """
    graph, shapes = plan.graph, plan.graph.shapes
    needed = [plan.path_of(name) for name in plan.needed_names(plan.names)]
    movings = [route.perturbation for route in needed if route.perturbation is not None]
    values = sum(count_elements(shapes[node.name]) for node in graph.nodes)
    levels = plan.method.step_count
    quotients = sum(count_elements(shapes[route.name]) for route in needed) * (levels + 2)
    tables = sum(count_elements(shapes[name]) for name in plan.names) * 4 * _TYPICAL_LEVELS
    largest = max(count_elements(shapes[route.name]) for route in needed)
    boxes = sum(_count_colouring_numbers(moving) for moving in movings)
    ways = sum(
        _BYTES_PER_REACHED_NODE + _BYTES_PER_OPERAND * len(node.operands)
        for moving in movings
        for node in moving.downstream.nodes
    )
    products = _BYTES_PER_PRODUCT * max((pull.product_count for route in needed for pull in route.pullbacks), default=0)
    blocks = _ROWS_PER_BLOCK * max(MAX_TILE_ELEMENTS, largest) * (1 + any(route.pullbacks for route in needed))
    at_once = max((_count_evaluated_elements(moving, shapes) for moving in movings), default=0)
    held = (ROUNDING_SWEEPS + 2) * values + quotients + tables + boxes + blocks + at_once
    return DifferenceCost(plan.first_level_work, _BYTES_PER_FLOAT * held + ways + products)


def _count_colouring_numbers(moving: Perturbation) -> int:
    """Numbers that say which element each term feels and how noisy it is, and the colour of each element."""
    colouring = moving.colouring
    return 2 * colouring.lowest_felt.size + 2 * colouring.lowest_felt.shape[-1] + count_elements(colouring.shape)


def _count_terms(graph: Graph) -> int:
    """Terms whose sum the loss is, at most: of the ops of one element that follow one upon the other up to it."""
    nodes = {node.name: node for node in graph.nodes}
    terms, pending, seen = 0, [graph.loss_name], {graph.loss_name}
    while pending:
        node = nodes[pending.pop()]
        sources = [each for each in node.source_names if each in nodes and count_elements(graph.shapes[each]) == 1]
        terms += graph.estimate_cost([node]).largest_array if node.op.ends_in_sum else 1
        pending += [each for each in sources if each not in seen]
        seen.update(sources)
    return terms


def _count_evaluated_elements(moving: Perturbation, shapes: dict[str, Shape]) -> int:
    """Elements that are held while a tile is evaluated, or its noise measured."""
    suffix = moving.downstream
    values = sum(count_elements(shapes[node.name]) for node in suffix.nodes) + _TEMPORARY_ARRAYS * suffix.widest_array
    noise = (ROUNDING_SWEEPS + 1) * values * (4 if suffix.widest_array < _NARROW_MODEL_ELEMENTS else 1)
    return max(noise, values * max(1, MAX_TILE_ELEMENTS // suffix.widest_array))


def _find_reached_nodes(graph: Graph) -> dict[str, Array]:
    """Which nodes each name reaches, in the order of the graph, (nodes,)."""
    places = {node.name: place for place, node in enumerate(graph.nodes)}
    reached = {name: np.zeros(len(graph.nodes), np.bool_) for name in graph.shapes}
    for node in iterate_interruptibly(reversed(graph.nodes)):
        for source in node.source_names:
            reached[source] |= reached[node.name]
            reached[source][places[node.name]] = True
    return reached


def _find_followed_names(graph: Graph, names: Iterable[str]) -> list[str]:
    """The names, and all that their differences may follow from: what reads them linearly, and so on."""
    found = set(names)
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for source in node.source_names:
            readers.setdefault(source, []).append(node)
    ordered = [name for name in graph.shapes if name not in {node.name for node in graph.nodes}]
    for name in [*ordered, *(node.name for node in graph.nodes)]:
        if name in found:
            found.update(node.name for node in readers.get(name, ()) if _is_linear_reader(node, name))
    return [name for name in graph.shapes if name in found]


def _is_linear_reader(node: Node, name: str) -> bool:
    slots = [slot.name for slot, operand in zip(node.operand_slots, node.operands, strict=True) if operand == name]
    return all(slot in node.op.linear_in for slot in slots)
