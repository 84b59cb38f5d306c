"""Attention has the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import (
    draw,
    find_refusal,
    list_errors,
    make_file,
    measure_error,
    measure_operator_error,
    node,
)

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "plain": ("Attention", [draw(2, 2, 3, 4), draw(2, 2, 5, 4), draw(2, 2, 5, 3)], {"opset": 23}),
    "causal": ("Attention", [draw(2, 2, 3, 4), draw(2, 2, 5, 4), draw(2, 2, 5, 3)], {"opset": 23, "is_causal": 1}),
    "scale and softcap": (
        "Attention",
        [draw(2, 2, 3, 4), draw(2, 2, 5, 4), draw(2, 2, 5, 3)],
        {"opset": 23, "scale": 0.25},
    ),
    "truth values": (
        "Attention",
        [draw(2, 2, 3, 4), draw(2, 2, 5, 4), draw(2, 2, 5, 3), draw(3, 5) > -1],
        {"opset": 23},
    ),
    "floats": ("Attention", [draw(2, 2, 3, 4), draw(2, 2, 5, 4), draw(2, 2, 5, 3), draw(3, 5)], {"opset": 23}),
    "infinities": (
        "Attention",
        [draw(2, 2, 3, 4), draw(2, 2, 5, 4), draw(2, 2, 5, 3), np.where(np.eye(3, 5) > 0, -np.inf, 0.0)],
        {"opset": 23},
    ),
    "shared heads": ("Attention", [draw(2, 4, 3, 4), draw(2, 2, 5, 4), draw(2, 2, 5, 3)], {"opset": 23}),
    "three axes": (
        "Attention",
        [draw(2, 3, 8), draw(2, 5, 8), draw(2, 5, 8)],
        {"opset": 23, "q_num_heads": 2, "kv_num_heads": 2},
    ),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "heads": (
        "Attention",
        [draw(2, 3, 7), draw(2, 5, 7), draw(2, 5, 7)],
        {"opset": 23, "q_num_heads": 2, "kv_num_heads": 2},
        "q_num_heads",
    ),
    "heads of keys": (
        "Attention",
        [draw(2, 3, 3, 4), draw(2, 2, 5, 4), draw(2, 2, 5, 3)],
        {"opset": 23},
        "no multiple",
    ),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)


@pytest.mark.parametrize(("hidden_row", "is_refused"), [(None, False), (1, True)])
@pytest.mark.parametrize("is_float", [True, False])
def test_a_search_for_infinities_is_refused_behind_a_hidden_row_alone(hidden_row, is_refused, is_float):
    shown = np.ones((3, 5), bool)
    shown[0, 2] = False
    if hidden_row is not None:
        shown[hidden_row] = False
    known = {"q": draw(2, 2, 3, 4), "k": draw(2, 2, 5, 4), "v": draw(2, 2, 5, 3), "zero": np.zeros(())}
    known["m"] = np.where(shown, 0.0, -np.inf) if is_float else shown
    nodes = [node("Attention", "q k v m", "p"), node("IsNaN", "p", "nan"), node("Where", "nan zero p", "y")]
    content = make_file(nodes, {}, initialisers=known, opset=23)
    if is_refused:
        assert "hides all of a row" in list_errors(content)["/graph/node/1"]
    else:
        assert measure_error(content) < 1e-10
