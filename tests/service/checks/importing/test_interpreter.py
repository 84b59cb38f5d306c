"""The walk through a file runs each node that the outputs need."""

import numpy as np
import onnx
from onnx import helper

from service.checks.importing.interpreter import list_needed_nodes, list_read_names
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    draw,
    evaluate,
    evaluate_operator,
    find_refusal,
    make_file,
    make_graph,
    make_operator_file,
    measure_error,
    node,
    run_import,
)


def test_a_function_of_the_file_is_written_out():
    body = [node("Mul", "a a", "square"), node("Add", "square b", "c")]
    square = helper.make_function("own", "SquareAdd", ["a", "b"], ["c"], body, [helper.make_opsetid("", 21)])
    call = helper.make_node("SquareAdd", ["x", "x"], ["y"], domain="own")
    values = evaluate(run_import(make_file([call], {"x": (FLOAT, [3])}, functions=[square])))
    np.testing.assert_allclose(values["y"], values["x"] ** 2 + values["x"], rtol=1e-15)


def test_the_comparison_with_the_reference_sees_another_function():
    content, other = (make_operator_file(operator, [draw(3)]) for operator in ("Exp", "Sin"))
    assert measure_error(content) < 1e-10
    assert measure_error(content, other) > 0.01


def test_nodes_that_no_output_needs_are_passed_over():
    nodes = [node("Exp", "x", "a"), node("Frobnicate", "a", "b"), node("Sin", "a")]
    assert list_needed_nodes(nodes, ["y"]) == [0, 2]
    assert list(run_import(make_file(nodes, {"x": (FLOAT, [3])})).outputs) == ["y"]


def test_graphs_inside_a_node_are_read():
    body = make_graph([node("Add", "s w", "t")], ["s"], ["t"])
    assert list_read_names(helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)) == {"n", "x", "s", "w", "t"}


def test_the_defaults_of_attributes_are_those_of_onnx():
    x = draw(3)
    np.testing.assert_allclose(evaluate_operator("LeakyRelu", x), np.where(x > 0, x, np.float32(0.01) * x), rtol=1e-14)


def test_an_attribute_of_a_function_is_that_of_its_call():
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    function = helper.make_function("own", "F", ["a"], ["b"], [leaky], [helper.make_opsetid("", 21)], ["slope"])
    call = helper.make_node("F", ["x"], ["y"], domain="own", slope=0.25)
    values = evaluate(run_import(make_file([call], {"x": (FLOAT, [9])}, functions=[function])))
    np.testing.assert_allclose(values["y"], np.where(values["x"] > 0, 1, 0.25) * values["x"], rtol=1e-14)


def test_an_attribute_of_another_type_is_refused():
    assert "do not fit one another" in find_refusal("LeakyRelu", draw(3), alpha="steep")
