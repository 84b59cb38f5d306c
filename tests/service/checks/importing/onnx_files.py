"""Small ONNX files for tests, their imports, and the values that ONNX's reference evaluator has for them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.parse import parse_problem
from service.checks.importing.graph_writer import GraphWriter
from service.checks.importing.import_model import ImportedModel, import_model
from service.checks.importing.import_options import ImportOptions
from service.checks.importing.operator_registry import NodeCall

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def make_file(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[Any] | None]] | None = None,
    outputs: Sequence[str] = ("y",),
    initialisers: Mapping[str, Any] | None = None,
    opset: int = 21,
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    """Return a file of nodes, with inputs by name as type and shape."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, *entry) for name, entry in (inputs or {}).items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (initialisers or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(f.domain, 1) for f in functions)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions)).SerializeToString()


def node(op_type: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """Return a node; names are separated by spaces, `-` for one that is left out."""
    names = [["" if name == "-" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op_type, *names, **attributes)


def make_classifier() -> bytes:
    """Return a file of two layers, cross-entropy and an embedding of indices."""
    rng = np.random.default_rng(3)
    return make_file(
        [
            node("Gather", "table ids", "words"),
            node("ReduceMean", "words axes", "mean", keepdims=0),
            node("Gemm", "mean fc1.weight fc1.bias", "/fc1/Gemm_output_0", transB=1),
            node("Relu", "/fc1/Gemm_output_0", "hidden"),
            node("MatMul", "hidden fc2.weight", "scores"),
            node("SoftmaxCrossEntropyLoss", "scores labels", "loss"),
        ],
        {"ids": (INT64, [4, 6]), "labels": (INT64, [4])},
        ["loss"],
        {
            "table": rng.normal(size=(11, 5)).astype(np.float32),
            "axes": np.array([1]),
            "fc1.weight": rng.normal(size=(7, 5)).astype(np.float32),
            "fc1.bias": rng.normal(size=7).astype(np.float32),
            "fc2.weight": rng.normal(size=(7, 3)).astype(np.float32),
        },
    )


def run_import(content: bytes, limits: Limits | None = None, **options: Any) -> ImportedModel:
    """Import a file with some options."""
    return import_model(content, ImportOptions(**options), limits)


def evaluate(imported: ImportedModel) -> dict[str, Any]:
    """Return the values of all tensors and nodes of a request, by name."""
    _, problem = parse_problem(json.loads(json.dumps(imported.document)), Limits(), model_language.parse_check_request)
    values = dict(problem.float64_leaves) | dict(problem.graph.forward(problem.float64_leaves))
    return {name: array[0] for name, array in values.items()}


def list_errors(content: bytes, limits: Limits | None = None, **options: Any) -> dict[str, str]:
    """Return the errors of an import by their places."""
    with pytest.raises(InvalidRequestError) as caught:
        run_import(content, limits, **options)
    return {entry["pointer"]: entry["detail"] for entry in caught.value.errors}


def make_graph(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]) -> onnx.GraphProto:
    """Return a graph for the inside of a node."""
    values = [[helper.make_tensor_value_info(name, FLOAT, None) for name in names] for names in (inputs, outputs)]
    return helper.make_graph(nodes, "body", *values)


def make_call(
    operator: str, *inputs: Any, opset: int = 21, output_count: int = 1, limits: Limits | None = None, **attributes: Any
) -> NodeCall:
    """Return one use of an operator with a writer of its own."""
    return NodeCall(operator, inputs, attributes, output_count, opset, GraphWriter(limits or Limits()))


def draw(*shape: int, low: float | None = None, seed: int = 0) -> Any:
    """Return normal numbers, or numbers from a bound to 1 above it."""
    rng = np.random.default_rng([seed, *shape])
    return rng.normal(size=shape) if low is None else rng.uniform(low, low + 1, shape)


def make_operator_file(
    operator: str, arrays: Sequence[Any], opset: int = 21, output_count: int = 1, **attributes: Any
) -> bytes:
    """Return a file of one node whose inputs are initialisers; None for an input that is left out."""
    names = ["" if array is None else f"i{position}" for position, array in enumerate(arrays)]
    outputs = [f"y{position}" for position in range(output_count)]
    known = {name: np.asarray(array) for name, array in zip(names, arrays, strict=True) if name}
    return make_file([helper.make_node(operator, names, outputs, **attributes)], {}, outputs, known, opset)


def measure_error(content: bytes, reference: bytes | None = None) -> float:
    """Return the largest error of the outputs of an import, as a part of 1 or of the largest value.

    Parameters
    ----------
    content
        File.
    reference
        File for the reference evaluator; the same one by default.
    """
    imported = run_import(content)
    values = evaluate(imported)
    expected = ReferenceEvaluator(onnx.ModelProto.FromString(reference or content)).run(None, {})
    errors = [0.0]
    for name, array in zip(imported.outputs, expected, strict=False):
        value = values[imported.outputs[name]]
        assert value.shape == array.shape
        errors.append(np.abs(value - array).max() / max(1.0, np.abs(array).max()))
    return max(errors)


def measure_operator_error(operator: str, *arrays: Any, **options: Any) -> float:
    """Return the largest error of an operator, whose inputs are initialisers."""
    return measure_error(make_operator_file(operator, arrays, **options))


def find_refusal(operator: str, *arrays: Any, **options: Any) -> str:
    """Return the error of an operator that is not taken."""
    return next(iter(list_errors(make_operator_file(operator, arrays, **options)).values()))


def evaluate_operator(operator: str, *arrays: Any, **options: Any) -> Any:
    """Return the first output of an operator, whose inputs are initialisers."""
    imported = run_import(make_operator_file(operator, arrays, **options))
    return evaluate(imported)[imported.outputs["y0"]]
