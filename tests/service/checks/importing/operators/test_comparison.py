"""Comparisons choose between values, and a gradient flows through the chosen ones."""

import numpy as np
import pytest

from service.checks.graph.check import check
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    draw,
    evaluate,
    find_refusal,
    list_errors,
    make_file,
    measure_error,
    measure_operator_error,
    node,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases
A, B = draw(3, 4), draw(3, 4, seed=1)


@pytest.mark.parametrize("operator", ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"])
def test_a_comparison_chooses_as_the_reference_does(operator):
    arrays = {"a": A, "b": B}
    content = make_file([node(operator, "a b", "c"), node("Where", "c a b")], initialisers=arrays)
    assert measure_error(content) == 0
    assert measure_error(content, make_file([node("Add", "a b")], initialisers=arrays)) > 0.01


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
def test_truths_are_combined_as_the_reference_does(operator):
    nodes = [
        node("Less", "a b", "c"),
        node("Greater", "a zero", "d"),
        node(operator, "c d", "e"),
        node("Not", "e", "f"),
        node("Where", "f c d", "g"),
        node("Cast", "g", "h", to=11),
        node("Mul", "h a"),
    ]
    assert measure_error(make_file(nodes, initialisers={"a": A, "b": B, "zero": np.array(0.0)})) == 0


def test_floats_become_truths_where_they_are_not_zero():
    x = np.array([0.0, 2.0, -0.5])
    nodes = [node("Cast", "x", "c", to=9), node("Where", "c v x")]
    assert measure_error(make_file(nodes, initialisers={"x": x, "v": draw(3)})) == 0


@pytest.mark.parametrize(("largest", "axis"), [(1, 1), (0, 0)])
def test_the_greatest_elements_and_their_positions_are_those_of_the_reference(largest, axis):
    nodes = [
        node("TopK", "a k", "v i", largest=largest, axis=axis),
        node("GatherElements", "b i", "w", axis=axis),
        node("Mul", "v w"),
    ]
    arrays = {"a": A.T if axis == 0 else A, "b": B.T if axis == 0 else B, "k": np.array([2])}
    assert measure_error(make_file(nodes, initialisers=arrays)) < 1e-12


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_a_position_selects_as_the_reference_does(operator):
    nodes = [node(operator, "a", "i", axis=1, keepdims=0), node("Gather", "b i", "c", axis=0), node("Mul", "c c")]
    assert measure_error(make_file(nodes, initialisers={"a": A, "b": draw(5, 2)})) < 1e-12


def test_a_gradient_through_a_comparison_passes():
    nodes = [node("TopK", "a k", "v i", axis=0), node("Less", "v zero", "c"), node("Where", "c v w")]
    arrays = {"a": A, "w": draw(2, 4), "zero": np.array(0.0), "k": np.array([2])}
    assert check(run_import(make_file(nodes, initialisers=arrays)).document)["outcome"] == "pass"


def test_a_weight_that_is_compared_alone_is_a_tensor():
    nodes = [node("Less", "a bound", "c"), node("Where", "c a b")]
    imported = run_import(make_file(nodes, initialisers={"a": A, "b": B, "bound": draw(1)}))
    assert (list(imported.weights), list(imported.tensors)) == (["a", "b"], ["bound", "y_cotangent"])
    assert check(imported.document)["outcome"] == "pass"
    nodes = [node("Less", "x z", "c"), node("Where", "c x v")]
    imported = run_import(make_file(nodes, dict.fromkeys("xzv", (FLOAT, [2]))))
    assert sorted(imported.fields["with_respect_to"]) == ["v", "x"]


def test_truth_values_alone_have_no_gradient():
    nodes = [node("Less", "a b", "c"), node("Cast", "c", to=1)]
    assert "nothing to differentiate" in list_errors(make_file(nodes, initialisers={"a": A, "b": B}))["/graph"]


def test_a_low_score_in_place_of_minus_infinity_is_recognised():
    mask = np.array([[0.0, -np.inf, 0.0], [-np.inf, -np.inf, -np.inf]])
    nodes = [
        node("Add", "x mask", "s"),
        node("ReduceMax", "s axis", "m"),
        node("Equal", "m low", "none"),
        node("Where", "none zero s", "shown"),
        node("Softmax", "shown", axis=-1),
    ]
    known = {"x": draw(2, 3), "axis": np.array([1]), "low": np.array(-np.inf), "zero": np.array(0.0)}
    # The mask is one node's result, so that nothing is known of it but low scores.
    values = evaluate(run_import(make_file(nodes, initialisers={**known, "mask": mask})))
    np.testing.assert_allclose(values["y"][1], 1 / 3)
    assert values["y"][0, 1] == 0


def test_infinities_of_finite_values_are_none():
    nodes = [node("IsInf", "x", "a"), node("IsNaN", "x", "b"), node("Or", "a b", "c"), node("Where", "c w x")]
    assert measure_error(make_file(nodes, initialisers={"x": draw(3), "w": draw(3, seed=2)})) == 0


@pytest.mark.parametrize(
    ("operator", "arrays", "options", "words"),
    [
        ("TopK", [draw(3), np.array([4])], {}, "needs a K from 1"),
        ("ArgMax", [draw(3)], {"select_last_index": 1}, "the last of several equal"),
        ("And", [draw(3), draw(3)], {}, "takes truth values as input; it gets floats"),
    ],
)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)


def test_integers_of_computed_floats_are_refused():
    nodes = [node("Exp", "x", "e"), node("Cast", "e", "i", to=7), node("Gather", "x i")]
    errors = list_errors(make_file(nodes, {"x": (FLOAT, [2])}))
    assert errors["/graph/node/1"].startswith("Cast 'i' makes INT64 of values that the model computes")


def test_a_selection_by_order_is_compared_with_another_one():
    assert measure_operator_error("ReduceMax", A) == 0
    nodes = [node("TopK", "a k", "v i", largest=1), node("Identity", "v")]
    other = [node("TopK", "a k", "v i", largest=0), node("Identity", "v")]
    files = [make_file(part, initialisers={"a": A, "k": np.array([1])}) for part in (nodes, other)]
    assert measure_error(*files) > 0.01
