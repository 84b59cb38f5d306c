"""Graphs within nodes are run where constants decide how often."""

import numpy as np
import pytest
from onnx import helper

from tests.service.checks.importing.onnx_files import (
    BOOL,
    FLOAT,
    draw,
    evaluate,
    list_errors,
    make_file,
    make_graph,
    node,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases


def test_a_loop_of_a_constant_number_is_unrolled():
    body = make_graph([node("Identity", "go", "on"), node("Mul", "s x", "t")], ["i", "go", "s"], ["on", "t"])
    loop = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)
    values = evaluate(run_import(make_file([loop], {"x": (FLOAT, [3])}, initialisers={"n": np.array(3)})))
    np.testing.assert_allclose(values["y"], values["x"] ** 4, rtol=1e-14)


def test_a_constant_condition_chooses_a_branch():
    branches = [make_graph([node(op, "x", "r")], [], ["r"]) for op in ("Exp", "Sin")]
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    for condition, function in ((True, np.exp), (False, np.sin)):
        content = make_file([choice], {"x": (FLOAT, [3])}, initialisers={"c": np.array(condition)})
        values = evaluate(run_import(content))
        np.testing.assert_allclose(values["y"], function(values["x"]), rtol=1e-15)
    assert (
        "needs a constant condition"
        in list_errors(make_file([choice], {"x": (FLOAT, [3]), "c": (BOOL, [])}))["/graph/node/0"]
    )


def test_a_loop_stacks_the_outputs_of_its_repetitions():
    body = make_graph(
        [node("Identity", "go", "on"), node("Exp", "s", "t"), node("Sin", "s", "u")], ["i", "go", "s"], ["on", "t", "u"]
    )
    loop = helper.make_node("Loop", ["n", "", "x"], ["last", "y"], body=body)
    x = draw(2) / 4
    values = evaluate(run_import(make_file([loop], {}, ["y"], {"n": np.array(3), "x": x})))
    np.testing.assert_allclose(values["y"], np.sin([x, np.exp(x), np.exp(np.exp(x))]), rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"scan_input_directions": [1], "scan_output_directions": [1]}])
def test_a_scan_takes_the_slices_in_its_order(options):
    body = make_graph([node("Add", "s x", "t"), node("Sin", "t", "u")], ["s", "x"], ["t", "u"])
    scan = helper.make_node("Scan", ["s0", "xs"], ["last", "y"], body=body, num_scan_inputs=1, **options)
    known = {"s0": draw(3), "xs": draw(4, 3)}
    values = evaluate(run_import(make_file([scan], {}, initialisers=known, outputs=["y"])))
    xs = known["xs"][::-1] if options else known["xs"]
    stack = np.sin(known["s0"] + np.cumsum(xs, 0))
    np.testing.assert_allclose(values["y"], stack[::-1] if options else stack, rtol=1e-12)


def test_a_condition_that_depends_on_data_is_refused():
    body = make_graph([node("Identity", "more", "on"), node("Exp", "s", "t")], ["i", "go", "s"], ["on", "t"])
    loop = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)
    content = make_file([loop], {"x": (FLOAT, [2]), "more": (BOOL, [])}, initialisers={"n": np.array(3)})
    assert "depends on data" in list_errors(content)["/graph/node/0"]
