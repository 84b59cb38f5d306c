"""Tensors for the wire: the numbers of a value, and their datatype.

NumPy has no bfloat16, and neither torch nor jax is imported here to get one: it travels as its 16 bits.
"""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gradcheckd.errors import TensorError, describe_error, hide_frames

__tracebackhide__ = hide_frames

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Datatype:
    """A datatype: its name in JSON, that in the safetensors format, and how an element is stored."""

    name: str
    short_name: str
    storage_dtype: np.dtype[Any]

    def from_storage(self, storage: Array) -> Array:
        """Return read-only numbers from their storage; bfloat16 in the float32 that holds it."""
        widened = storage.astype(np.uint32) << 16 if self.name == "BF16" else storage
        array = np.asarray(
            widened.view(np.float32) if self.name == "BF16" else widened.astype(widened.dtype.newbyteorder("="))
        )
        array.flags.writeable = False
        return array


BY_NUMPY_NAME = {
    "float64": Datatype("FP64", "F64", np.dtype("<f8")),
    "float32": Datatype("FP32", "F32", np.dtype("<f4")),
    "float16": Datatype("FP16", "F16", np.dtype("<f2")),
    "bfloat16": Datatype("BF16", "BF16", np.dtype("<u2")),
    "int64": Datatype("INT64", "I64", np.dtype("<i8")),
    "int32": Datatype("INT32", "I32", np.dtype("<i4")),
    "bool": Datatype("BOOL", "BOOL", np.dtype("?")),
}
BY_NAME = {datatype.name: datatype for datatype in BY_NUMPY_NAME.values()}
BY_SHORT_NAME = {datatype.short_name: datatype for datatype in BY_NUMPY_NAME.values()}
_BFLOAT16 = "bfloat16"
# Labels and indices often have these dtypes; int64 holds every number of them.
_WIDENED_DTYPES = ("int8", "int16", "uint8", "uint16", "uint32")


@dataclass(frozen=True)
class TypedTensor:
    """Numbers in their storage on the wire, little-endian and row-major, with their datatype."""

    datatype: Datatype
    array: Array

    def as_json(self) -> dict[str, Any]:
        """Return the tensor in JSON, in base64."""
        text = b64encode(self.array.tobytes()).decode("ascii")
        return {"datatype": self.datatype.name, "shape": list(self.array.shape), "b64": text}


@dataclass(frozen=True)
class UntypedTensor:
    """A number or nested lists of numbers, without a datatype, so that each op reads whole numbers in its own way."""

    value: Any

    def as_json(self) -> Any:
        """Return the tensor in JSON, nested."""
        return self.value


def to_tensor(value: object, subject: str) -> TypedTensor | UntypedTensor:
    """Convert a value of a caller to a tensor.

    Parameters
    ----------
    value
        An array of NumPy, torch, jax or anything else with `__array__` or `__dlpack__`, of any shape; or a number, or
        nested lists of numbers.
    subject
        Name of the value in errors: "weights 'w1'".

    Raises
    ------
    TensorError
        The value is none of these, or the wire has no such datatype.
    """
    if isinstance(value, int | float) and not isinstance(value, np.generic):
        return UntypedTensor(_encode_number(value))
    if not isinstance(value, list | tuple):
        return _to_typed_tensor(*_read_array(value, subject), subject)
    items = cast("Sequence[Any]", value)
    try:
        return _stack_items(items, subject) if _holds_arrays(items) else UntypedTensor(_to_nested_list(items, subject))
    except RecursionError:
        raise TensorError(f"{subject}: its lists are nested too deeply; a tensor has a list for each axis.") from None


def get_dtype_name(dtype: object) -> str:
    """Return the NumPy name of a datatype of NumPy, torch or jax; a name stays as it is.

    Raises
    ------
    TensorError
        The value is no datatype.
    """
    if isinstance(dtype, str):
        return dtype
    if str(dtype).startswith("torch."):
        return str(dtype).removeprefix("torch.")
    try:
        return np.dtype(cast("Any", dtype)).name
    except TypeError:
        raise TensorError(
            f"A datatype is a name, as 'float32', or one of NumPy, torch or jax; {_describe_value(dtype)} was given."
        ) from None


def encode_recipe(arithmetic: object) -> Any:
    """Encode the arithmetic of a gradient, or the recipe of the places where its program rounds.

    Raises
    ------
    TensorError
        A value is no datatype.
    """
    if isinstance(arithmetic, Mapping):
        places = cast("Mapping[str, object]", arithmetic)
        return {name: encode_recipe(value) for name, value in places.items()}
    return encode_arithmetic(arithmetic)


def encode_arithmetic(dtype: object) -> str | None:
    """Encode the arithmetic of a gradient, which has the name of the datatype of tensors on the wire.

    Raises
    ------
    TensorError
        The value is no datatype.
    """
    if dtype is None:
        return None
    name = get_dtype_name(dtype)
    return BY_NUMPY_NAME[name].name if name in BY_NUMPY_NAME else name


def to_number(value: Any, subject: str) -> float:
    """Convert a number, or an array of one element of any library, to a float.

    Raises
    ------
    TensorError
        The value is neither.
    """
    if is_array(value):
        array, name = _read_array(value, subject)
        if array.size != 1:
            raise TensorError(f"{subject} an array of shape {array.shape}; it must return one number.")
        element = _to_typed_tensor(array, name, subject).datatype.from_storage(array) if name == _BFLOAT16 else array
        value = element.reshape(()).item()
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        raise TensorError(f"{subject} {_describe_value(value)}; it must return one number.")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TensorError(
            f"{subject} {_describe_value(value)}, of which no float can be made: {describe_error(error)}."
        ) from None


def _describe_value(value: object) -> str:
    return "None" if value is None else f"{repr(value)[:40]} ({_describe_type(value)})"


def _holds_arrays(items: Sequence[Any]) -> bool:
    """Tell whether lists end in arrays, as `[layer.grad for layer in layers]` does, instead of in numbers."""
    return any(
        _holds_arrays(cast("Sequence[Any]", item)) if isinstance(item, list | tuple) else is_array(item)
        for item in items
    )


def is_array(value: object) -> bool:
    """Tell whether a value is an array of some library."""
    return hasattr(value, "__array__") or hasattr(value, "__dlpack__")


def _stack_items(items: Sequence[Any], subject: str) -> TypedTensor:
    names: set[str] = set()

    def unwrap_arrays(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [unwrap_arrays(item) for item in cast("Sequence[Any]", value)]
        array, name = _read_array(value, subject) if is_array(value) else (value, "")
        names.add(name)
        return array

    try:
        array = np.asarray(unwrap_arrays(items))
    except ValueError as error:
        raise TensorError(
            f"{subject}: the arrays of its list do not have one shape: {describe_error(error)}."
        ) from None
    # Bits do not show their datatype.
    if _BFLOAT16 in names and len(names) > 1:
        raise TensorError(f"{subject}: arrays of bfloat16 among others. Give all of them one datatype.")
    return _to_typed_tensor(array, _BFLOAT16 if _BFLOAT16 in names else array.dtype.name, subject)


def _to_nested_list(value: Any, subject: str) -> Any:
    if isinstance(value, list | tuple):
        return [_to_nested_list(item, subject) for item in cast("Sequence[Any]", value)]
    if not isinstance(value, int | float):
        raise TensorError(f"{subject}: {_describe_type(value)} among numbers. A list holds numbers, or lists of them.")
    return _encode_number(value)


def _encode_number(value: float) -> float | str:
    """Encode a number for JSON; the service refuses infinities and NaN where they may not be."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _to_typed_tensor(array: Array, name: str, subject: str) -> TypedTensor:
    if name in _WIDENED_DTYPES:
        array, name = array.astype(np.int64), "int64"
    datatype = BY_NUMPY_NAME.get(name)
    if datatype is None:
        remedy = (
            "Give its real part and its imaginary part as two tensors."
            if name.startswith("complex")
            else "Convert it first, for instance with .astype('float64')."
        )
        raise TensorError(f"{subject}: its datatype is {name}; one of {', '.join(BY_NUMPY_NAME)} can be sent. {remedy}")
    return TypedTensor(datatype, np.asarray(array, dtype=datatype.storage_dtype, order="C"))


def _read_array(value: Any, subject: str) -> tuple[Array, str]:
    """Return the array of any library as one of NumPy, with the name of its datatype; bfloat16 as its bits."""
    if type(value) is np.ndarray:
        return _name_array(value)
    if _is_masked(value):
        raise TensorError(
            f"{subject}: a masked array was given, and its mask has no place on the wire. Give the numbers alone, for "
            "instance .compressed(), and have the function put them in their places, or .filled(0.0)."
        )
    try:
        array = _to_array(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TensorError(
            f"{subject}: no NumPy array could be made of {_describe_type(value)}: {describe_error(error)}. "
            "Give a NumPy array of it."
        ) from error
    if array is None:
        raise TensorError(
            f"{subject}: {_describe_type(value)} was given. A tensor is an array (of NumPy, torch, jax, or anything "
            "else with __array__ or __dlpack__), a number, or nested lists of numbers."
        )
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        return (array.view(np.uint32) >> 16).astype(np.uint16), _BFLOAT16
    return _name_array(array)


def _is_masked(value: object) -> bool:
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(cast("Any", value)))


def _name_array(array: Array) -> tuple[Array, str]:
    # bfloat16 of the package ml_dtypes, as jax has it: NumPy knows its bits alone.
    name = _get_numpy_name(array.dtype)
    return (array.view(np.uint16) if name == _BFLOAT16 else array), name


@cache
def _get_numpy_name(dtype: np.dtype[Any]) -> str:
    # NumPy makes the name anew each time, which takes as long as a small function of a caller.
    return dtype.name


def _to_array(value: Any) -> Array | None:
    if hasattr(value, "detach"):
        # A tensor of torch has a history and a device; some hold their numbers negated, or, for zeros, none at all.
        dense = value.detach().to_dense()
        return (dense.float() if str(dense.dtype) == "torch.bfloat16" else dense).numpy(force=True)
    if hasattr(value, "__array__"):
        return np.asarray(value)
    return np.from_dlpack(value) if hasattr(value, "__dlpack__") else None


def _describe_type(value: object) -> str:
    kind = type(value)
    return f"{'' if kind.__module__ == 'builtins' else f'{kind.__module__}.'}{kind.__qualname__}"
