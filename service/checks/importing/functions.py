"""The bodies that ONNX itself declares for operators which are compositions of others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from service.checks.importing.values import Known, Value

_MAX_NODE_BYTES = 2**20
"""Bytes of a node, with its attributes, whose body is asked for."""
_OPTIONAL = b""


def find_function(node: onnx.NodeProto, opset: int, inputs: Sequence[bytes] | None) -> onnx.FunctionProto | None:
    """Return the body of an operator of ONNX; None without one.

    Parameters
    ----------
    node
        Node of the operator.
    opset
        Version of the operators.
    inputs
        Types of the inputs, as `make_function_inputs` returns them; None to learn only whether there is a body.
    """
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        versions = [version for version in schema.function_opset_versions if version <= opset]
        if versions:
            return onnx.FunctionProto.FromString(schema.get_function_with_opset_version(max(versions)))
    if not schema.has_context_dependent_function:
        return None
    if inputs is None:
        return onnx.FunctionProto(name=node.op_type)
    return _build_function(schema, node, opset, inputs)


def _build_function(
    schema: Any, node: onnx.NodeProto, opset: int, inputs: Sequence[bytes]
) -> onnx.FunctionProto | None:
    """Return the body for some types of inputs; None if there is none for these."""
    versions = [version for version in schema.context_dependent_function_opset_versions if version <= opset]
    if not versions or node.ByteSize() > _MAX_NODE_BYTES:
        return None
    try:
        body = schema.get_context_dependent_function_with_opset_version(
            max(versions), node.SerializeToString(), list(inputs)
        )
    except Exception:  # noqa: BLE001  # the library raises errors of several kinds for nodes without a body
        return None
    return onnx.FunctionProto.FromString(body) if body else None


def make_function_inputs(values: Sequence[Value | None]) -> list[bytes]:
    """Return the types of some inputs, serialized; floats of nodes count as float32."""
    return [_OPTIONAL if value is None else _make_type(value).SerializeToString() for value in values]


def _make_type(value: Value) -> onnx.TypeProto:
    dtype = value.array.dtype if isinstance(value, Known) else np.dtype(np.float32)
    data_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_tensor_type_proto(data_type, value.shape)
