"""Tensors for the wire: the numbers of a value, and their datatype.

NumPy has no bfloat16 and no floats of 8 bits, and neither torch nor jax is imported here to get them: they travel as
their bits.
"""

import math
import sys
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
        """Return read-only numbers from their storage; bfloat16 and FP8 in the float32 that holds them."""
        if self.name == "BF16":
            array = np.asarray((storage.astype(np.uint32) << 16).view(np.float32))
        elif self.name in _FLOAT8_NUMBERS:
            array = _FLOAT8_NUMBERS[self.name][storage]
        else:
            array = np.asarray(storage.astype(storage.dtype.newbyteorder("=")))
        array.flags.writeable = False
        return array


def _list_e4m3_numbers() -> Array:
    """Return the number of each byte of E4M3, (256,): 3 bits of significand, bias 7, and NaN in place of infinity."""
    codes = np.arange(128)
    exponent, fraction = codes >> 3, codes % 8 / 8
    numbers = np.where(exponent == 0, np.ldexp(fraction, -6), np.ldexp(1 + fraction, exponent - 7))
    numbers[-1] = np.nan
    return np.concatenate([numbers, -numbers]).astype(np.float32)


_FLOAT8_NUMBERS = {
    "FP8_E4M3": _list_e4m3_numbers(),
    # A byte of E5M2 is the upper half of a float16.
    "FP8_E5M2": (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32),
}
"""Number of each byte."""
BY_NUMPY_NAME = {
    "float64": Datatype("FP64", "F64", np.dtype("<f8")),
    "float32": Datatype("FP32", "F32", np.dtype("<f4")),
    "float16": Datatype("FP16", "F16", np.dtype("<f2")),
    "bfloat16": Datatype("BF16", "BF16", np.dtype("<u2")),
    "float8_e4m3fn": Datatype("FP8_E4M3", "F8_E4M3", np.dtype("u1")),
    "float8_e5m2": Datatype("FP8_E5M2", "F8_E5M2", np.dtype("u1")),
    "int64": Datatype("INT64", "I64", np.dtype("<i8")),
    "int32": Datatype("INT32", "I32", np.dtype("<i4")),
    "bool": Datatype("BOOL", "BOOL", np.dtype("?")),
}
BY_NAME = {datatype.name: datatype for datatype in BY_NUMPY_NAME.values()}
BY_SHORT_NAME = {datatype.short_name: datatype for datatype in BY_NUMPY_NAME.values()}
_BFLOAT16 = "bfloat16"
_BITS = {_BFLOAT16: np.uint16, "float8_e4m3fn": np.uint8, "float8_e5m2": np.uint8}
"""Bits of the datatypes that NumPy does not have, by name."""
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
        element = _to_typed_tensor(array, name, subject).datatype.from_storage(array) if name in _BITS else array
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
    name = next(iter(names & _BITS.keys()), "")
    if name and len(names) > 1:
        raise TensorError(f"{subject}: arrays of {name} among others. Give all of them one datatype.")
    return _to_typed_tensor(array, name or array.dtype.name, subject)


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
    name = str(getattr(value, "dtype", "")).removeprefix("torch.")
    if name == _BFLOAT16 and array.dtype == np.float32:
        return (array.view(np.uint32) >> 16).astype(np.uint16), _BFLOAT16
    if name in _BITS and array.dtype == _BITS[name]:
        return array, name
    return _name_array(array)


def _is_masked(value: object) -> bool:
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(cast("Any", value)))


def _name_array(array: Array) -> tuple[Array, str]:
    # Datatypes of the package ml_dtypes, as jax has them: NumPy knows their bits alone.
    name = _get_numpy_name(array.dtype)
    return (array.view(_BITS[name]) if name in _BITS else array), name


@cache
def _get_numpy_name(dtype: np.dtype[Any]) -> str:
    # NumPy makes the name anew each time, which takes as long as a small function of a caller.
    return dtype.name


def _to_array(value: Any) -> Array | None:
    if hasattr(value, "detach"):
        # A tensor of torch has a history and a device; some hold their numbers negated, or, for zeros, none at all.
        dense = value.detach().to_dense()
        if str(dense.dtype) == "torch.bfloat16":
            dense = dense.float()
        elif str(dense.dtype).removeprefix("torch.") in _BITS:
            dense = dense.view(sys.modules["torch"].uint8)
        return dense.numpy(force=True)
    if hasattr(value, "__array__"):
        return np.asarray(value)
    return np.from_dlpack(value) if hasattr(value, "__dlpack__") else None


def _describe_type(value: object) -> str:
    kind = type(value)
    return f"{'' if kind.__module__ == 'builtins' else f'{kind.__module__}.'}{kind.__qualname__}"
