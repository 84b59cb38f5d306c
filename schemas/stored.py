"""A tensor that comes as bytes, little-endian and row-major: in base64, or as safetensors has it."""

import binascii
import math
from base64 import b64decode
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import PydanticCustomError

from schemas.datatype import BY_SHORT_NAME, Array, Datatype

MAX_DIMENSIONS = 32


def refused(message: str) -> PydanticCustomError:
    """Make the error that says what is wrong with a tensor."""
    # The message is data, not a template of pydantic's.
    return PydanticCustomError("tensor", "{message}", {"message": message})


@dataclass(frozen=True)
class Stored:
    """A tensor of a safetensors body: the name of its dtype there, its shape and its bytes, nothing of it checked."""

    dtype: str
    shape: list[int]
    raw: bytearray

    def read(self) -> tuple[Datatype, Array]:
        """Datatype and array, which takes the place of the bytes.

        Raises
        ------
        PydanticCustomError
            Where the dtype is not taken, the shape is not, or the bytes do not fit them.
        """
        datatype = BY_SHORT_NAME.get(self.dtype)
        if datatype is None:
            raise refused(f"dtype must be one of {', '.join(BY_SHORT_NAME)}; {self.dtype} was given")
        return datatype, from_bytes(self.raw, datatype, checked_shape(self.shape), "the body")


def checked_shape(value: object) -> tuple[int, ...]:
    """Read a shape.

    Raises
    ------
    PydanticCustomError
        Where it is none, has too many dimensions, or is that of no element.
    """
    sizes = cast("list[Any]", value) if isinstance(value, list) else None
    if sizes is None or any(type(size) is not int or size < 0 for size in sizes):
        raise refused("shape must be a list of sizes, like [2, 3]")
    if len(sizes) > MAX_DIMENSIONS:
        raise refused(f"shape has {len(sizes)} dimensions; at most {MAX_DIMENSIONS} are taken")
    if 0 in sizes:
        raise refused(f"empty: its shape is {shown(sizes)}")
    return tuple(sizes)


def shown(sizes: list[int]) -> str:
    """A shape as it stands in a sentence, shortened to what fits there."""
    text = str(sizes)
    return text if len(text) <= 100 else text[:100] + "..."


def from_b64(text: object, datatype: Datatype, shape: tuple[int, ...]) -> Array:
    """Read an array from base64.

    Raises
    ------
    PydanticCustomError
        Where it is not base64, or holds other bytes than shape and datatype take.
    """
    if not isinstance(text, str):
        raise refused("b64 must be a string")
    try:
        raw = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise refused("b64 is not base64") from None
    return from_bytes(raw, datatype, shape, "b64")


def from_bytes(raw: bytes | bytearray, datatype: Datatype, shape: tuple[int, ...], where: str) -> Array:
    """Read an array from its bytes, of which an error says where they are.

    Raises
    ------
    PydanticCustomError
        Where they are others than shape and datatype take.
    """
    expected = math.prod(shape) * datatype.stored.itemsize
    if len(raw) != expected:
        raise refused(
            f"shape {shown(list(shape))} of {datatype.name} takes {_bytes(expected)}; {where} holds {len(raw)}"
        )
    if datatype.kind == "boolean" and raw.strip(b"\0\1"):
        raise refused("datatype BOOL takes bytes 0 and 1")
    return datatype.restored(raw).reshape(shape)


def _bytes(count: int) -> str:
    # A shape may declare a number of many thousand digits; Python refuses to print such a one.
    return f"{count} bytes" if count < 2**63 else "more bytes than any body has"
