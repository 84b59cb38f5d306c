"""A tensor that comes as bytes, little-endian and row-major: in base64, or as safetensors has it."""

import binascii
import math
from base64 import b64decode
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import PydanticCustomError

from schemas.datatype import BY_SHORT_NAME, Array, Datatype

MAX_DIMENSIONS = 32


def make_tensor_error(message: str) -> PydanticCustomError:
    """Make the error that says what is wrong with a tensor."""
    # The message is data, not a template of pydantic's.
    return PydanticCustomError("tensor", "{message}", {"message": message})


@dataclass(frozen=True)
class RawTensor:
    """A tensor of a safetensors body: the name of its dtype there, its shape and its bytes, nothing of it checked."""

    dtype: str
    shape: list[int]
    raw: bytearray

    def decode(self) -> tuple[Datatype, Array]:
        """Datatype and array, which takes the place of the bytes.

        Raises
        ------
        PydanticCustomError
            Where the dtype is not taken, the shape is not, or the bytes do not fit them.
        """
        datatype = BY_SHORT_NAME.get(self.dtype)
        if datatype is None:
            raise make_tensor_error(f"dtype must be one of {', '.join(BY_SHORT_NAME)}; {self.dtype} was given")
        return datatype, decode_bytes(self.raw, datatype, validate_shape(self.shape), "the body")


def validate_shape(value: object) -> tuple[int, ...]:
    """Read a shape.

    Raises
    ------
    PydanticCustomError
        Where it is none, has too many dimensions, or is that of no element.
    """
    sizes = cast("list[Any]", value) if isinstance(value, list) else None
    if sizes is None or any(type(size) is not int or size < 0 for size in sizes):
        raise make_tensor_error("shape must be a list of sizes, like [2, 3]")
    if len(sizes) > MAX_DIMENSIONS:
        raise make_tensor_error(f"shape has {len(sizes)} dimensions; at most {MAX_DIMENSIONS} are taken")
    if 0 in sizes:
        raise make_tensor_error(f"empty: its shape is {format_shape(sizes)}")
    return tuple(sizes)


def format_shape(sizes: list[int]) -> str:
    """A shape as it stands in a sentence, shortened to what fits there."""
    text = str(sizes)
    return text if len(text) <= 100 else text[:100] + "..."


def decode_base64(text: object, datatype: Datatype, shape: tuple[int, ...]) -> Array:
    """Read an array from base64.

    Raises
    ------
    PydanticCustomError
        Where it is not base64, or holds other bytes than shape and datatype take.
    """
    if not isinstance(text, str):
        raise make_tensor_error("b64 must be a string")
    try:
        raw = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise make_tensor_error("b64 is not base64") from None
    return decode_bytes(raw, datatype, shape, "b64")


def decode_bytes(raw: bytes | bytearray, datatype: Datatype, shape: tuple[int, ...], source: str) -> Array:
    """Read an array from its bytes, of which an error says where they are.

    Raises
    ------
    PydanticCustomError
        Where they are others than shape and datatype take.
    """
    expected = math.prod(shape) * datatype.storage_dtype.itemsize
    if len(raw) != expected:
        raise make_tensor_error(
            f"shape {format_shape(list(shape))} of {datatype.name} takes {_format_byte_count(expected)}; {source} holds {len(raw)}"
        )
    if datatype.kind == "boolean" and raw.strip(b"\0\1"):
        raise make_tensor_error("datatype BOOL takes bytes 0 and 1")
    return datatype.from_storage(raw).reshape(shape)


def _format_byte_count(count: int) -> str:
    # A shape may declare a number of many thousand digits; Python refuses to print such a one.
    return f"{count} bytes" if count < 2**63 else "more bytes than any body has"
