"""Arithmetic has the values of ONNX's reference evaluator."""

import numpy as np
import pytest
from scipy.special import erf

from tests.service.checks.importing.onnx_files import (
    draw,
    evaluate,
    evaluate_operator,
    find_refusal,
    list_errors,
    make_file,
    measure_error,
    measure_operator_error,
    node,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "Add": ("Add", [draw(3, 4), draw(4, low=1)], {}),
    "Sub": ("Sub", [draw(3, 4), draw(4, low=1)], {}),
    "Mul": ("Mul", [draw(3, 4), draw(4, low=1)], {}),
    "Div": ("Div", [draw(3, 4), draw(4, low=1)], {}),
    "Max": ("Max", [draw(3, 4), draw(4, low=1)], {}),
    "Min": ("Min", [draw(3, 4), draw(4, low=1)], {}),
    "Sum": ("Sum", [draw(3, 4), draw(4, low=1)], {}),
    "Mean": ("Mean", [draw(3, 4), draw(4, low=1)], {}),
    "Abs": ("Abs", [draw(3, 4)], {}),
    "Cos": ("Cos", [draw(3, 4)], {}),
    "Exp": ("Exp", [draw(3, 4)], {}),
    "Neg": ("Neg", [draw(3, 4)], {}),
    "Sin": ("Sin", [draw(3, 4)], {}),
    "Identity": ("Identity", [draw(3, 4)], {}),
    "Log": ("Log", [draw(3, 4, low=0.5)], {}),
    "Floor": ("Floor", [3 * draw(3, 4)], {}),
    "Ceil": ("Ceil", [3 * draw(3, 4)], {}),
    "Round": ("Round", [np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.3, -7.8])], {}),
    "Sign": ("Sign", [draw(3, 4)], {}),
    "Mod": ("Mod", [5 * draw(3, 4), draw(4, low=1)], {"fmod": 1}),
    "Mod by negative numbers": ("Mod", [5 * draw(3, 4), -draw(4, low=1)], {"fmod": 1}),
    "Sqrt": ("Sqrt", [draw(3, 4, low=0.5)], {}),
    "Reciprocal": ("Reciprocal", [draw(3, 4, low=0.5)], {}),
    "power": ("Pow", [draw(3, 4, low=0.5), np.array(1.5)], {}),
    "Clip": ("Clip", [draw(3, 4), np.array(-0.5), np.array(0.25)], {}),
    "Clip above": ("Clip", [draw(3, 4), None, np.array(0.25)], {}),
    "Where": ("Where", [draw(3, 4) > 0, draw(4), draw(3, 4, seed=1)], {}),
    "Dropout": ("Dropout", [draw(3)], {}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "cast": ("Cast", [draw(3)], {"to": 8}, "makes numbers of the type STRING"),
    "condition": ("Where", [np.array([1, 0, 1]), draw(3), draw(3)], {}, "truth values as its condition"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)


def test_operators_whose_reference_computes_in_float32_have_the_values_of_their_formula():
    x = 2 * draw(3, 4)
    np.testing.assert_allclose(evaluate_operator("Erf", x), erf(x), rtol=1e-12)


def test_a_power_of_a_constant_is_an_exponential():
    nodes = [node("Constant", "", "two", value_float=2.0), node("Pow", "two x")]
    values = evaluate(run_import(make_file(nodes, {}, initialisers={"x": draw(3)})))
    np.testing.assert_allclose(values["y"], 2 ** draw(3), rtol=1e-14)


@pytest.mark.parametrize(("hidden", "is_refused"), [([[1, 2], [0]], False), ([[1, 2], [0, 1, 2]], True)])
def test_a_search_for_infinities_is_refused_behind_a_hidden_row_alone(hidden, is_refused):
    mask = np.zeros((2, 3))
    for row, columns in enumerate(hidden):
        mask[row, columns] = -np.inf
    nodes = [node("Add", "x mask", "scores"), node("Softmax", "scores", "p"), node("IsNaN", "p", "nan"),
             node("Where", "nan zero p", "y")]  # fmt: skip
    content = make_file(nodes, {}, initialisers={"x": draw(2, 3), "mask": mask, "zero": np.zeros(())})
    if is_refused:
        assert "hides all of a row" in list_errors(content)["/graph/node/2"]
    else:
        assert measure_error(content) < 1e-10
