"""The inputs of a file: random values at their shapes."""

from functools import partial

import numpy as np
import onnx

from schemas.problem_details import quote_name
from service.checks.common.limits import Limits
from service.checks.importing.import_errors import LimitError, ModelFileError
from service.checks.importing.model_file import read_static_shape
from service.checks.importing.random_values import ValueSource
from service.checks.importing.stored_tensors import FLOAT_TYPES, INTEGER_TYPES, get_type_name
from service.checks.importing.values import Known

_DEFAULT_LIMIT = 2
"""Limit of integers to which no operator gives one: 0 and 1 are indices of nearly every axis, and truth values."""


def draw_input(value: onnx.ValueInfoProto, limits: Limits, source: ValueSource) -> Known:
    """Return random values for an input.

    Floats are normal numbers, rounded to the type of the input, and truth values are even odds. Integers are below the
    length of the axis that they index, and else 0 or 1.

    Raises
    ------
    ModelFileError
        The input has no static shape, or a type that is not taken.
    """
    shape, data_type = read_static_shape(value, limits), value.type.tensor_type.elem_type
    if data_type in FLOAT_TYPES:
        dtype, datatype = FLOAT_TYPES[data_type]
        numbers = source.draw_floats(value.name, shape)
        array = datatype.from_storage(datatype.to_storage(numbers.astype(dtype)).tobytes()).reshape(shape)
        return Known(array, value.name, datatype, "drawn")
    if data_type in INTEGER_TYPES:
        draw = partial(source.draw_integers, value.name, shape)
        return Known(draw(_DEFAULT_LIMIT), value.name, origin="drawn", redraw=draw)
    if data_type == onnx.TensorProto.BOOL:
        return Known(source.draw_integers(value.name, shape, 2).astype(np.bool_), value.name, origin="drawn")
    raise ModelFileError(
        f"the input {quote_name(value.name)} has the type {get_type_name(data_type)}; floats, integers and truth "
        "values are taken"
    )


class DrawnElements:
    """The elements of all inputs that were drawn, within the limit of a model."""

    def __init__(self, limits: Limits) -> None:
        self._limit, self._count = limits.elements, 0

    def add(self, known: Known) -> None:
        """Count the elements of an input.

        Raises
        ------
        LimitError
            There are too many.
        """
        self._count += known.array.size
        if self._count > self._limit:
            raise LimitError(f"the inputs of the model would hold more than {self._limit} elements")
