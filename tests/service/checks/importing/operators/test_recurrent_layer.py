"""Recurrent operators in PyTorch's forms are one node, with the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from service.checks.importing.operators.recurrent_layer import find_layer
from tests.service.checks.importing.onnx_files import (
    draw,
    evaluate_operator,
    make_call,
    make_operator_file,
    measure_operator_error,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases
LSTM = [draw(3, 2, 4), draw(1, 8, 4), draw(1, 8, 2), draw(1, 16)]
GRU = [draw(3, 2, 4), draw(1, 6, 4), draw(1, 6, 2), draw(1, 12)]
STATES = [None, draw(1, 2, 2), draw(1, 2, 2, seed=1)]
TWICE = [draw(3, 2, 4), draw(2, 8, 4), draw(2, 8, 2), draw(2, 16)]

CASES = {
    "LSTM": ("lstm", "LSTM", LSTM, {}),
    "LSTM with states": ("lstm", "LSTM", [*LSTM, *STATES], {}),
    "LSTM without biases": ("lstm", "LSTM", LSTM[:3], {}),
    "LSTM backwards": ("lstm", "LSTM", LSTM, {"direction": "reverse"}),
    "GRU": ("gru", "GRU", GRU, {"linear_before_reset": 1}),
    "RNN": ("rnn_tanh", "RNN", [draw(3, 2, 4), draw(1, 2, 4), draw(1, 2, 2), draw(1, 4)], {}),
}


@pytest.mark.parametrize(("op", "operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_a_layer_is_one_node_with_the_values_of_the_reference(op, operator, arrays, options):
    options = {"hidden_size": 2, "output_count": 3 if operator == "LSTM" else 2, **options}
    assert measure_operator_error(operator, *arrays, **options) < 1e-10
    ops = {node["op"] for node in run_import(make_operator_file(operator, arrays, **options)).fields["model"]["nodes"]}
    assert op in ops
    assert "tanh" not in ops


def test_both_directions_are_those_of_one_layer_each():
    both = evaluate_operator("LSTM", *TWICE, hidden_size=2, direction="bidirectional")
    for index, direction in enumerate(("forward", "reverse")):
        own = [TWICE[0], *(array[[index]] for array in TWICE[1:])]
        one = evaluate_operator("LSTM", *own, hidden_size=2, direction=direction)
        np.testing.assert_allclose(both[:, index], one[:, 0], rtol=1e-12, atol=1e-12)
    other = evaluate_operator("LSTM", TWICE[0], *(array[[1]] for array in TWICE[1:]), hidden_size=2)
    assert np.abs(both[:, 0] - other[:, 0]).max() > 0.01


def test_the_batch_may_be_the_first_axis():
    options = {"hidden_size": 2, "direction": "bidirectional"}
    first = evaluate_operator("LSTM", TWICE[0].swapaxes(0, 1), *TWICE[1:], **options, layout=1)
    np.testing.assert_allclose(first.transpose(1, 2, 0, 3), evaluate_operator("LSTM", *TWICE, **options), rtol=1e-12)


OTHER_FORMS = {
    "clip": ("LSTM", {"clip": 1.0}, [["Sigmoid", "Tanh", "Tanh"]], 3),
    "activations": ("LSTM", {}, [["Sigmoid", "Tanh", "Relu"]], 3),
    "activations of a direction": ("RNN", {}, [["Tanh"], ["Relu"]], 3),
    "reset first": ("GRU", {}, [["Sigmoid", "Tanh"]], 3),
    "steps": ("RNN", {}, [["Tanh"]], 300),
}


@pytest.mark.parametrize(("operator", "attributes", "activations", "steps"), OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_other_forms_are_no_layer(operator, attributes, activations, steps):
    assert find_layer(make_call(operator, **attributes), activations, steps) is None
    assert find_layer(make_call("RNN"), [["Tanh"]], 3) == "rnn_tanh"
