"""Numbers that a file holds: initialisers and constants."""

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from schemas.datatype import DATATYPES, Array, Datatype
from schemas.problem_details import quote_name
from service.checks.common.limits import Limits
from service.checks.importing.import_errors import ModelFileError
from service.checks.importing.model_file import check_size

_Types = onnx.TensorProto
FLOAT_TYPES: dict[int, tuple[np.dtype[Any], Datatype]] = {
    _Types.DOUBLE: (np.dtype(np.float64), DATATYPES["FP64"]),
    _Types.FLOAT: (np.dtype(np.float32), DATATYPES["FP32"]),
    _Types.FLOAT16: (np.dtype(np.float16), DATATYPES["FP16"]),
    _Types.BFLOAT16: (np.dtype(np.float32), DATATYPES["BF16"]),
}
INTEGER_TYPES = (
    _Types.INT8, _Types.INT16, _Types.INT32, _Types.INT64, _Types.UINT8, _Types.UINT16, _Types.UINT32, _Types.UINT64,
)  # fmt: skip


def get_type_name(data_type: int) -> str:
    """Return the name of a type of elements in ONNX."""
    return _Types.DataType.Name(data_type) if data_type in _Types.DataType.values() else str(data_type)


def read_tensor(tensor: onnx.TensorProto, limits: Limits, name: str) -> tuple[Array, Datatype | None]:
    """Return the numbers of a tensor, and the datatype of floats.

    Parameters
    ----------
    tensor
        Message of the tensor.
    limits
        Limits of the request.
    name
        Name of the value, for errors.

    Raises
    ------
    ModelFileError
        The tensor is external, has a type that is not taken, is too large, or holds another number of elements.
    """
    what = f"the tensor {quote_name(name)}"
    if tensor.data_location == _Types.EXTERNAL or tensor.external_data:
        raise ModelFileError(
            f"{what} lies in another file (external data); save the model with all tensors inside, as by "
            "onnx.save(onnx.load(path), path)"
        )
    if tensor.HasField("segment"):
        raise ModelFileError(f"{what} comes in segments; that is not taken")
    kinds = (*FLOAT_TYPES, *INTEGER_TYPES, _Types.BOOL)
    if tensor.data_type not in kinds:
        taken = ", ".join(map(get_type_name, kinds))
        raise ModelFileError(f"{what} has the type {get_type_name(tensor.data_type)}; taken are {taken}")
    shape = tuple(tensor.dims)
    check_size(shape, limits, what)
    try:
        array = np.array(numpy_helper.to_array(tensor))
    except Exception as error:  # the library raises errors of many kinds for data that do not fit
        raise ModelFileError(f"{what} has data that do not fit its shape {list(shape)} and type") from error
    if array.shape != shape:
        raise ModelFileError(f"{what} has data of shape {list(array.shape)}; it must be {list(shape)}")
    if tensor.data_type in FLOAT_TYPES:
        dtype, datatype = FLOAT_TYPES[tensor.data_type]
        return array.astype(dtype), datatype
    return array, None
