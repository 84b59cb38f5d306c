"""Outputs of a function: their shapes, their cotangents, and the tangents of its Jacobian-vector products."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from schemas.problem_details import InvalidRequestError, PlacedError, error_at
from schemas.tensor import Tensor
from service.checks.common.limits import Limits
from service.numerics.blackbox.layout import EvaluationLayout
from service.numerics.blackbox.random_numbers import draw_cotangents
from service.numerics.core.batching import Array

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class OutputRequest:
    """The outputs that a request declares: shapes by name, and cotangents by name if it has its own."""

    shapes: Shapes = field(default_factory=dict[str, tuple[int, ...]])
    given_cotangents: Mapping[str, Tensor] | None = None

    @property
    def field_name(self) -> str:
        """Return the field of the request that declares the outputs."""
        return "outputs" if self.given_cotangents is None else "cotangents"

    def choose_cotangents(self, seed: int) -> dict[str, Array]:
        """Return the cotangents of the request, or random ones, in float64 by name."""
        if self.given_cotangents is not None:
            return {name: tensor.array.astype(np.float64) for name, tensor in self.given_cotangents.items()}
        return {
            name: draw_cotangents(seed, name, math.prod(shape)).reshape(shape) for name, shape in self.shapes.items()
        }


def read_output_request(
    outputs: Shapes | None,
    cotangents: Mapping[str, Tensor] | None,
    limits: Limits,
    path_prefix: tuple[str, ...] = (),
) -> OutputRequest:
    """Read the outputs of a request for a plan; none if it has neither field.

    Parameters
    ----------
    outputs
        Shapes of the outputs by name, or None.
    cotangents
        Cotangents of the client by name, or None.
    limits
        Limits of the request.
    path_prefix
        Path to both fields in the body; empty by default.

    Raises
    ------
    InvalidRequestError
        Both fields are given, or a shape or a cotangent is invalid.
    """
    if outputs is not None and cotangents is not None:
        detail = "are given beside `outputs`; give cotangents, whose shapes are those of the outputs, or outputs alone"
        raise InvalidRequestError([error_at(detail, *path_prefix, "cotangents")])
    if cotangents is None:
        declared = OutputRequest(outputs or {})
    else:
        declared = OutputRequest({name: tensor.array.shape for name, tensor in cotangents.items()}, cotangents)
    errors = [
        *_find_shape_errors(declared, limits, path_prefix),
        *_find_cotangent_errors(cotangents or {}, path_prefix),
    ]
    if errors:
        raise InvalidRequestError(errors)
    return declared


def _find_shape_errors(declared: OutputRequest, limits: Limits, path_prefix: tuple[str, ...]) -> Iterator[PlacedError]:
    for name, shape in declared.shapes.items():
        if len(shape) > limits.dimensions:
            detail = f"{len(shape)} dimensions; at most {limits.dimensions} are taken"
            yield error_at(detail, *path_prefix, declared.field_name, name)


def _find_cotangent_errors(cotangents: Mapping[str, Tensor], path_prefix: tuple[str, ...]) -> Iterator[PlacedError]:
    for name, tensor in cotangents.items():
        if tensor.datatype is not None and tensor.datatype.kind != "float":
            detail = f"a cotangent is of floats; datatype {tensor.datatype.name} was given"
            yield error_at(detail, *path_prefix, "cotangents", name)
        elif not tensor.array.any():
            detail = "is 0 everywhere, and so is its product with any Jacobian; give one with other numbers"
            yield error_at(detail, *path_prefix, "cotangents", name)


def count_elements_by_output(shapes: Shapes) -> dict[str, int]:
    """Return the number of elements of each output."""
    return {name: math.prod(shape) for name, shape in shapes.items()}


def stack_tangents(layout: EvaluationLayout, name: str) -> Array:
    """Return the tangents of a tensor, float64, (directions, ...).

    A random direction is in units of the derivative; the direction of an element alone is its unit vector.
    """
    lines, shape = layout.lines[name], layout.points[name].values.shape
    if lines.moved_elements is None:
        flat = lines.moves.directions / lines.derivative_units[:, None]
    else:
        flat = np.zeros((len(lines), layout.points[name].values.size))
        flat[np.arange(len(lines)), lines.moved_elements] = 1.0
    return flat.reshape(-1, *shape)
