"""An ONNX file becomes a request whose loss and gradients are those of the file."""

import numpy as np
import onnx
import pytest
from onnx import helper

from service.checks.common.limits import Limits
from service.checks.graph.check import check
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    INT64,
    list_errors,
    make_classifier,
    make_file,
    make_graph,
    node,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases


def test_a_classifier_passes_a_check():
    imported = run_import(make_classifier())
    assert list(imported.weights) == ["table", "fc1.weight", "fc1.bias", "fc2.weight"]
    assert [entry["op"] for entry in imported.fields["model"]["nodes"]] == [
        *("embedding", "mean", "linear", "relu", "matmul", "cross_entropy"),
    ]
    assert check(imported.document)["outcome"] == "pass"


def test_the_loss_may_be_a_value_of_the_model():
    nodes = [node("Exp", "x", "/a/Exp"), node("Unique", "/a/Exp")]
    content = make_file(nodes, {"x": (FLOAT, [2])})
    assert list_errors(content) == {
        "/graph/node/1": "Unique is not among the operators that are taken. The part of the model up to '/a/Exp' "
        "can be checked alone: loss=/a/Exp"
    }
    for name in ("/a/Exp", "a.Exp"):
        assert [entry["op"] for entry in run_import(content, loss=name).fields["model"]["nodes"]] == [
            "exp",
            "mul",
            "sum",
        ]
    assert "did you mean '/a/Exp'?" in list_errors(content, loss="/a/Exq")[""]


X = {"x": (FLOAT, [2, 3])}
EXTERNAL = onnx.ModelProto.FromString(make_file([node("Add", "x w")], X, initialisers={"w": np.zeros(3, np.float32)}))
EXTERNAL.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
HUGE = onnx.ModelProto.FromString(make_file([node("Add", "x w")], X, initialisers={"w": np.zeros(3, np.float32)}))
HUGE.graph.initializer[0].dims[:] = [2**40, 2**40]
SHORT = onnx.ModelProto.FromString(make_file([node("Add", "x w")], X, initialisers={"w": np.zeros(3, np.float32)}))
SHORT.graph.initializer[0].dims[:] = [4]
TWICE = onnx.ModelProto.FromString(make_file([node("Exp", "x")], X))
TWICE.graph.input.add().CopyFrom(TWICE.graph.input[0])
SPARSE = onnx.ModelProto.FromString(make_file([node("Add", "x w")], X))
SPARSE.graph.sparse_initializer.append(
    helper.make_sparse_tensor(helper.make_tensor("w", 1, [1], [1.0]), helper.make_tensor("i", 7, [1], [0]), [3])
)
TEXT = onnx.ModelProto.FromString(make_file([node("Add", "x w")], X))
TEXT.graph.initializer.append(helper.make_tensor("w", onnx.TensorProto.STRING, [1], [b"a"]))
BRANCH = helper.make_node(
    "If",
    ["c"],
    ["y"],
    then_branch=make_graph([node("Exp", "x", "t")], [], ["t"]),
    else_branch=make_graph([node("Sin", "x", "t")], [], ["t"]),
)


def make_nested(levels):
    """Return a file whose graphs lie in nodes of one another."""
    message = b""
    # The numbers of the fields g, attribute, node, and of the graph of a file.
    for field in (*(6, 5, 1) * levels, 7):
        length, digits = len(message), []
        while length > 127:
            digits.append(length & 127 | 128)
            length >>= 7
        message = bytes([field << 3 | 2, *digits, length]) + message
    return onnx.ModelProto(ir_version=8).SerializeToString() + message


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
    "cycle": (make_file([node("Add", "x b", "a"), node("Exp", "a", "b")], X, ["b"]), "/graph/node/0", "form a cycle"),
    "unknown name": (make_file([node("Add", "x b")], X), "/graph/node/0", "reads 'b', which is no input"),
    "input twice": (TWICE.SerializeToString(), "/graph/input/1", "two inputs are named 'x'"),
    "sparse": (SPARSE.SerializeToString(), "/graph/sparse_initializer/0", "the tensor 'w' is sparse"),
    "nested": (make_nested(300), "", "more than 64 deep"),
    "condition on data": (
        make_file(
            [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"), BRANCH],
            X,
            initialisers={"zero": np.array(0, np.float32)},
        ),
        "/graph/node/2",
        "needs a constant condition",
    ),
    "text inside": (TEXT.SerializeToString(), "/graph/initializer/0", "has the type STRING"),
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


LIMITED = {
    "nodes": (Limits(nodes=3), "more than 3 nodes"),
    "elements": (Limits(elements=40), "more than 40"),
    "names": (Limits(names=2), "more than 2 tensors"),
}


@pytest.mark.parametrize(("limits", "words"), LIMITED.values(), ids=LIMITED)
def test_the_limits_of_a_request_hold(limits, words):
    assert any(words in detail for detail in list_errors(make_classifier(), limits).values())


def test_a_limit_names_the_node_that_exceeds_it():
    tile = node("Tile", "x r")
    tile.name = "/layers.0/Tile"
    errors = list_errors(make_file([tile], X, initialisers={"r": np.array([2**40, 1])}))
    assert errors["/graph"].startswith("a tensor would have more than")
    assert errors["/graph"].endswith(", at Tile '/layers.0/Tile'. Take a smaller model")


def test_advice_names_no_value_that_two_nodes_make():
    nodes = [node("Exp", "x", "a"), node("Exp", "x", "y"), node("Sin", "a", "y")]
    assert list_errors(make_file(nodes, X))["/graph/node/2"].endswith("checked alone: loss=a")


def test_a_request_that_a_check_refuses_names_its_node():
    select = node("Pad", "x p f", "/layers.0/Pad_output_0")
    arrays = {"p": np.array([0, 0, 0, 1]), "f": np.array(np.nan, np.float32)}
    errors = list_errors(make_file([select], X, ["/layers.0/Pad_output_0"], arrays))
    assert errors["/graph"].startswith("becomes a request that is refused: node 'layers.0.Pad' (pad): value must be")
