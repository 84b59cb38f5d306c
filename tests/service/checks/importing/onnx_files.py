"""Small ONNX files for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
