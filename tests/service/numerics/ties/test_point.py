import numpy as np

from tests.service.numerics.ties.models import dense, maximum_of, point


def test_other_weights_make_other_gradients():
    at = maximum_of([2.0, 2.0, 1.0])
    assert at.gradients["x"].tolist() == [[1.5, 1.5, 0]]
    found = at.with_weights({"m": np.array([[1.0, 0.0], [0.25, 0.75]])})
    assert found["x"].tolist() == [[3, 0, 0], [0.75, 2.25, 0]]


def test_responses_are_what_weights_change():
    at = maximum_of([2.0, 2.0, 1.0])
    assert at.responses({"m": np.array([[1.0, -1.0]])})["x"].tolist() == [[3, -3, 0]]


def test_held_passes_take_their_own_choice_where_errors_would_lead_off_it():
    at = maximum_of([2.0, 2.0, 1.0])
    moved = [np.array([[2.0, 2.1, 1.0]])]
    node = at.nodes["m"]
    gradient = np.ones((1,))
    (own,) = node.op.backward(gradient, np.array([2.1]), *moved)
    (held,) = at.held()["m"](gradient, np.array([2.1]), *moved)
    assert own.tolist() == [[0, 1, 0]]
    assert held.tolist() == [[0.5, 0.5, 0]]


def test_a_kink_within_the_rounding_of_the_arithmetic_is_open_in_it_alone():
    nodes = [("z", "matmul", ("w", "x"), {}), ("y", "relu", ("z",), {}), ("loss", "sum", ("y",), {})]
    leaves = {"w": [[1.0, -1.0]], "x": [0.1, 0.1 - 1e-8]}
    assert not point(nodes, leaves).choices
    assert list(point(nodes, leaves, "FP32").choices) == ["y"]


def test_a_node_of_too_many_alternatives_is_left_out():
    nodes = [("y", "relu", ("x",), {}), ("loss", "sum", ("y",), {})]
    assert point(nodes, {"x": [0.0, 0.0]}, most=4).choices
    assert not point(nodes, {"x": [0.0, 0.0]}, most=3).choices


def test_the_largest_weights_give_all_to_every_alternative_and_take_one_side_of_two():
    low, high = maximum_of([2.0, 2.0, 2.0]).largest()
    assert low["m"].tolist() == high["m"].tolist() == [1, 1, 1]
    low, high = dense([[1.0, 1.0]]).largest()
    assert (low["y"] + high["y"]).tolist() == [1, 1, 1, 1]


def test_the_largest_weights_do_not_cancel_at_an_element_that_has_both_signs():
    nodes = [("n", "vector_norm", ("x",), {"ord": "inf"}), ("loss", "mul", ("n", 3.0), {})]
    at = point(nodes, {"x": [0.0, 0.0]})
    found = [at.with_weights({"n": each["n"][None]})["x"][0].tolist() for each in at.largest()]
    assert sorted(found) == [[-3, -3], [3, 3]]
