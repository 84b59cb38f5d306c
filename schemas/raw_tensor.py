"""A tensor as bytes, little-endian and row-major, in base64 or in safetensors."""

import math
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import PydanticCustomError

from schemas.base64_text import decode_base64_text
from schemas.datatype import BY_SHORT_NAME, Array, Datatype

MAX_DIMENSIONS = 32


def make_tensor_error(message: str) -> PydanticCustomError:
    """Make the error of a tensor from its message."""
    # The message is data: pydantic would take it for a template.
    return PydanticCustomError("tensor", "{message}", {"message": message})


@dataclass(frozen=True)
class RawTensor:
    """An unchecked tensor of a safetensors body: the name of its dtype, its shape and its bytes."""

    dtype: str
    shape: list[int]
    raw: bytearray

    def decode(self) -> tuple[Datatype, Array]:
        """Return the datatype and the array, which takes the memory of the bytes.

        Raises
        ------
        PydanticCustomError
            The dtype or the shape is invalid, or the bytes do not fit them.
        """
        datatype = BY_SHORT_NAME.get(self.dtype)
        if datatype is None:
            raise make_tensor_error(f"dtype must be one of {', '.join(BY_SHORT_NAME)}; {self.dtype} was given")
        return datatype, decode_bytes(self.raw, datatype, read_shape(self.shape), "the body")


def validate_shape(value: object) -> tuple[int, ...]:
    """Read the shape of one element at least.

    Raises
    ------
    PydanticCustomError
        The value is no shape, has too many dimensions, or has no elements.
    """
    shape = read_shape(value)
    if 0 in shape:
        raise make_tensor_error(f"empty: its shape is {format_shape(list(shape))}")
    return shape


_MAX_EMPTY_EXTENT = 2**31
"""Most elements of an empty tensor without its dimensions of 0: NumPy counts the bytes of these."""


def read_shape(value: object) -> tuple[int, ...]:
    """Read a shape.

    Raises
    ------
    PydanticCustomError
        The value is no shape, has too many dimensions, or is that of an empty tensor of far too long axes.
    """
    sizes = cast("list[Any]", value) if isinstance(value, list) else None
    if sizes is None or any(type(size) is not int or size < 0 for size in sizes):
        raise make_tensor_error("shape must be a list of sizes, like [2, 3]")
    if len(sizes) > MAX_DIMENSIONS:
        raise make_tensor_error(f"shape has {len(sizes)} dimensions; at most {MAX_DIMENSIONS} are taken")
    if 0 in sizes and math.prod(size for size in sizes if size) > _MAX_EMPTY_EXTENT:
        raise make_tensor_error(f"empty, and too long: its shape is {format_shape(sizes)}")
    return tuple(sizes)


def format_shape(sizes: list[int]) -> str:
    """Write a shape for a sentence, at most 100 characters of it."""
    text = str(sizes)
    return text if len(text) <= 100 else text[:100] + "..."


def decode_base64(text: object, datatype: Datatype, shape: tuple[int, ...]) -> Array:
    """Read an array from base64.

    Raises
    ------
    PydanticCustomError
        The text is not base64, or its bytes do not fit shape and datatype.
    """
    if not isinstance(text, str):
        raise make_tensor_error("b64 must be a string")
    try:
        raw = decode_base64_text(text)
    except ValueError:
        raise make_tensor_error("b64 is not base64") from None
    return decode_bytes(raw, datatype, shape, "b64")


def decode_bytes(raw: bytes | bytearray, datatype: Datatype, shape: tuple[int, ...], source: str) -> Array:
    """Read an array from its bytes.

    Parameters
    ----------
    raw
        Bytes, little-endian and row-major.
    datatype, shape
        Datatype and shape of the array.
    source
        Name of the place of the bytes, for an error.

    Raises
    ------
    PydanticCustomError
        The bytes do not fit shape and datatype.
    """
    expected = math.prod(shape) * datatype.storage_dtype.itemsize
    if len(raw) != expected:
        raise make_tensor_error(
            f"shape {format_shape(list(shape))} of {datatype.name} takes {_format_byte_count(expected)}; "
            f"{source} holds {len(raw)}"
        )
    if datatype.kind == "boolean" and raw.strip(b"\0\1"):
        raise make_tensor_error("datatype BOOL takes bytes 0 and 1")
    return datatype.from_storage(raw).reshape(shape)


def _format_byte_count(count: int) -> str:
    # A shape may declare a number of many thousand digits, which Python refuses to print.
    return f"{count} bytes" if count < 2**63 else "more bytes than any body has"
