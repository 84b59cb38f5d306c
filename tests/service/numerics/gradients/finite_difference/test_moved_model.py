import numpy as np

from service.numerics.gradients.finite_difference.moved_model import add_direction_inputs
from tests.op_graphs import build_reference_model

DIRECTIONS = {"x": np.ones((1, 3, 3)), "w2": np.arange(4.0)[None]}


def test_names_that_are_taken_are_avoided():
    graph, _ = build_reference_model()
    first = add_direction_inputs(graph, {"x": np.ones((1, 3, 3))})
    again = add_direction_inputs(first.graph, {"x": np.ones((1, 3, 3))})
    assert again.move_names["x"] != first.move_names["x"]


def test_a_shared_move_moves_all_tensors_by_their_units():
    graph, leaves = build_reference_model()
    model = add_direction_inputs(graph, DIRECTIONS, {"x": 0.5, "w2": 2.0}, "moves")
    (move_name,) = set(model.move_names.values())
    moved = model.graph.forward({**leaves, move_name: np.array([[0.25]])})
    assert np.array_equal(moved[model.moved_names["x"]], leaves["x"] + 0.125)
    assert np.array_equal(moved[model.moved_names["w2"]], leaves["w2"] + 0.5 * np.arange(4.0))
    expected = graph.forward({**leaves, "x": leaves["x"] + 0.125, "w2": leaves["w2"] + 0.5 * np.arange(4.0)})
    assert moved[graph.loss_name] == expected[graph.loss_name]


def test_at_rest_a_moved_node_has_the_arrays_of_what_moves():
    graph, leaves = build_reference_model()
    model = add_direction_inputs(graph, DIRECTIONS, shared_move="moves")
    (move_name,) = set(model.move_names.values())
    values = model.graph.forward({**leaves, move_name: np.zeros((1, 1))})
    added = model.add_moved_arrays(graph.forward(leaves))
    assert all(np.array_equal(added[name], values[name]) for name in model.graph.shapes if name != move_name)


def test_gradient_by_a_shared_move_is_the_sum_of_the_inner_products():
    graph, leaves = build_reference_model()
    model = add_direction_inputs(graph, DIRECTIONS, {"x": 0.5, "w2": 2.0}, "moves")
    (move_name,) = set(model.move_names.values())
    values = model.graph.forward({**leaves, move_name: np.zeros((1, 1))})
    gradients, own = model.graph.backward(values), graph.backward(graph.forward(leaves))
    expected = 0.5 * own["x"].sum() + 2.0 * (own["w2"][0] @ np.arange(4.0))
    np.testing.assert_allclose(gradients[move_name], [[expected]], rtol=1e-13)
