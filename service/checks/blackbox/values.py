"""Values of the outputs of a function, at all points of a plan.

A null stands for a point at which the function has no value. An element that is not finite has no value there, which
is an error nowhere: at the base it has no derivative, and its verdict says so.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, cast

import numpy as np
from pydantic_core import PydanticCustomError

from schemas.datatype import Array
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from schemas.raw_tensor import RawTensor
from schemas.tensor import Tensor
from service.checks.blackbox.looks import Look
from service.checks.blackbox.outputs import Shapes
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout
from service.numerics.core.interrupts import iterate_interruptibly

_MAX_LISTED_VALUES = 100
"""Wrong values of one output that are listed one by one."""
_MAX_LISTED_NAMES = 20
_BASE_VALUE_MESSAGE = "the function must have a value at the base, where the derivative is; null was given"


def read_values(values: Mapping[str, Any], layout: EvaluationLayout, shapes: Shapes, look: Look) -> dict[str, Array]:
    """Read the values of all outputs, float64 of shape (evaluations, ...), by name in the order of the plan.

    They come by the number of their evaluation; numbers without a value are NaN.

    Parameters
    ----------
    values
        Values of the request by the name of the output: a list with a tensor or null for each point, or one tensor with
        the points first.
    layout
        Layout of the points.
    shapes
        Shapes of the outputs, by name.
    look
        Look with as many points as the first output has values.

    Raises
    ------
    InvalidRequestError
        Outputs that the plan does not have, missing ones, and values of other shapes or of another number than the
        points.
    """
    errors = [*_find_name_errors(values, shapes)]
    arrays: dict[str, Array] = {}
    for name in shapes.keys() & values.keys():
        try:
            points = _read_output(name, values[name], layout, shapes[name], look)
            arrays[name] = look.spread_values(points, layout.evaluation_count)
        except InvalidRequestError as error:
            errors += error.errors
    if errors:
        raise InvalidRequestError(errors)
    return {name: arrays[name] for name in shapes}


def _find_name_errors(values: Mapping[str, Any], shapes: Shapes) -> Iterator[PlacedError]:
    for name in shapes:
        if name not in values:
            yield error_at("is missing: the plan has this output too", "values", name)
    for name in values:
        if name not in shapes:
            yield error_at(describe_unknown_output(name, shapes), "values", name)


def describe_unknown_output(name: str, shapes: Shapes) -> str:
    """Say that the plan has no output of a name, and list those that it has."""
    known = ", ".join(map(quote_name, islice(shapes, _MAX_LISTED_NAMES)))
    return f"there is no output {quote_name(name)} in the plan; there are: {known}"


def count_points(values: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return the number of values of the first output of a countable form, and its name; None if there is none."""
    for name, value in values.items():
        if isinstance(value, list):
            return len(cast("list[Any]", value)), name
        shape = value.shape if isinstance(value, RawTensor) else _get_shape(value)
        if isinstance(shape, list | tuple) and shape and isinstance(shape[0], int):
            return shape[0], name
    return None


def _get_shape(value: object) -> Any:
    return cast("dict[str, Any]", value).get("shape") if isinstance(value, dict) else None


def _read_output(name: str, value: object, layout: EvaluationLayout, shape: tuple[int, ...], look: Look) -> Array:
    """Read the values of one output at the points of a look."""
    count = len(look.evaluations)
    if isinstance(value, list):
        by_point = cast("list[Any]", value)
        if len(by_point) != count:
            detail = f"{len(by_point)} values were given; the plan has {count} points"
            raise InvalidRequestError([error_at(detail, "values", name)])
        array = _read_dense_list(by_point, count, shape)
        return _read_points(name, by_point, layout, shape, look) if array is None else array
    if not isinstance(value, dict | RawTensor):
        detail = "must be a list with a tensor or null for each point, or a tensor with the points first"
        raise InvalidRequestError([error_at(detail, "values", name)])
    try:
        tensor = Tensor.decode_any(cast("Any", value))
    except PydanticCustomError as error:
        raise InvalidRequestError([error_at(error.message(), "values", name)]) from None
    if detail := _describe_wrong_kind(tensor):
        raise InvalidRequestError([error_at(detail, "values", name)])
    expected_shape = (count, *shape)
    if tensor.array.shape != expected_shape:
        detail = (
            f"its shape is {list(tensor.array.shape)}; {count} points of an output of shape "
            f"{list(shape)} make {list(expected_shape)}"
        )
        raise InvalidRequestError([error_at(detail, "values", name)])
    return tensor.array.astype(np.float64)


def _read_dense_list(by_point: list[Any], count: int, shape: tuple[int, ...]) -> Array | None:
    """Read nested numbers of all points at once; None if they are of another form, or wrong."""
    try:
        tensor = Tensor.decode_any(by_point)
    except PydanticCustomError:
        return None
    if tensor.array.shape != (count, *shape) or _describe_wrong_kind(tensor):
        return None
    return tensor.array.astype(np.float64)


def _read_points(name: str, by_point: list[Any], layout: EvaluationLayout, shape: tuple[int, ...], look: Look) -> Array:
    """Read the values point by point."""
    array = np.full((len(by_point), *shape), np.nan)
    errors: list[PlacedError] = []

    def describe(number: int) -> str:
        return layout.describe_evaluation(int(look.evaluations[number]))

    for number, value in enumerate(iterate_interruptibly(by_point)):
        if value is None and number >= BASE_REPEATS:
            continue
        result = _BASE_VALUE_MESSAGE if value is None else _read_point(value, shape)
        if not isinstance(result, str):
            array[number] = result
            continue
        detail = result if value is None else f"{result}, at point {number}: {describe(number)}"
        errors.append(error_at(detail, "values", name, number))
        if len(errors) == _MAX_LISTED_VALUES:
            break
    if errors:
        raise InvalidRequestError(errors)
    return array


def _read_point(value: object, shape: tuple[int, ...]) -> Array | str:
    """Read the value at one point, or describe the error in it."""
    try:
        tensor = Tensor.decode_any(value)
    except PydanticCustomError as error:
        return error.message()
    if detail := _describe_wrong_kind(tensor):
        return detail
    if tensor.array.shape != shape:
        return f"its shape is {list(tensor.array.shape)}; the output has {list(shape)}"
    return tensor.array


def _describe_wrong_kind(tensor: Tensor) -> str:
    if tensor.datatype is None or tensor.datatype.kind == "float":
        return ""
    return f"values are of floats; datatype {tensor.datatype.name} was given"
