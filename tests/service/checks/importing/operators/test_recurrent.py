"""Recurrent layers have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "RNN": ("RNN", [draw(3, 2, 4), draw(1, 2, 4), draw(1, 2, 2), draw(1, 4)], {"hidden_size": 2, "output_count": 2}),
    "GRU": ("GRU", [draw(3, 2, 4), draw(1, 6, 4), draw(1, 6, 2), draw(1, 12)], {"hidden_size": 2, "output_count": 2}),
    "GRU, linear before reset": (
        "GRU",
        [draw(3, 2, 4), draw(1, 6, 4), draw(1, 6, 2), draw(1, 12)],
        {"hidden_size": 2, "output_count": 2, "linear_before_reset": 1},
    ),
    "LSTM": ("LSTM", [draw(3, 2, 4), draw(1, 8, 4), draw(1, 8, 2), draw(1, 16)], {"hidden_size": 2, "output_count": 3}),
    "LSTM with states": (
        "LSTM",
        [
            draw(3, 2, 4),
            draw(1, 8, 4),
            draw(1, 8, 2),
            draw(1, 16),
            None,
            draw(1, 2, 2),
            draw(1, 2, 2, seed=1),
            draw(1, 6),
        ],
        {"hidden_size": 2, "output_count": 3},
    ),
    "backwards": (
        "LSTM",
        [draw(3, 2, 4), draw(1, 8, 4), draw(1, 8, 2), draw(1, 16)],
        {"hidden_size": 2, "output_count": 3, "direction": "reverse"},
    ),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "lengths": (
        "LSTM",
        [draw(3, 2, 4), draw(1, 8, 4), draw(1, 8, 2), draw(1, 16), np.array([3, 1], np.int32)],
        {"hidden_size": 2},
        "different lengths",
    ),
    "gates": (
        "LSTM",
        [draw(3, 2, 4), draw(1, 8, 4), draw(1, 8, 2), draw(1, 16)],
        {"hidden_size": 2, "input_forget": 1},
        "couples its gates",
    ),
    "directions": (
        "RNN",
        [draw(3, 2, 4), draw(1, 2, 4), draw(1, 2, 2), draw(1, 4)],
        {"hidden_size": 2, "direction": "bidirectional"},
        "it must be 2",
    ),
    "activation": (
        "RNN",
        [draw(3, 2, 4), draw(1, 2, 4), draw(1, 2, 2), draw(1, 4)],
        {"hidden_size": 2, "activations": ["Sinus"]},
        "has the activation",
    ),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)
