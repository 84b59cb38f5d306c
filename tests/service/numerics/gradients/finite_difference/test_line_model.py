import numpy as np
import pytest

from service.numerics.gradients.finite_difference import line_model
from service.numerics.gradients.finite_difference.line_model import make_line_model
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_reference_model

SCALES = {"x": 0.5, "w2": 2.0}


def draw_directions(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {"x": generator.normal(size=(3, 3)), "w2": generator.normal(size=4)}


@pytest.mark.parametrize("max_nodes", [512, 0])
def test_each_line_has_its_own_directions_and_values(monkeypatch, max_nodes):
    """Whether its outline is kept or not."""
    monkeypatch.setattr(line_model, "_MAX_CACHED_NODES", max_nodes)
    graph, leaves = build_reference_model()
    for seed in (1, 2, 1):
        directions = draw_directions(seed)
        moved_leaves = {name: leaf * (1 + seed / 8) for name, leaf in leaves.items()}
        line = make_line_model(graph, graph.forward(moved_leaves), directions, SCALES)
        move_name = line.model.move_names["x"]
        values = line.graph.forward({**moved_leaves, move_name: np.array([[0.25]])})
        at = {name: moved_leaves[name] + 0.25 * SCALES[name] * directions[name] for name in SCALES}
        assert values[graph.loss_name] == graph.forward({**moved_leaves, **at})[graph.loss_name]
        assert line.downstream.point.graph is line.graph


def test_an_outline_is_kept_without_the_arrays_of_its_line():
    graph, leaves = build_reference_model()
    line_model._outline_once.cache_clear()
    for seed in (1, 2):
        make_line_model(graph, graph.forward(leaves), draw_directions(seed), SCALES)
    assert line_model._outline_once.cache_info().hits == 1
    outline = line_model._outline_once(graph, tuple(SCALES), ())
    assert not outline.downstream.point.values
    assert all(not any(node.op.directions.strides) for node in outline.model.graph.nodes[:2])


def test_nodes_are_held_to_the_pieces_of_their_own_point():
    """relu of w - 1, at points on both sides of its end."""
    nodes = [
        Node("z", OP_REGISTRY["sub"](), ("w", 1.0)),
        Node("y", OP_REGISTRY["relu"](), ("z",)),
        Node("loss", OP_REGISTRY["sum"](), ("y",)),
    ]
    graph = Graph(nodes, {"w": (2,)})
    for point in ([0.0, 3.0], [3.0, 0.0]):
        leaves = {"w": np.array([point])}
        line = make_line_model(graph, graph.forward(leaves), {"w": np.ones(2)}, {"w": 1.0})
        values = line.graph.forward({**leaves, line.model.move_names["w"]: np.array([[8.0]])})
        np.testing.assert_array_equal(values["y"], np.where(leaves["w"] > 1, leaves["w"] + 7, 0.0))
