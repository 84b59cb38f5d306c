"""The node cases of ONNX's backend test that have something to differentiate."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.onnx_case_runs import FLOATS, NodeCase
from service.checks.importing.stored_tensors import INTEGER_TYPES

NOT_DIFFERENTIABLE = {
    "results that are no floats, or constant between jumps": (
        "And ArgMax ArgMin BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Equal Floor Greater "
        "GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual NonMaxSuppression NonZero Not Or Round Shape Sign Size Xor"
    ),
    "quantised numbers": (
        "ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul QuantizeLinear"
    ),
    "random numbers": "Bernoulli RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial",
    "no input of floats, or a shape that the values decide": (
        "BlackmanWindow Constant ConstantOfShape EyeLike HammingWindow HannWindow ImageDecoder MelWeightMatrix Range "
        "Unique"
    ),
    "text, sequences and optional values": (
        "OptionalGetElement OptionalHasElement RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase "
        "SequenceInsert SequenceLength SequenceMap SplitToSequence StringConcat StringNormalizer StringSplit "
        "TfIdfVectorizer ConcatFromSequence"
    ),
}
"""Operators without a derivative, by the reason."""
KINDS = (*FLOATS, *INTEGER_TYPES, onnx.TensorProto.BOOL)
"""Types of tensors: floats of 16 bits and more, integers of 8 bits and more, and truth values."""
_EXCLUDED = {name for names in NOT_DIFFERENTIABLE.values() for name in names.split()}
_EXPANDED = re.compile(r"_expanded(_ver\d+|_function)?$|_function$")


def choose_cases(cases: Iterable[NodeCase]) -> list[NodeCase]:
    """Return the cases of differentiable operators of ONNX's own domain, from and to floats.

    A case whose operator is written out counts if the operator itself does.
    """
    listed = list(cases)
    operators = {case.name: {node.op_type for node in case.model.graph.node} for case in listed}
    return [case for case in listed if _is_numeric(case) and _is_finite(case) and _is_differentiable(case, operators)]


def _is_numeric(case: NodeCase) -> bool:
    """Return whether a case has an input and an output of floats, tensors alone, and operators of ONNX's domain."""
    graph = case.model.graph
    kinds = [value.type.WhichOneof("value") for value in (*graph.input, *graph.output)]
    return (
        set(kinds) == {"tensor_type"}
        and _has_floats(graph.input)
        and _has_floats(graph.output)
        and all(value.type.tensor_type.elem_type in KINDS for value in (*graph.input, *graph.output))
        and all(node.domain in ("", "ai.onnx") for node in graph.node)
    )


def _is_finite(case: NodeCase) -> bool:
    """Return whether no input holds NaN or infinity; minus infinity hides elements of a mask."""
    arrays = [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else np.asarray(v) for v in case.inputs]
    floats = [array.astype(np.float64) for array in arrays if array.dtype.kind not in "biu"]
    return not any((np.isnan(array) | np.isposinf(array)).any() for array in floats)


def _has_floats(values: Sequence[onnx.ValueInfoProto]) -> bool:
    return any(value.type.tensor_type.elem_type in FLOATS for value in values)


def _is_differentiable(case: NodeCase, operators: dict[str, set[str]]) -> bool:
    """Return whether the operators of a case, or that which it writes out, have a derivative."""
    own = operators.get(_EXPANDED.sub("", case.name), operators[case.name])
    return bool(own - _EXCLUDED) and (not own & _EXCLUDED or len(own) > 1)
