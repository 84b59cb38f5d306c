"""Requests that are made of models: their parts, and values of one's own in them."""

import numpy as np
import pytest

from gradcheckd import ImportedRequest, RequestError

NODES = [{"name": "z", "op": "mul", "inputs": ["w", "x"]}, {"name": "loss", "op": "sum", "inputs": ["z"]}]


@pytest.fixture
def request_of_model():
    fields = {"model": {"nodes": NODES}, "seed": 3}
    return ImportedRequest({"x": np.zeros(2)}, {"w": np.ones(2)}, fields, "the values of x are random")


def test_a_request_is_the_parameters_of_a_check(request_of_model):
    parameters = dict(**request_of_model)
    assert list(parameters) == ["tensors", "weights", "model", "seed"]
    assert (len(request_of_model), request_of_model["seed"]) == (4, 3)
    assert parameters["model"] is request_of_model.model
    assert request_of_model.node_count == 2


def test_all_weights_are_judged_unless_others_are_named(request_of_model):
    assert request_of_model.with_respect_to == ("w",)
    other = ImportedRequest({"x": np.zeros(2)}, {}, {"with_respect_to": ["x"]})
    assert other.with_respect_to == ("x",)


def test_values_of_tensors_and_weights_may_be_others(request_of_model):
    changed = request_of_model.with_values({"x": [1.0, 2.0], "w": np.full(2, 3.0)})
    assert changed.tensors["x"] == [1.0, 2.0]
    assert (changed.weights["w"] == 3).all()
    assert (changed.note, changed.model) == (request_of_model.note, request_of_model.model)
    assert (request_of_model.tensors["x"] == 0).all()


@pytest.mark.parametrize(
    ("values", "words"), [({"y": [1.0]}, "no tensor 'y'; it has x, w"), ({"x": [1.0]}, r"the shape \[2\]; \[1\] was")]
)
def test_values_that_fit_no_tensor_are_refused(request_of_model, values, words):
    with pytest.raises(RequestError, match=words):
        request_of_model.with_values(values)
