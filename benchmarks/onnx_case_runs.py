"""One node case of ONNX's backend test: bound, imported, and its values beside those that the case expects."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.parse import parse_problem
from service.checks.importing.import_model import import_model
from service.checks.importing.import_options import ImportOptions
from service.checks.importing.values import MASKED_SCORE

FLOATS = (onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
TOLERANCES = {
    onnx.TensorProto.DOUBLE: 1e-10,
    onnx.TensorProto.FLOAT: 1e-5,
    # The expected values themselves have these errors.
    onnx.TensorProto.FLOAT16: 2e-3,
    onnx.TensorProto.BFLOAT16: 2e-2,
}
"""Largest error of a value, in units of the largest value of its output or of 1, by the type of the output."""


class NodeCase(NamedTuple):
    """A case: its name, its model, and the values of inputs and outputs."""

    name: str
    model: onnx.ModelProto
    inputs: list[Any]
    outputs: list[Any]


@dataclass(frozen=True)
class CaseResult:
    """The result of a case.

    Attributes
    ----------
    name
        Name of the case.
    operators
        Operators of the case.
    refusal
        Errors of the import; empty if it was imported.
    errors
        Largest error of each output, in units of its tolerance.
    reference_errors
        The same beside the values of ONNX's reference evaluator; only where the expected values are others.
    """

    name: str
    operators: list[str]
    refusal: list[str]
    errors: dict[str, float]
    reference_errors: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def is_imported(self) -> bool:
        """Return whether the case was imported."""
        return not self.refusal

    @property
    def agrees(self) -> bool:
        """Return whether all outputs have their expected values."""
        return self.is_imported and bool(self.errors) and max(self.errors.values()) <= 1

    @property
    def agrees_with_reference(self) -> bool:
        """Return whether all outputs have other values than expected, and those of the reference evaluator."""
        return bool(self.reference_errors) and max(self.reference_errors.values()) <= 1


def bind_inputs(case: NodeCase) -> bytes:
    """Return the file of a case whose inputs are initialisers with the values of the case."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for value, array in zip(case.model.graph.input, case.inputs, strict=False):
        tensor = array if isinstance(array, onnx.TensorProto) else numpy_helper.from_array(np.asarray(array))
        tensor.name = value.name
        model.graph.initializer.append(tensor)
    return model.SerializeToString()


def run_case(case: NodeCase, limits: Limits | None = None) -> CaseResult:
    """Import a case, and compare the values of its outputs."""
    limits = limits or Limits()
    operators = sorted({node.op_type for node in case.model.graph.node})
    try:
        imported = import_model(bind_inputs(case), ImportOptions(), limits)
    except InvalidRequestError as error:
        return CaseResult(case.name, operators, [entry["detail"] for entry in error.errors], {})
    body = json.loads(json.dumps(imported.document))
    _, problem = parse_problem(body, limits, model_language.parse_check_request)
    with np.errstate(all="ignore"):
        values = dict(problem.float64_leaves) | dict(problem.graph.forward(problem.float64_leaves))
    computed = {name: values[node][0] for name, node in imported.outputs.items()}
    errors = _measure_errors(case, computed, case.outputs)
    if max(errors.values(), default=0) <= 1:
        return CaseResult(case.name, operators, [], errors)
    return CaseResult(case.name, operators, [], errors, _measure_errors(case, computed, _evaluate_reference(case)))


def _measure_errors(case: NodeCase, computed: Mapping[str, Any], expected: Sequence[Any]) -> dict[str, float]:
    """Return the largest error of each output of floats, in units of its tolerance."""
    return {
        value.name: _measure_error(computed[value.name], wanted, TOLERANCES[value.type.tensor_type.elem_type])
        for value, wanted in zip(case.model.graph.output, expected, strict=False)
        if value.name in computed and value.type.tensor_type.elem_type in FLOATS
    }


def _evaluate_reference(case: NodeCase) -> list[Any]:
    """Return the outputs by ONNX's reference evaluator."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        evaluator: Any = ReferenceEvaluator(onnx.ModelProto.FromString(bind_inputs(case)))
        return list(evaluator.run(None, {}))


def _measure_error(computed: Any, expected: Any, tolerance: float) -> float:
    """Return the largest error in units of the tolerance; infinite for another shape."""
    array = numpy_helper.to_array(expected) if isinstance(expected, onnx.TensorProto) else expected
    wanted = np.asarray(array).astype(np.float64)
    if computed.shape != wanted.shape:
        return float("inf")
    if not wanted.size:
        return 0.0
    # A low score stands for minus infinity.
    same = (
        (computed == wanted)
        | (np.isnan(computed) & np.isnan(wanted))
        | (np.isneginf(wanted) & (computed == MASKED_SCORE))
    )
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(computed - wanted))
    scale = max(1.0, float(np.max(np.abs(wanted), where=np.isfinite(wanted), initial=0.0)))
    largest = float(difference.max())
    return largest / (tolerance * scale) if np.isfinite(largest) else float("inf")
