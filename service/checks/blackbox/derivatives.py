"""Numerical derivatives of a report, element by element, with their error bounds."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from schemas.datatype import DATATYPES
from schemas.json_writer import defer_tensor
from schemas.outputs import NumericalDerivative
from schemas.tensor import Encoding, encode_tensor
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.common.answer_bytes import check_answer_bytes, estimate_tensor_bytes
from service.checks.common.limits import Limits
from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.lines import TensorLines
from service.numerics.core.batching import Array, Shape
from service.numerics.core.interrupts import iterate_interruptibly

_REMEDY = "Take fewer or smaller outputs or tensors, or ask for the answer in the safetensors format (Accept)"
_BYTES_BESIDE_TENSORS = 10_000
TensorEncoder = Callable[[Array], Any]


def scatter_derivatives(
    lines: TensorLines, element_count: int, derivatives: DirectionalDerivatives
) -> tuple[Array, Array]:
    """Return the derivatives by all elements of a tensor and their bounds, both (outputs, elements).

    They are NaN and infinite at elements that were not moved, and where there is no difference with a bound.

    Parameters
    ----------
    lines
        Lines of single elements.
    element_count
        Number of elements of the tensor.
    derivatives
        Derivatives along the lines, (outputs, lines).
    """
    output_count = len(derivatives.value)
    values, bounds = np.full((output_count, element_count), np.nan), np.full((output_count, element_count), np.inf)
    is_known = np.isfinite(derivatives.value) & np.isfinite(derivatives.bound)
    values[:, lines.moved_elements] = np.where(is_known, derivatives.value, np.nan)
    bounds[:, lines.moved_elements] = np.where(is_known, derivatives.bound, np.inf)
    return values, bounds


def build_derivatives(
    plan: EvaluationPlan, numbers: Mapping[str, tuple[Array, Array]], encode: TensorEncoder
) -> dict[str, NumericalDerivative]:
    """Build the entries of derivatives by name.

    Parameters
    ----------
    plan
        Plan of the judgement.
    numbers
        Derivatives and their error bounds, (elements of the output, elements of the tensor), by name.
    encode
        Function that encodes an array for the answer.
    """
    shapes = list_derivative_shapes(plan)
    return {
        name: {"value": encode(values.reshape(shapes[name])), "error_bound": encode(bounds.reshape(shapes[name]))}
        for name, (values, bounds) in iterate_interruptibly(numbers.items())
    }


def choose_encoder(encoding: Encoding, *, defer: bool) -> TensorEncoder:
    """Return the function that encodes an array; a deferred one leaves it to `schemas.json_writer`."""
    encode = defer_tensor if defer else encode_tensor
    return lambda array: encode(array, encoding, DATATYPES["FP64"])


def check_derivative_bytes(plan: EvaluationPlan, encoding: Encoding, limits: Limits) -> int:
    """Refuse an answer with too many derivatives, and return its largest size in bytes.

    Parameters
    ----------
    plan
        Plan of the judgement.
    encoding
        Encoding of the derivatives.
    limits
        Limits of the request.
    """
    shapes = list_derivative_shapes(plan)
    size = sum(2 * (estimate_tensor_bytes(shape, encoding, 8) + 6 * len(name) + 40) for name, shape in shapes.items())
    return check_answer_bytes(_BYTES_BESIDE_TENSORS + size, limits, _REMEDY, "include")


def list_derivative_shapes(plan: EvaluationPlan) -> Mapping[str, Shape]:
    """Return the shapes of all derivatives by name: that of the output, then that of the tensor."""
    points = plan.layout.points
    if not plan.cotangents:
        return {name: point.values.shape for name, point in points.items()}
    return {
        f"{output}/{name}": (*cotangent.shape, *point.values.shape)
        for output, cotangent in plan.cotangents.items()
        for name, point in points.items()
    }


def describe_bounds(bounds: Iterable[Array]) -> str:
    """Say how large the error bounds of derivatives are."""
    arrays = [array.ravel() for array in bounds]
    known = [array[np.isfinite(array)] for array in arrays]
    count, total = sum(array.size for array in known), sum(array.size for array in arrays)
    if not count:
        return f"No derivative of {total} has an error bound."
    largest = max(float(array.max()) for array in known if array.size)
    which = f"All {total} numerical derivatives" if count == total else f"{count} of {total} numerical derivatives"
    return f"{which} have error bounds, of {largest:.1e} at most."
