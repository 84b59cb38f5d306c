"""Datatypes of the wire, and how their elements are stored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def round_to_bfloat16(wide: Array) -> Array:
    """Round to the nearest bfloat16, ties to even, in the float32 that holds it.

    Through float32 would round twice, so the sticky bit is kept: float64 is first rounded to odd.
    """
    narrow = wide.astype(np.float32)
    finite = np.isfinite(narrow) & np.isfinite(wide)
    inexact = finite & (narrow.astype(np.float64) != wide)
    away = inexact & (np.abs(narrow.astype(np.float64)) > np.abs(wide))
    bits = narrow.view(np.uint32).copy()
    bits -= away.astype(np.uint32)
    bits |= inexact.astype(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(finite, rounded.view(np.float32), narrow)


def bfloat16_to_float32(bits: Array) -> Array:
    """Widen bfloat16, given as uint16, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class Datatype:
    """A datatype of the wire: its names, the last of them that of safetensors, and how an element is stored."""

    name: str
    numpy_name: str
    storage_dtype: np.dtype[Any]
    kind: str
    short_name: str

    def from_storage(self, raw: bytes | bytearray) -> Array:
        """Elements from their bytes, as an array of one's own; of a bytearray, which is given away, in its place."""
        stored = np.frombuffer(raw, self.storage_dtype)
        if self.name == "BF16":
            return bfloat16_to_float32(stored)
        return stored.astype(self.storage_dtype.newbyteorder("="), copy=not stored.flags.writeable)

    def to_storage(self, array: Array) -> Array:
        """Elements as they are stored: little-endian, row-major; bfloat16, given in float32, as its 16 bits."""
        if self.name == "BF16":
            array = np.asarray(array, dtype=np.float32, order="C").view(np.uint32) >> 16
        return np.asarray(array, dtype=self.storage_dtype, order="C")


DATATYPES: dict[str, Datatype] = {
    datatype.name: datatype
    for datatype in (
        Datatype("FP64", "float64", np.dtype("<f8"), "float", "F64"),
        Datatype("FP32", "float32", np.dtype("<f4"), "float", "F32"),
        Datatype("FP16", "float16", np.dtype("<f2"), "float", "F16"),
        Datatype("BF16", "bfloat16", np.dtype("<u2"), "float", "BF16"),
        Datatype("INT64", "int64", np.dtype("<i8"), "integer", "I64"),
        Datatype("INT32", "int32", np.dtype("<i4"), "integer", "I32"),
        Datatype("BOOL", "bool", np.dtype("?"), "boolean", "BOOL"),
    )
}
BY_ANY_NAME: dict[str, Datatype] = DATATYPES | {each.numpy_name: each for each in DATATYPES.values()}
BY_SHORT_NAME: dict[str, Datatype] = {each.short_name: each for each in DATATYPES.values()}
