"""Wire forms of a tensor, and the NumPy array behind them.

A tensor is a nested list of numbers, or a number, or an object with `datatype`, `shape` and `data` (nested or flat,
row-major) or `b64` (little-endian, row-major). In a binary body it is bytes (`raw_tensor.py`). An invalid tensor is
one error, at the tensor.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from schemas.base64_text import encode_base64_text
from schemas.datatype import BY_ANY_NAME, DATATYPES, Array, Datatype
from schemas.problem_details import quote_name
from schemas.raw_tensor import MAX_DIMENSIONS, RawTensor, decode_base64, format_shape, make_tensor_error, read_shape

Encoding = Literal["nested", "b64", "binary"]
"""Encodings of the tensors of an answer; `safetensors_body.py` writes binary ones."""
NONFINITE_SPELLINGS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a request.

    Attributes
    ----------
    array
        Numbers of the tensor.
    datatype
        Declared datatype; None without a declaration.
    is_integral
        True for a bare list of integers, whose kind follows from its use.
    """

    array: Array
    datatype: Datatype | None
    is_integral: bool

    @classmethod
    def decode(cls, value: object) -> "Tensor":
        """Read a tensor whose numbers must be finite, with one element at least."""
        return refuse_empty(cls.decode_finite(value))

    @classmethod
    def decode_finite(cls, value: object) -> "Tensor":
        """Read a tensor whose numbers must be finite; it may have none."""
        tensor = cls.decode_all(value)
        if tensor.array.dtype.kind == "f" and not np.isfinite(tensor.array).all():
            index = _find_first_index(~np.isfinite(tensor.array))
            number = encode_number(float(tensor.array[tuple(index)]))
            raise make_tensor_error(f"not a finite number at index {index}: {number}; only a candidate may hold one")
        return tensor

    @classmethod
    def decode_any(cls, value: object) -> "Tensor":
        """Read a tensor that may hold NaN and infinities, with one element at least."""
        return refuse_empty(cls.decode_all(value))

    @classmethod
    def decode_all(cls, value: object) -> "Tensor":
        """Read a tensor that may hold NaN and infinities, in JSON spelled as strings, or nothing."""
        if isinstance(value, RawTensor):
            datatype, array = value.decode()
            return cls(array, datatype, is_integral=False)
        return _decode_declared(cast("dict[str, Any]", value)) if isinstance(value, dict) else _decode_bare(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.decode)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return make_tensor_schema(finite=True)


def refuse_empty(tensor: Tensor) -> Tensor:
    """Return a tensor, or refuse one without elements."""
    if not tensor.array.size:
        raise make_tensor_error(f"empty: its shape is {format_shape(list(tensor.array.shape))}")
    return tensor


class _AnyTensor:
    """Annotation: a tensor that may hold NaN and infinities."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(Tensor.decode_any)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return make_tensor_schema(finite=False)


AnyTensor = Annotated[Tensor, _AnyTensor]


class _OperandTensor:
    """Annotation: a tensor of a model, of finite numbers; a dimension may be 0."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(Tensor.decode_finite)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return make_tensor_schema(finite=True, may_be_empty=True)


class _GradientTensor:
    """Annotation: a gradient of a tensor of a model, of any numbers; a dimension may be 0."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(Tensor.decode_all)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return make_tensor_schema(finite=False, may_be_empty=True)


def _decode_runs(value: object) -> Tensor:
    """Read runs of one gradient: a list of tensors of one shape, or one tensor with the runs along its first axis."""
    listed_runs: list[Any] = cast("list[Any]", value) if isinstance(value, list) else []
    if not any(isinstance(run, dict) for run in listed_runs):
        tensor = Tensor.decode_all(cast("object", value))
        if not tensor.array.ndim:
            raise make_tensor_error(
                "one number; runs are a list of tensors, or a tensor with the runs along its axis 0"
            )
        return tensor
    runs = [Tensor.decode_all(run) for run in listed_runs]
    shapes = sorted({run.array.shape for run in runs})
    if len(shapes) > 1:
        listed = " and ".join(format_shape(list(shape)) for shape in shapes[:2])
        raise make_tensor_error(f"runs of different shapes, {listed}; each has the shape of the candidate")
    datatypes = [run.datatype for run in runs if run.datatype is not None]
    # One that is not of floats stands for all: it is refused.
    datatype = next((datatype for datatype in datatypes if datatype.kind != "float"), runs[0].datatype)
    return Tensor(np.stack([run.array for run in runs]), datatype, is_integral=False)


class _RepeatedTensor:
    """Annotation: further runs of a gradient, along axis 0, of any numbers."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_decode_runs)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        tensor = make_tensor_schema(finite=False, may_be_empty=True)
        return {"anyOf": [{"type": "array", "items": tensor}, tensor]}


OperandTensor = Annotated[Tensor, _OperandTensor]
RepeatedTensor = Annotated[Tensor, _RepeatedTensor]
GradientTensor = Annotated[Tensor, _GradientTensor]


def make_tensor_schema(*, finite: bool, may_be_empty: bool = False) -> dict[str, Any]:
    """Make the JSON Schema of a tensor on the wire."""
    number: dict[str, Any] = {"type": "number"}
    if not finite:
        number = {"anyOf": [number, {"enum": list(NONFINITE_SPELLINGS)}]}
    nested_schema: dict[str, Any] = {
        "type": "array",
        "items": {},
        "description": "Numbers, nested to the shape; not ragged.",
    }
    size_schema = {"type": "integer", "minimum": 0 if may_be_empty else 1}
    shape = {"type": "array", "items": size_schema, "maxItems": MAX_DIMENSIONS}
    common = {"datatype": {"enum": list(BY_ANY_NAME)}, "shape": shape}
    return {
        "description": "A tensor: a number, nested lists of numbers, or an object with its datatype and shape.",
        "anyOf": [
            number,
            nested_schema,
            _make_object_schema({**common, "data": {"anyOf": [number, {"type": "boolean"}, nested_schema]}}),
            _make_object_schema({**common, "b64": {"type": "string", "contentEncoding": "base64"}}),
        ],
    }


def _make_object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _decode_bare(value: object) -> Tensor:
    array, types = _parse_nested(value)
    if bool in types:
        raise make_tensor_error("true and false among numbers: a mask is declared, with datatype BOOL")
    return Tensor(array, None, is_integral=types == {int})


def _parse_nested(value: object) -> tuple[Array, set[type]]:
    """Return the array of nested numbers or booleans, and the types of its elements."""
    shape, leaves = _flatten_nested(value)
    # No elements are of any datatype: as integers they become that of their slot.
    types = set(map(type, leaves)) or {int}
    if not types <= {int, float}:
        _check_types(types, leaves, shape)
    if str in types:
        leaves = [NONFINITE_SPELLINGS[leaf] if isinstance(leaf, str) else leaf for leaf in leaves]
    try:
        array = np.array(leaves, dtype=np.int64 if types == {int} else np.bool_ if types == {bool} else np.float64)
    except OverflowError:
        if any(isinstance(leaf, int) and abs(leaf) > 2**1023 for leaf in leaves):
            raise make_tensor_error("an integer too large for a float64") from None
        array = np.array(leaves, dtype=np.float64)
    return array.reshape(shape), types


def _flatten_nested(value: object) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape and the elements, row-major, of nested lists."""
    level: list[Any] = [value]
    shape: list[int] = []
    while list in set(map(type, level)):
        if len(shape) == MAX_DIMENSIONS:
            raise make_tensor_error(f"nested deeper than {MAX_DIMENSIONS} dimensions")
        sizes = {len(cast("list[Any]", item)) if isinstance(item, list) else -1 for item in level}
        if len(sizes) > 1:
            parts = ", ".join("a number" if size < 0 else f"a list of {size}" for size in sorted(sizes)[:4])
            raise make_tensor_error(f"ragged: dimension {len(shape)} has side by side {parts}")
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    return tuple(shape), level


_ACCEPTED_FORMS = "a number, nested lists of numbers, or an object with datatype, shape, and data or b64"


def _check_types(types: set[type], leaves: list[Any], shape: tuple[int, ...]) -> None:
    """Refuse elements that neither are numbers nor spell one, with the index of the first."""
    for kind, type_text in ((type(None), "null"), (dict, "an object")):
        if kind in types:
            raise _make_stray_error(type_text, [type(leaf) is kind for leaf in leaves], shape)
    is_unknown_text = (
        [isinstance(leaf, str) and leaf not in NONFINITE_SPELLINGS for leaf in leaves] if str in types else []
    )
    if any(is_unknown_text):
        text = leaves[is_unknown_text.index(True)]
        raise _make_stray_error(
            "a string", is_unknown_text, shape, f": {text if len(text) <= 20 else text[:20] + '...'!r}"
        )
    if bool in types and len(types) > 1:
        raise _make_stray_error("true or false", [type(leaf) is bool for leaf in leaves], shape)


def _make_stray_error(
    problem_text: str, is_stray: list[bool], shape: tuple[int, ...], given_text: str = ""
) -> PydanticCustomError:
    if not shape:
        return make_tensor_error(f"{problem_text} where a tensor belongs{given_text}; one is {_ACCEPTED_FORMS}")
    return make_tensor_error(
        f"{problem_text} among numbers{given_text}, at index {_find_first_index(np.reshape(is_stray, shape))}"
    )


_OBJECT_FIELDS = {"datatype", "shape", "data", "b64"}


def _decode_declared(value: dict[str, Any]) -> Tensor:
    if unknown := value.keys() - _OBJECT_FIELDS:
        raise make_tensor_error(
            f"unknown field {quote_name(min(unknown))}; a tensor has datatype, shape, and data or b64"
        )
    if missing := {"datatype", "shape"} - value.keys():
        raise make_tensor_error(f"{min(missing)} is missing; a tensor has datatype, shape, and data or b64")
    if ("data" in value) == ("b64" in value):
        raise make_tensor_error("a tensor has either data or b64")
    datatype, shape = _find_datatype(value["datatype"]), read_shape(value["shape"])
    read: Callable[[Any, Datatype, tuple[int, ...]], Array] = decode_base64 if "b64" in value else _decode_data
    array = read(value["b64"] if "b64" in value else value["data"], datatype, shape)
    return Tensor(array.reshape(shape), datatype, is_integral=False)


def _find_datatype(name: object) -> Datatype:
    if not isinstance(name, str) or name not in BY_ANY_NAME:
        actual = f"; {name[:20]!r} was given" if isinstance(name, str) else ""
        raise make_tensor_error(f"datatype must be one of {', '.join(DATATYPES)}, or the NumPy name{actual}")
    return BY_ANY_NAME[name]


def _decode_data(data: object, datatype: Datatype, shape: tuple[int, ...]) -> Array:
    array, types = _parse_nested(data)
    if array.size != math.prod(shape) or (array.ndim != 1 and array.shape != shape):
        raise make_tensor_error(f"shape {format_shape(list(shape))} does not fit data of shape {list(array.shape)}")
    return _cast_elements(array, types, datatype)


def _cast_elements(array: Array, types: set[type], datatype: Datatype) -> Array:
    if datatype.kind == "boolean":
        if types != {bool} and not (types == {int} and np.isin(array, (0, 1)).all()):
            raise make_tensor_error("datatype BOOL takes true and false, or 0 and 1")
        return array.astype(np.bool_)
    if bool in types:
        raise make_tensor_error(f"true or false where the datatype is {datatype.name}")
    if datatype.kind == "float":
        return _round_to_datatype(array.astype(np.float64), datatype)
    if types != {int} or array.dtype != np.int64:
        raise make_tensor_error(f"datatype {datatype.name} takes integers that fit it")
    narrowed = array.astype(datatype.storage_dtype.newbyteorder("="))
    if not np.array_equal(narrowed, array):
        raise make_tensor_error(f"an integer that does not fit {datatype.name}")
    return narrowed


def _round_to_datatype(values: Array, datatype: Datatype) -> Array:
    """Round float64 to a float datatype; refuse what is too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = datatype.round_to_nearest(values)
    is_overflow = np.isfinite(values) & ~np.isfinite(rounded)
    if is_overflow.any():
        raise make_tensor_error(f"a number too large for {datatype.name} at flat index {int(np.argmax(is_overflow))}")
    return rounded


def _find_first_index(mask: Array) -> list[int]:
    return [int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape)]


def encode_number(value: float) -> float | str:
    """Return a finite number, or the spelling of a NaN or an infinity."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def encode_tensor(array: Array, encoding: Encoding, datatype: Datatype | None = None) -> Any:
    """Return the wire form of an array for an answer.

    Nested numbers parse back to exactly the value: narrower floats are widened first.

    Parameters
    ----------
    array
        Numbers of the tensor.
    encoding
        "nested" or "b64"; "binary" for a `Tensor` with its datatype.
    datatype
        Datatype on the wire of "b64" and "binary"; that of the array by default.
    """
    if encoding != "nested":
        datatype = datatype or _find_datatype(array.dtype.name)
        return _encode_base64(array, datatype) if encoding == "b64" else Tensor(array, datatype, is_integral=False)
    if not array.ndim:
        return encode_number(float(array))
    if _is_one_number(array):
        return to_nested_list(array)
    float64_array = np.asarray(array, dtype=np.float64, order="C")
    return float64_array if np.isfinite(float64_array).all() else to_nested_list(float64_array)


def to_nested_list(array: Array) -> list[Any]:
    """Return an array of one axis or more as nested lists, with NaN and infinities spelled."""
    if _is_one_number(array):
        return _nest_number(encode_number(float(array[(0,) * array.ndim])), array.shape)
    float64_array = np.asarray(array, dtype=np.float64)
    return float64_array.tolist() if np.isfinite(float64_array).all() else _encode_numbers(float64_array.tolist())


def _encode_base64(array: Array, datatype: Datatype) -> dict[str, Any]:
    if _is_one_number(array):
        text = _repeat_in_base64(datatype.to_storage(array[(slice(1),) * array.ndim]).tobytes(), array.size)
    else:
        text = encode_base64_text(datatype.to_storage(array).data)
    return {"datatype": datatype.name, "shape": list(array.shape), "b64": text}


def _is_one_number(array: Array) -> bool:
    """Return whether an array is a view of one number."""
    return array.ndim > 0 and array.size > 0 and not any(array.strides)


def _repeat_in_base64(raw: bytes, count: int) -> str:
    """Encode some bytes that come many times over.

    Base64 takes three bytes at a time: three of them end where a text of four characters ends.
    """
    return encode_base64_text(3 * raw) * (count // 3) + encode_base64_text(count % 3 * raw)


def _nest_number(number: float | str, shape: tuple[int, ...]) -> list[Any]:
    """Return nested lists of one number."""
    if len(shape) == 1:
        return [number] * shape[0]
    return [_nest_number(number, shape[1:]) for _ in range(shape[0])]


def _encode_numbers(values: list[Any]) -> list[Any]:
    return [
        _encode_numbers(cast("list[Any]", value)) if isinstance(value, list) else encode_number(value)
        for value in values
    ]
