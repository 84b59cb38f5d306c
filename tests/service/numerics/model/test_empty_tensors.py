"""Tensors without elements, against PyTorch: shapes, values, gradients."""

import warnings

import numpy as np
import pytest
import torch

from schemas.problem_details import InvalidRequestError
from service.checks.graph import model_language
from service.checks.graph.check import check
from service.numerics.core.batching import add_batch_axis
from service.numerics.model.empty_tensors import remove_empty_tensors
from service.numerics.model.graph import Graph, InvalidModelError, Node
from service.numerics.ops import OP_REGISTRY
from tests.service.checks.graph.test_text_form import build_graph

pytestmark = pytest.mark.covers_by_cases

EMPTY = {"datatype": "FP64", "shape": [0, 2], "data": []}


def run(model, tensors, weights, **fields):
    return check({"tensors": tensors, "weights": weights, "model": model} | fields)


MODELS = {
    "a batch of no samples": ("h = linear(x, w, b)\nloss = sum(h)", {"x": EMPTY}, {"w": [[1.0, 2.0]], "b": [1.0]}),
    "a product over nothing": (
        "h = matmul(x, e)\nh2 = add(h, b)\nh3 = tanh(h2)\nloss = sum(h3)",
        {"x": [[], []], "e": {"datatype": "FP32", "shape": [0, 3], "b64": ""}},
        {"b": [1.0, 2.0, 3.0]},
    ),
    "beside others": (
        "h = cat([x, w], dim=1)\nh2 = sin(h)\nloss = mean(h2)",
        {"x": [[], []]},
        {"w": [[1.0, 2.0], [-3.0, 4.0]]},
    ),
    "no words": ("e = embedding(i, w)\nloss = sum(e)", {"i": []}, {"w": [[1.0, 2.0], [3.0, 4.0]]}),
    "a loss of nothing": (
        'l = mse_loss(x, y, reduction="sum")\ns = sum(w)\nloss = add(l, s)',
        {"x": [], "y": []},
        {"w": [1.0, 2.0]},
    ),
    "behind a weight": ("h = mul(x, w)\nh2 = exp(h)\ns = sum(h2)\nt = sin(w)\nloss = add(s, t)", {"x": []}, {"w": 0.5}),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", MODELS)
def test_weights_beside_empty_tensors_are_judged(case, dtype):
    report = run(*MODELS[case], dtype=dtype, include=["gradients", "intermediates"])
    assert report["outcome"] == "pass"
    assert set(report["intermediates"]) == {line.partition(" = ")[0] for line in MODELS[case][0].split("\n")[:-1]}
    name = next(iter(report["gradients"]))
    wrong = np.asarray(report["gradients"][name]["analytic"]) + 1.0
    model, tensors, weights = MODELS[case]
    assert (
        run(model, tensors, weights, dtype=dtype, candidate={name: wrong.tolist()})["verdicts"][name]["outcome"]
        == "fail"
    )


@pytest.mark.parametrize("encoding", ["nested", "b64"])
def test_empty_weight_has_no_elements_to_judge(encoding):
    text = "h = mul(e, 2)\ns = sum(h)\nt = sum(w)\nloss = add(s, t)"
    weights = {"e": [[], []], "w": [1.0, 2.0]}
    report = run(text, {}, weights, candidate={"e": [[], []], "w": [1.0, 1.0]}, encoding=encoding)
    assert report["outcome"] == "pass"
    verdict = report["verdicts"]["e"]
    assert verdict["elements"] == {
        "total": 0,
        "pass": 0,
        "fail": 0,
        "inconclusive": 0,
        "not_examined": 0,
        "negligible": 0,
    }
    assert verdict["outcome"] == "pass"
    expected = [[], []] if encoding == "nested" else {"datatype": "FP64", "shape": [2, 0], "b64": ""}
    assert np.array_equal(report["gradients"]["e"]["candidate"], expected) or encoding == "b64"
    assert report["discrepancies"]["e"]["candidate_vs_analytic"]["max_abs"] == 0
    wrong = run(text, {}, weights, candidate={"e": [1.0]})
    assert wrong["outcome"] == wrong["verdicts"]["e"]["outcome"] == "fail"
    assert "[1] instead of [2, 0]" in wrong["verdicts"]["e"]["reason"]
    assert "candidate_vs_analytic" not in wrong["discrepancies"]["e"]


def test_nothing_at_all_to_judge_is_refused():
    with pytest.raises(InvalidRequestError) as error:
        run("loss = sum(w)", {}, {"w": []})
    (placed,) = error.value.errors
    assert placed["pointer"] == "/with_respect_to"
    assert "'w' has no elements" in placed["detail"]


REFUSED = {
    "h = amax(x, dim=0)\nloss = sum(h)": "takes no tensor without elements in this place; 'x' has shape [0, 2]",
    "t = transpose(x, 0, 1)\nh = linear(t, x)\nh2 = linear(h, h, h)\nloss = sum(h2)": "takes",
    "h = max_pool2d(x, 1)\nloss = sum(h)": "takes",
}


@pytest.mark.parametrize("text", REFUSED)
def test_place_that_takes_no_empty_tensor_is_named(text):
    with pytest.raises(InvalidRequestError) as error:
        run(text, {"x": EMPTY}, {}, with_respect_to=["x"])
    assert error.value.errors[0]["pointer"] == "/model"
    assert REFUSED[text] in error.value.errors[0]["detail"]


def test_empty_tensor_of_too_long_axes_is_refused():
    with pytest.raises(InvalidRequestError) as error:
        run("loss = sum(x)", {"x": {"datatype": "FP64", "shape": [0, 2**60], "data": []}}, {})
    assert "empty, and too long" in error.value.errors[0]["detail"]


def test_graph_without_empty_tensors_is_the_same():
    graph = build_graph("z = linear(x, w, b)\nloss = mse_loss(z, y)")
    assert remove_empty_tensors(graph) is graph


def list_empty_examples(name):
    """Return the examples of an op with one of its lengths as 0, wherever it stands."""
    for example in OP_REGISTRY[name].examples:
        lengths = {length for shape in example.input_shapes if shape for length in shape}
        for length in sorted(lengths):
            shapes = [shape and tuple(0 if n == length else n for n in shape) for shape in example.input_shapes]
            if any(0 in shape for shape in shapes if shape):
                yield example, shapes


def make_operand(shape, slot, example):
    if slot.kinds == ("index",) or slot.name in example.index_limits:
        return np.zeros(shape, np.int64)
    if slot.kinds == ("bool",) or slot.name in example.bool_slots:
        return np.ones(shape, np.bool_)
    return np.full(shape, 0.75)


def run_pytorch(op, arrays):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return op.torch_forward(torch, *(None if array is None else torch.tensor(array) for array in arrays))
        except (RuntimeError, IndexError, ValueError):
            return None


KEEPS_THE_SHAPE_IN_PYTORCH = {"addmv", "pixel_unshuffle"}
"""Functions that give an output without elements the shape of their input, whatever they do otherwise."""


UNINITIALISED_IN_PYTORCH = {"multi_margin_loss", "multilabel_margin_loss"}
"""Losses that give a batch of no samples a value that was in memory before."""


@pytest.mark.parametrize("name", sorted(OP_REGISTRY.keys() - KEEPS_THE_SHAPE_IN_PYTORCH))
def test_op_over_nothing_has_the_shape_and_the_value_of_pytorch(name):
    for example, shapes in list_empty_examples(name):
        op = OP_REGISTRY[name](**example.attributes)
        slots = (*op.slots, *[op.slots[-1]] * (len(shapes) - len(op.slots)))
        arrays = [None if s is None else make_operand(s, slot, example) for s, slot in zip(shapes, slots, strict=True)]
        leaves = {f"t{i}": array for i, array in enumerate(arrays) if array is not None}
        kinds = {leaf: {"i": "index", "b": "bool"}[a.dtype.kind] for leaf, a in leaves.items() if a.dtype.kind in "ib"}
        operands = tuple(None if array is None else f"t{i}" for i, array in enumerate(arrays))
        nodes = [Node("h", op, operands), Node("s", OP_REGISTRY["sum"](), ("h",))]
        nodes.append(Node("loss", OP_REGISTRY["add"](), ("s", "v")))
        leaf_shapes = {leaf: array.shape for leaf, array in leaves.items()}
        try:
            listed = Graph(nodes, {**leaf_shapes, "v": ()}, kinds).resolve_shape_defaults()
            graph = remove_empty_tensors(listed)
            graph.check_values(leaves)
        except InvalidModelError:
            continue
        # Some functions of PyTorch read beyond their memory for what is refused above.
        expected = run_pytorch(op, arrays)
        if expected is None or name in UNINITIALISED_IN_PYTORCH:
            continue
        assert graph.all_shapes["h"] == tuple(expected.shape), (example, shapes)
        full = {leaf: add_batch_axis(array) for leaf, array in leaves.items() if array.size}
        with np.errstate(all="ignore"):
            values = graph.forward({**full, "v": np.zeros((1,))})
        assert np.array_equal(values["s"][0], expected.sum().numpy(), equal_nan=True), (example, shapes)


@pytest.mark.parametrize("name", ["sum", "mean", "tanh", "add", "linear", "matmul", "einsum", "softmax", "mse_loss"])
def test_common_op_takes_a_batch_of_no_samples(name):
    texts = {
        "linear": "h = linear(x, w)", "matmul": "h = matmul(x, w)", "einsum": 'h = einsum("ij,jk->ik", x, w)',
        "add": "h0 = matmul(x, w)\nh = add(h0, w)", "softmax": "h0 = matmul(x, w)\nh = softmax(h0, -1)",
        "mse_loss": "h0 = matmul(x, w)\nh = mse_loss(h0, x, reduction='none')",
    }  # fmt: skip
    text = texts.get(name, f"h0 = matmul(x, w)\nh = {name}(h0)")
    weights = {"w": [[1.0, 2.0]] if name == "add" else [[1.0, 2.0], [3.0, 4.0]]}
    if name == "add":
        text = "h = add(x, w)"
    graph = build_graph(f"{text}\ns = sum(h)\nt = sum(w)\nloss = add(s, t)", {"x": EMPTY}, weights)
    assert graph.empty_shapes["x"] == (0, 2)
    assert model_language.graph_to_dict(graph)[0]["name"] in ("h", "h0")
