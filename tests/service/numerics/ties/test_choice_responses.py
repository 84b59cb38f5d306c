import numpy as np

from service.numerics.ties import choice_responses as module
from service.numerics.ties.choice_responses import find_choice_responses, make_node_columns
from tests.service.numerics.ties.tied_models import make_dense, make_maximum, make_nested, make_tie_point


def make_view(*names):
    return lambda gradients: np.concatenate([gradients[name].reshape(len(gradients[name]), -1) for name in names], 1)


def test_columns_that_share_no_element_are_told_apart_in_three_passes(monkeypatch):
    monkeypatch.setattr(module, "MAX_SINGLE_COLUMNS", 0)
    responses = find_choice_responses(make_maximum([2.0, 2.0, 2.0, 1.0]), make_view("x"))
    assert responses is not None
    assert responses.matrix.toarray().tolist() == [[3, 0, 0], [0, 3, 0], [0, 0, 3], [0, 0, 0]]


def test_columns_that_share_elements_are_taken_one_by_one(monkeypatch):
    at = make_dense([[1.0, 1.0], [2.0, 2.0]])
    responses = find_choice_responses(at, make_view("x", "w"))
    assert responses is not None
    dense_matrix = responses.matrix.toarray()
    for column in range(4):
        chosen = at.choices_by_node["y"].weights.copy()
        chosen[2 * column : 2 * column + 2] = [0, 1]
        changed = make_view("x", "w")(at.compute_gradients_by_weights({"y": chosen[None]})) - make_view("x", "w")(
            at.own_gradients
        )
        np.testing.assert_array_equal(dense_matrix[:, column], changed[0])
    monkeypatch.setattr(module, "MAX_SINGLE_COLUMNS", 3)
    assert find_choice_responses(at, make_view("x", "w")) is None


def test_choices_that_multiply_have_no_columns():
    assert find_choice_responses(make_nested([0.0, 0.0]), make_view("x")) is None


def test_too_many_columns_are_not_told_apart(monkeypatch):
    monkeypatch.setattr(module, "MAX_PROBED_COLUMNS", 2)
    assert find_choice_responses(make_maximum([2.0, 2.0, 2.0]), make_view("x")) is None


def test_a_choice_of_two_has_one_column():
    at = make_tie_point([("y", "abs", ("x",), {}), ("loss", "sum", ("y",), {})], {"x": [0.0, 1.0]})
    columns = make_node_columns(at.choices_by_node["y"])
    assert columns.seeds.toarray().tolist() == [[-1, 1]]
    assert columns.is_pair.all()
