import numpy as np

from tests.service.numerics.ties.tied_models import make_dense, make_maximum, make_tie_point


def test_other_weights_make_other_gradients():
    at = make_maximum([2.0, 2.0, 1.0])
    assert at.own_gradients["x"].tolist() == [[1.5, 1.5, 0]]
    gradients = at.compute_gradients_by_weights({"m": np.array([[1.0, 0.0], [0.25, 0.75]])})
    assert gradients["x"].tolist() == [[3, 0, 0], [0.75, 2.25, 0]]


def test_responses_are_what_weights_change():
    at = make_maximum([2.0, 2.0, 1.0])
    assert at.compute_gradient_responses({"m": np.array([[1.0, -1.0]])})["x"].tolist() == [[3, -3, 0]]


def test_held_pass_keeps_its_choice_despite_errors():
    at = make_maximum([2.0, 2.0, 1.0])
    moved = [np.array([[2.0, 2.1, 1.0]])]
    node = at.nodes_by_name["m"]
    gradient = np.ones((1,))
    (own,) = node.op.backward(gradient, np.array([2.1]), *moved)
    (held,) = at.list_fixed_choice_backwards()["m"](gradient, np.array([2.1]), *moved)
    assert own.tolist() == [[0, 1, 0]]
    assert held.tolist() == [[0.5, 0.5, 0]]


def test_a_kink_within_the_rounding_of_the_arithmetic_is_open_in_it_alone():
    nodes = [("z", "matmul", ("w", "x"), {}), ("y", "relu", ("z",), {}), ("loss", "sum", ("y",), {})]
    leaves = {"w": [[1.0, -1.0]], "x": [0.1, 0.1 - 1e-8]}
    assert not make_tie_point(nodes, leaves).choices_by_node
    assert list(make_tie_point(nodes, leaves, "FP32").choices_by_node) == ["y"]


def test_a_node_of_too_many_alternatives_is_left_out():
    nodes = [("y", "relu", ("x",), {}), ("loss", "sum", ("y",), {})]
    assert make_tie_point(nodes, {"x": [0.0, 0.0]}, most=4).choices_by_node
    assert not make_tie_point(nodes, {"x": [0.0, 0.0]}, most=3).choices_by_node


def test_extreme_weights_select_one_alternative_each():
    low, high = make_maximum([2.0, 2.0, 2.0]).list_extreme_weights()
    assert low["m"].tolist() == high["m"].tolist() == [1, 1, 1]
    low, high = make_dense([[1.0, 1.0]]).list_extreme_weights()
    assert (low["y"] + high["y"]).tolist() == [1, 1, 1, 1]


def test_the_largest_weights_do_not_cancel_at_an_element_that_has_both_signs():
    nodes = [("n", "vector_norm", ("x",), {"ord": "inf"}), ("loss", "mul", ("n", 3.0), {})]
    at = make_tie_point(nodes, {"x": [0.0, 0.0]})
    gradients = [
        at.compute_gradients_by_weights({"n": weight["n"][None]})["x"][0].tolist()
        for weight in at.list_extreme_weights()
    ]
    assert sorted(gradients) == [[-3, -3], [3, 3]]
