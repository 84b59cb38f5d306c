"""Operators without a function of their own have the body that ONNX declares."""

import numpy as np
import onnx

from service.checks.importing.functions import find_function, make_function_inputs
from service.checks.importing.values import Known, Symbol
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    INT64,
    draw,
    evaluate_operator,
    node,
)


def test_a_body_is_found_by_the_operator_and_its_version():
    body = find_function(node("MeanVarianceNormalization", "x"), 21, None)
    assert body is not None
    assert [entry.op_type for entry in body.node]
    assert find_function(node("Conv", "x w"), 21, None) is None
    assert find_function(node("Frobnicate", "x"), 21, None) is None


def test_a_body_that_depends_on_the_types_is_built_for_them():
    inputs = make_function_inputs([Symbol("x", (2, 3)), None, Known(np.arange(3), "i")])
    types = [onnx.TypeProto.FromString(entry) for entry in inputs]
    assert [entry.tensor_type.elem_type for entry in types] == [FLOAT, 0, INT64]
    body = find_function(node("Celu", "x"), 12, make_function_inputs([Symbol("x", (2, 3))]))
    assert body is not None
    assert len(body.node) > 1


def test_the_body_has_the_values_of_its_formula():
    x = draw(2, 3, 4, 4)
    centred = x - x.mean((0, 2, 3), keepdims=True)
    truth = centred / np.sqrt((centred**2).mean((0, 2, 3), keepdims=True))
    np.testing.assert_allclose(evaluate_operator("MeanVarianceNormalization", x), truth, rtol=1e-6, atol=1e-8)
