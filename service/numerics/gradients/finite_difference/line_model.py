"""The model along one line.

Its outline follows from the structure of the model alone, and is kept for the next line.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.moved_model import MovedModel, add_direction_inputs
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.ops.directional_move import DirectionalMove

_MAX_CACHED_OUTLINES = 8
_MAX_CACHED_NODES = 512
"""Nodes of a model of which the outline is kept: it takes some kilobytes for each of them."""


class _Outline(NamedTuple):
    """A model along a line at no point: its nodes with directions of zeros, and what is downstream of the move."""

    model: MovedModel
    move_name: str
    downstream: DownstreamGraph


class LineModel(NamedTuple):
    """A model along a line.

    Attributes
    ----------
    model
        The model with a move of all tensors together.
    graph
        Its graph with the directions, held to its pieces at the point.
    downstream
        Nodes downstream of the move, at the point.
    """

    model: MovedModel
    graph: Graph
    downstream: DownstreamGraph


def make_line_model(
    graph: Graph, values: Mapping[str, Array], directions: Mapping[str, Array], scales: Mapping[str, float]
) -> LineModel:
    """Return a model along the line on which each tensor moves by t s d.

    Parameters
    ----------
    graph
        The model.
    values
        Every leaf and node at the point, (1, ...).
    directions, scales
        Direction d and scale s of each tensor that moves.
    """
    branches = graph.select_branches(values)
    find_outline = _outline_once if len(graph.nodes) <= _MAX_CACHED_NODES else _outline
    outline = find_outline(graph, tuple(directions), tuple(branches))
    moved_names = outline.model.moved_names
    placed_nodes = {
        moved_names[name]: _make_move_node(moved_names[name], name, outline.move_name, direction[None], scales[name])
        for name, direction in directions.items()
    }
    placed_graph = copy(outline.model.graph)
    placed_graph.nodes = [
        placed_nodes[node.name]
        if node.name in placed_nodes
        else replace(node, branch=branches[node.name])
        if node.name in branches
        else node
        for node in outline.model.graph.nodes
    ]
    placed_values = {**outline.model.add_moved_arrays(values), outline.move_name: np.zeros((1, 1))}
    point = BasePoint(placed_graph, placed_values)
    return LineModel(outline.model, placed_graph, outline.downstream.move_to_point(point))


def _make_move_node(moved_name: str, name: str, move_name: str, directions: Array, unit: float) -> Node:
    return Node(moved_name, DirectionalMove(directions=directions, unit=unit), (name, move_name))


def _outline(graph: Graph, names: tuple[str, ...], held_names: tuple[str, ...]) -> _Outline:
    """Return the outline of a model in which some tensors move, and some nodes are held to pieces."""
    zero = np.float64(0)
    model = add_direction_inputs(
        graph, {name: np.broadcast_to(zero, (1, *graph.shapes[name])) for name in names}, shared_move="moves"
    )
    held_graph, piece = copy(model.graph), np.zeros(())
    held_graph.nodes = [replace(node, branch=piece) if node.name in held_names else node for node in model.graph.nodes]
    unmoved: NamedArrays = {}
    move_name = next(iter(model.move_names.values()))
    downstream = DownstreamGraph(BasePoint(held_graph, unmoved), move_name)
    # They follow from the structure alone, and are kept with it.
    _ = downstream.widest_array, downstream.moving_positions, model.graph.names_with_gradient
    return _Outline(model, move_name, downstream)


_outline_once = lru_cache(_MAX_CACHED_OUTLINES)(_outline)
