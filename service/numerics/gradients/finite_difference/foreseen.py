"""What planning and differencing will take, told before either begins.

Operations are multiply-adds, as those of a plan are. Bytes are the most that is held at once beside the tensors of the
request; what is counted are the arrays that grow with the model, so that a small one is foreseen too small by what
Python and NumPy take for themselves.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from service.numerics.gradients.finite_difference.plan import Moving, Plan
from service.numerics.gradients.finite_difference.probe import TILE_ELEMENTS
from service.numerics.graph import Graph, Node
from service.numerics.ops.op import CALL
from service.numerics.pausing import pausing
from service.numerics.rounding import SWEEPS
from service.numerics.tiles import Array, Shape, size

_NUMBER = 8
_CALLS = 4
"""Calls of NumPy for each node that a tensor reaches, whatever its size: planning spreads labels through it."""
_PASSES = 3
"""Multiply-adds in the time of spreading one label through one element."""
_NARROW = 2**11
"""Elements up to which moves are measured side by side, four at a time; see `noise.py`."""
_REACHED, _READ = 1000, 100
"""Bytes for each node that a name reaches, and for each operand of such a node, in the ways that a plan weighs."""
_TEMPORARY = 4
"""Arrays of the size of its output that an op makes on its way."""
_PRODUCT = 800
"""Bytes for each product that an op is written out as: an array of its indices, one of its factors, some at a time."""
_BLOCK = 10
"""Rows of a block of products, or of quotients, while they are summed up."""
_RUNGS = 3
"""Of a table, as a rule."""


class Needs(NamedTuple):
    """Multiply-adds, and bytes."""

    work: int
    bytes: int


def needs_of_planning(graph: Graph, names: Sequence[str], direct: bool = False) -> Needs:
    """What it takes to plan the differences with respect to some names, at most.

    Labels are spread from each name, and from what it may follow from, through all that it reaches: two for each axis.
    `direct` if each is only moved.
    """
    reached = _reached(graph)
    names = list(dict.fromkeys(names)) if direct else _followed(graph, names)
    rows = np.array([reached[name] for name in names])
    labels = np.array([2 * max(1, len(graph.shapes[name])) for name in names])
    sizes = np.array([size(graph.shapes[node.name]) for node in graph.nodes], dtype=np.float64)
    own = np.array([size(graph.shapes[name]) for name in names])
    through = np.array(graph.spreading(), dtype=np.float64)
    work = _PASSES * labels @ (rows @ through + own) + _CALLS * CALL * rows.sum()
    operands = np.array([len(node.operands) for node in graph.nodes])
    # Of each name the ends of the box of elements that each term feels.
    kept = _REACHED * rows.sum() + _READ * (rows @ operands).sum() + _NUMBER * labels.sum() * _terms(graph)
    return Needs(int(work), int(1.5 * _NUMBER * (labels * (rows @ sizes + own)).max(initial=0) + kept))


_KNOWN: WeakKeyDictionary[Plan, Needs] = WeakKeyDictionary()
"""Of plans that are kept."""


def needs_of(plan: Plan) -> Needs:
    """What a first rung of a plan takes: bytes at most, and operations at least."""
    if plan not in _KNOWN:
        _KNOWN[plan] = _needs_of(plan)
    return _KNOWN[plan]


def _needs_of(plan: Plan) -> Needs:
    """Add up what is counted.

    At once are held every value, and its perturbed twins in the sweeps of the rounding model; the box of the elements
    that each term feels; the quotients of all names and the tables of those asked for; and what is evaluated in one
    tile, or in the sweeps that measure its noise.
    """
    graph, shapes = plan.graph, plan.graph.shapes
    needed = [plan.route(name) for name in plan.needed(plan.names)]
    movings = [route.moving for route in needed if route.moving is not None]
    values = sum(size(shapes[node.name]) for node in graph.nodes)
    levels = plan.method.levels
    quotients = sum(size(shapes[route.name]) for route in needed) * (levels + 2)
    tables = sum(size(shapes[name]) for name in plan.names) * 4 * _RUNGS
    largest = max(size(shapes[route.name]) for route in needed)
    boxes = sum(_boxes(moving) for moving in movings)
    ways = sum(_REACHED + _READ * len(node.operands) for moving in movings for node in moving.suffix.nodes)
    products = _PRODUCT * max((pull.products for route in needed for pull in route.pulls), default=0)
    blocks = _BLOCK * max(TILE_ELEMENTS, largest) * (1 + any(route.pulls for route in needed))
    at_once = max((_evaluated(moving, shapes) for moving in movings), default=0)
    held = (SWEEPS + 2) * values + quotients + tables + boxes + blocks + at_once
    return Needs(plan.work, _NUMBER * held + ways + products)


def _boxes(moving: Moving) -> int:
    """Numbers that say which element each term feels and how noisy it is, and the colour of each element."""
    colouring = moving.colouring
    return 2 * colouring.lowest.size + 2 * colouring.lowest.shape[-1] + size(colouring.shape)


def _terms(graph: Graph) -> int:
    """Terms whose sum the loss is, at most: of the ops of one element that follow one upon the other up to it."""
    nodes = {node.name: node for node in graph.nodes}
    terms, pending, seen = 0, [graph.loss], {graph.loss}
    while pending:
        node = nodes[pending.pop()]
        sources = [each for each in node.sources if each in nodes and size(graph.shapes[each]) == 1]
        terms += graph.cost([node]).elements if node.op.ends_in_sum else 1
        pending += [each for each in sources if each not in seen]
        seen.update(sources)
    return terms


def _evaluated(moving: Moving, shapes: dict[str, Shape]) -> int:
    """Elements that are held while a tile is evaluated, or its noise measured."""
    suffix = moving.suffix
    values = sum(size(shapes[node.name]) for node in suffix.nodes) + _TEMPORARY * suffix.widest
    noise = (SWEEPS + 1) * values * (4 if suffix.widest < _NARROW else 1)
    return max(noise, values * max(1, TILE_ELEMENTS // suffix.widest))


def _reached(graph: Graph) -> dict[str, Array]:
    """Which nodes each name reaches, in the order of the graph, (nodes,)."""
    places = {node.name: place for place, node in enumerate(graph.nodes)}
    reached = {name: np.zeros(len(graph.nodes), np.bool_) for name in graph.shapes}
    for node in pausing(reversed(graph.nodes)):
        for source in node.sources:
            reached[source] |= reached[node.name]
            reached[source][places[node.name]] = True
    return reached


def _followed(graph: Graph, names: Iterable[str]) -> list[str]:
    """The names, and all that their differences may follow from: what reads them linearly, and so on."""
    found = set(names)
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for source in node.sources:
            readers.setdefault(source, []).append(node)
    ordered = [name for name in graph.shapes if name not in {node.name for node in graph.nodes}]
    for name in [*ordered, *(node.name for node in graph.nodes)]:
        if name in found:
            found.update(node.name for node in readers.get(name, ()) if _reads_linearly(node, name))
    return [name for name in graph.shapes if name in found]


def _reads_linearly(node: Node, name: str) -> bool:
    slots = [slot.name for slot, operand in zip(node.slots, node.operands, strict=True) if operand == name]
    return all(slot in node.op.linear_in for slot in slots)
