"""An ONNX file becomes a request whose loss and gradients are those of the file."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.check import check
from service.checks.graph.parse import parse_problem
from service.checks.importing.import_model import import_model
from service.checks.importing.import_options import ImportOptions, parse_options
from tests.service.checks.importing.onnx_files import BOOL, FLOAT, INT64, make_classifier, make_file, node


def run_import(content, limits=None, **options):
    return import_model(content, ImportOptions(**options), limits)


def evaluate(imported):
    """Return the values of all tensors and nodes of a request, by name."""
    _, problem = parse_problem(json.loads(json.dumps(imported.document)), Limits(), model_language.parse_check_request)
    values = dict(problem.float64_leaves) | dict(problem.graph.forward(problem.float64_leaves))
    return {name: array[0] for name, array in values.items()}


def list_errors(content, limits=None, **options):
    with pytest.raises(InvalidRequestError) as caught:
        run_import(content, limits, **options)
    return {entry["pointer"]: entry["detail"] for entry in caught.value.errors}


def test_a_classifier_passes_a_check():
    imported = run_import(make_classifier())
    assert list(imported.weights) == ["table", "fc1.weight", "fc1.bias", "fc2.weight"]
    assert [entry["op"] for entry in imported.fields["model"]["nodes"]] == [
        *("embedding", "mean", "linear", "relu", "matmul", "cross_entropy"),
    ]
    assert check(imported.document)["outcome"] == "pass"


def test_indices_lie_in_the_range_of_the_axis_that_they_index():
    imported = run_import(make_classifier())
    ids, labels = (imported.tensors[name].array for name in ("ids", "labels"))
    assert ids.min() >= 0
    assert 1 < ids.max() < 11
    assert set(labels.tolist()) <= {0, 1, 2}


def test_the_values_of_inputs_follow_from_the_seed_and_the_name_alone():
    content = make_file([node("Add", "a b")], {"a": (FLOAT, [3]), "b": (FLOAT, [3])})
    first, again, other = (run_import(content, seed=seed).tensors["a"].array for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    alone = run_import(make_file([node("Relu", "a")], {"a": (FLOAT, [3])}), seed=1).tensors["a"].array
    np.testing.assert_array_equal(first, alone)


def test_an_output_is_contracted_with_random_numbers():
    imported = run_import(make_file([node("Exp", "x")], {"x": (FLOAT, [2, 3])}))
    values = evaluate(imported)
    np.testing.assert_allclose(values["loss"], (np.exp(values["x"]) * values["y_cotangent"]).sum(), rtol=1e-14)
    assert "random cotangents" in imported.note
    assert imported.fields["with_respect_to"] == ["x"]


def test_the_loss_may_be_a_value_of_the_model():
    nodes = [node("Exp", "x", "/a/Exp"), node("GridSample", "/a/Exp g")]
    content = make_file(nodes, {"x": (FLOAT, [2]), "g": (FLOAT, [2])})
    assert list_errors(content) == {
        "/graph/node/1": "GridSample is not among the operators that are taken. The part of the model up to '/a/Exp' "
        "can be checked alone: loss=/a/Exp"
    }
    for name in ("/a/Exp", "a_Exp"):
        assert [entry["op"] for entry in run_import(content, loss=name).fields["model"]["nodes"]] == [
            "exp",
            "mul",
            "sum",
        ]
    assert "did you mean '/a/Exp'?" in list_errors(content, loss="/a/Exq")[""]


def test_several_outputs_are_added():
    nodes = [node("Exp", "x", "a"), node("Sin", "x", "b")]
    values = evaluate(run_import(make_file(nodes, {"x": (FLOAT, [2])}, ["a", "b"])))
    parts = [(values[name] * values[f"{name}_cotangent"]).sum() for name in ("a", "b")]
    np.testing.assert_allclose(values["loss"], sum(parts), rtol=1e-14)


def test_names_follow_the_rule():
    nodes = [node("Exp", "x/1", "/m/Exp"), node("Sin", "/m/Exp", "m_Exp"), node("Cos", "m_Exp", "3")]
    imported = run_import(make_file(nodes, {"x/1": (FLOAT, [1])}, ["3"]))
    assert [entry["name"] for entry in imported.fields["model"]["nodes"]] == ["m_Exp", "m_Exp_2", "_3"]
    assert list(imported.tensors) == ["x_1"]


def test_arithmetic_of_shapes_is_computed_at_the_import():
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Unsqueeze", "batch axes", "first"),
        node("Concat", "first minus", "target", axis=0),
        node("Reshape", "x target"),
    ]
    known = {"zero": np.array(0), "axes": np.array([0]), "minus": np.array([-1])}
    imported = run_import(make_file(nodes, {"x": (FLOAT, [2, 3, 5])}, initialisers=known))
    assert imported.fields["model"]["nodes"][0] == {"name": "y", "op": "reshape", "inputs": ["x"], "shape": [2, 15]}


def test_a_function_of_the_file_is_written_out():
    body = [node("Mul", "a a", "square"), node("Add", "square b", "c")]
    square = helper.make_function("own", "SquareAdd", ["a", "b"], ["c"], body, [helper.make_opsetid("", 21)])
    call = helper.make_node("SquareAdd", ["x", "x"], ["y"], domain="own")
    values = evaluate(run_import(make_file([call], {"x": (FLOAT, [3])}, functions=[square])))
    np.testing.assert_allclose(values["y"], values["x"] ** 2 + values["x"], rtol=1e-15)


def make_graph(nodes, inputs, outputs):
    values = [[helper.make_tensor_value_info(name, FLOAT, None) for name in names] for names in (inputs, outputs)]
    return helper.make_graph(nodes, "body", *values)


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


def test_a_mask_of_minus_infinity_hides_scores():
    nodes = [node("Add", "x mask", "scores"), node("Softmax", "scores", "p"), node("IsNaN", "p", "nan"),
             node("Where", "nan zero p", "y")]  # fmt: skip
    known = {"mask": np.array([[0, -np.inf, 1], [0, 0, -np.inf]], np.float32), "zero": np.zeros((), np.float32)}
    values = evaluate(run_import(make_file(nodes, {"x": (FLOAT, [2, 3])}, initialisers=known)))
    exponentials = np.exp(values["x"] + known["mask"])
    np.testing.assert_allclose(values["y"], exponentials / exponentials.sum(1, keepdims=True), rtol=1e-14)


def test_a_search_for_infinities_behind_a_hidden_row_is_refused():
    nodes = [node("Add", "x mask", "scores"), node("Softmax", "scores", "p"), node("IsNaN", "p", "nan"),
             node("Where", "nan zero p", "y")]  # fmt: skip
    known = {"mask": np.full((2, 3), -np.inf, np.float32), "zero": np.zeros((), np.float32)}
    errors = list_errors(make_file(nodes, {"x": (FLOAT, [2, 3])}, initialisers=known))
    assert "hides all of a row" in errors["/graph/node/2"]


X = {"x": (FLOAT, [2, 3])}
EXTERNAL = onnx.ModelProto.FromString(make_file([node("Add", "x w")], X, initialisers={"w": np.zeros(3, np.float32)}))
EXTERNAL.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
HUGE = onnx.ModelProto.FromString(make_file([node("Add", "x w")], X, initialisers={"w": np.zeros(3, np.float32)}))
HUGE.graph.initializer[0].dims[:] = [2**40, 2**40]
SHORT = onnx.ModelProto.FromString(make_file([node("Add", "x w")], X, initialisers={"w": np.zeros(3, np.float32)}))
SHORT.graph.initializer[0].dims[:] = [4]
RECURSIVE = helper.make_function(
    "own", "F", ["a"], ["b"], [helper.make_node("F", ["a"], ["b"], domain="own")], [helper.make_opsetid("own", 1)]
)
TRUE = np.array(True)
ENDLESS = make_graph([node("Identity", "go", "on"), node("Exp", "s", "t")], ["i", "go", "s"], ["on", "t"])

REFUSED = {
    "nothing": (b"", "", "the body is empty"),
    "text": (b"hello", "", "is no ONNX file"),
    "cut off": (make_classifier()[:-5], "", "cut off"),
    "no graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "", "has no graph"),
    "old": (make_file([node("Relu", "x")], X, opset=6), "/opset_import", "7 to "),
    "of the future": (make_file([node("Relu", "x")], X, opset=999), "/opset_import", "has opset 999"),
    "dynamic": (make_file([node("Relu", "x")], {"x": (FLOAT, ["batch", 3])}), "/graph/input/0", "axis 0 ('batch')"),
    "without shape": (make_file([node("Relu", "x")], {"x": (FLOAT, None)}), "/graph/input/0", "has no shape"),
    "text input": (make_file([node("Relu", "x")], {"x": (8, [2])}), "/graph/input/0", "has the type STRING"),
    "external data": (EXTERNAL.SerializeToString(), "/graph/initializer/0", "external data"),
    "declared huge": (HUGE.SerializeToString(), "/graph/initializer/0", "more than 2097152 elements"),
    "declared larger": (SHORT.SerializeToString(), "/graph/initializer/0", "do not fit its shape [4]"),
    "large input": (make_file([node("Relu", "x")], {"x": (FLOAT, [2**30])}), "/graph/input/0", "more than 2097152"),
    "other domain": (
        make_file([helper.make_node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft")], X),
        "/graph/node/0",
        "com.microsoft.FusedMatMul is of another domain",
    ),
    "unknown operator": (make_file([node("Frobnicate", "x")], X), "/graph/node/0", "is no operator of ONNX"),
    "cycle": (make_file([node("Add", "x b", "a"), node("Exp", "a", "b")], X, ["b"]), "/graph/node/0", "reads 'b'"),
    "unknown output": (make_file([node("Relu", "x")], X, ["z"]), "/graph", "'z' is made by no node"),
    "name twice": (make_file([node("Exp", "x"), node("Sin", "x")], X), "/graph/node/1", "two values are named 'y'"),
    "NaN": (
        make_file([node("Mul", "x w")], X, initialisers={"w": np.array([np.nan], np.float32)}),
        "/graph/node/0",
        "'w', which holds NaN",
    ),
    "function of itself": (
        make_file([helper.make_node("F", ["x"], ["y"], domain="own")], X, functions=[RECURSIVE]),
        "/graph/node/0",
        "which uses itself",
    ),
    "no end": (
        make_file([helper.make_node("Loop", ["", "c", "x"], ["y"], body=ENDLESS)], X, initialisers={"c": TRUE}),
        "/graph",
        "more than",
    ),
    "huge constant": (
        make_file(
            [node("ConstantOfShape", "s", "big"), node("Reshape", "x big")], X, initialisers={"s": np.array([2**40])}
        ),
        "/graph",
        "more than 2097152 elements",
    ),
    "shape of an input": (
        make_file([node("Reshape", "x s")], {**X, "s": (INT64, [2])}), "/graph/node/0", "follows from the input 's'",
    ),
    "wrong attribute": (make_file([node("Concat", "x x", axis="one")], X), "/graph/node/0", "has the axis one"),
    "shapes": (
        make_file([node("MatMul", "x x")], X), "/graph/node/0", "MatMul 'y' becomes matmul, which takes",
    ),
    "nothing to differentiate": (make_file([node("Shape", "x")], X), "/graph", "nothing to differentiate"),
    "random": (
        make_file(
            [node("Dropout", "x r t")], X, initialisers={"r": np.array(0.5, np.float32), "t": np.array(True)}
        ),
        "/graph/node/0",
        "at random",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "pointer", "words"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_imported_gets_one_clear_error(content, pointer, words):
    errors = list_errors(content)
    assert list(errors) == [pointer]
    assert words in errors[pointer]


def test_every_unsupported_operator_is_listed_once_with_its_nodes():
    nodes = [
        node("GridSample", "x x", "a"),
        node("GridSample", "a x", "b"),
        node("TopK", "b k", "c i"),
        node("Exp", "c"),
    ]
    errors = list_errors(make_file(nodes, X, initialisers={"k": np.array([1])}))
    assert {pointer: detail.split(".")[0] for pointer, detail in errors.items()} == {
        "/graph/node/0": "GridSample is not among the operators that are taken (2 nodes: 'a', 'b')",
        "/graph/node/2": "TopK is not among the operators that are taken",
    }


LIMITED = {
    "nodes": (Limits(nodes=3), "more than 3 nodes"),
    "elements": (Limits(elements=40), "more than 40"),
    "names": (Limits(names=2), "more than 2 tensors"),
}


@pytest.mark.parametrize(("limits", "words"), LIMITED.values(), ids=LIMITED)
def test_the_limits_of_a_request_hold(limits, words):
    assert any(words in detail for detail in list_errors(make_classifier(), limits).values())


def test_a_file_of_many_empty_parts_is_refused_before_it_is_parsed():
    # A million empty nodes: two bytes each in the file.
    graph = b"\x0a\x00" * 10**6
    length = bytes(
        [len(graph) & 127 | 128, len(graph) >> 7 & 127 | 128, len(graph) >> 14 & 127 | 128, len(graph) >> 21]
    )
    assert "more than 220000 parts" in list_errors(b"\x3a" + length + graph)[""]


@pytest.mark.parametrize("query", [{"seed": "-1"}, {"seed": "1e3"}, {"seed": str(2**63)}, {"loss": ""}, {"lss": "y"}])
def test_wrong_options_are_refused(query):
    with pytest.raises(InvalidRequestError):
        parse_options(query)
    assert parse_options({"seed": "7", "loss": "y"}) == ImportOptions("y", 7)
