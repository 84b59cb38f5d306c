import numpy as np

from service.numerics.ties import responses as module
from service.numerics.ties.responses import columns_of, responses
from tests.service.numerics.ties.models import dense, maximum_of, nested, point


def seen_of(*names):
    return lambda gradients: np.concatenate([gradients[each].reshape(len(gradients[each]), -1) for each in names], 1)


def test_columns_that_share_no_element_are_told_apart_in_three_passes(monkeypatch):
    monkeypatch.setattr(module, "MOST_ALONE", 0)
    found = responses(maximum_of([2.0, 2.0, 2.0, 1.0]), seen_of("x"))
    assert found is not None
    assert found.matrix.toarray().tolist() == [[3, 0, 0], [0, 3, 0], [0, 0, 3], [0, 0, 0]]


def test_columns_that_share_elements_are_taken_one_by_one(monkeypatch):
    at = dense([[1.0, 1.0], [2.0, 2.0]])
    found = responses(at, seen_of("x", "w"))
    assert found is not None
    dense_matrix = found.matrix.toarray()
    for column in range(4):
        chosen = at.choices["y"].weights.copy()
        chosen[2 * column : 2 * column + 2] = [0, 1]
        changed = seen_of("x", "w")(at.with_weights({"y": chosen[None]})) - seen_of("x", "w")(at.gradients)
        np.testing.assert_array_equal(dense_matrix[:, column], changed[0])
    monkeypatch.setattr(module, "MOST_ALONE", 3)
    assert responses(at, seen_of("x", "w")) is None


def test_choices_that_multiply_have_no_columns():
    assert responses(nested([0.0, 0.0]), seen_of("x")) is None


def test_too_many_columns_are_not_told_apart(monkeypatch):
    monkeypatch.setattr(module, "MOST_COLUMNS", 2)
    assert responses(maximum_of([2.0, 2.0, 2.0]), seen_of("x")) is None


def test_a_choice_of_two_has_one_column():
    at = point([("y", "abs", ("x",), {}), ("loss", "sum", ("y",), {})], {"x": [0.0, 1.0]})
    columns = columns_of(at.choices["y"])
    assert columns.seeds.toarray().tolist() == [[-1, 1]]
    assert columns.pairs.all()
