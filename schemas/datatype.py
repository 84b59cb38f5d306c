"""Datatypes of the wire, and the storage of their elements."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas import float8
from schemas.float8 import Float8Format

Array = npt.NDArray[Any]


def round_to_bfloat16(values: Array) -> Array:
    """Round to the nearest bfloat16, ties to even, in the float32 that holds it.

    Notes
    -----
    Rounding through float32 would round twice. Rounding float64 to odd first keeps the sticky bit.
    """
    float32_values = values.astype(np.float32)
    finite = np.isfinite(float32_values) & np.isfinite(values)
    inexact = finite & (float32_values.astype(np.float64) != values)
    is_rounded_away = inexact & (np.abs(float32_values.astype(np.float64)) > np.abs(values))
    bits = float32_values.view(np.uint32).copy()
    bits -= is_rounded_away.astype(np.uint32)
    bits |= inexact.astype(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(finite, rounded.view(np.float32), float32_values)


def bfloat16_to_float32(bits: Array) -> Array:
    """Widen bfloat16, bits of uint16, to float32 exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class Datatype:
    """A datatype of the wire.

    Attributes
    ----------
    name, numpy_name, short_name
        Names on the wire, in NumPy and in safetensors.
    storage_dtype
        Storage of an element.
    kind
        "float", "integer" or "boolean".
    float8
        Format of a float of 8 bits; None for all others.
    """

    name: str
    numpy_name: str
    storage_dtype: np.dtype[Any]
    kind: str
    short_name: str
    float8: Float8Format | None = None

    def from_storage(self, raw: bytes | bytearray) -> Array:
        """Return the elements of stored bytes as a writable array.

        The array takes the memory of a bytearray, which the caller gives away.
        """
        storage_array = np.frombuffer(raw, self.storage_dtype)
        if self.name == "BF16":
            return bfloat16_to_float32(storage_array)
        if self.float8 is not None:
            return self.float8.decode(storage_array)
        return storage_array.astype(self.storage_dtype.newbyteorder("="), copy=not storage_array.flags.writeable)

    def to_storage(self, array: Array) -> Array:
        """Return the stored elements, little-endian and row-major; bfloat16 and float8 come in float32."""
        if self.float8 is not None:
            return self.float8.encode(np.asarray(array, order="C"))
        if self.name == "BF16":
            array = np.asarray(array, dtype=np.float32, order="C").view(np.uint32) >> 16
        return np.asarray(array, dtype=self.storage_dtype, order="C")

    def round_to_nearest(self, values: Array) -> Array:
        """Round float64 to a float datatype; bfloat16 and float8 stay in the float32 that holds them."""
        if self.float8 is not None:
            return self.float8.round_to_nearest(values)
        return round_to_bfloat16(values) if self.name == "BF16" else values.astype(self.storage_dtype)


DATATYPES: dict[str, Datatype] = {
    datatype.name: datatype
    for datatype in (
        Datatype("FP64", "float64", np.dtype("<f8"), "float", "F64"),
        Datatype("FP32", "float32", np.dtype("<f4"), "float", "F32"),
        Datatype("FP16", "float16", np.dtype("<f2"), "float", "F16"),
        Datatype("BF16", "bfloat16", np.dtype("<u2"), "float", "BF16"),
        Datatype("FP8_E4M3", "float8_e4m3fn", np.dtype("u1"), "float", "F8_E4M3", float8.E4M3),
        Datatype("FP8_E5M2", "float8_e5m2", np.dtype("u1"), "float", "F8_E5M2", float8.E5M2),
        Datatype("INT64", "int64", np.dtype("<i8"), "integer", "I64"),
        Datatype("INT32", "int32", np.dtype("<i4"), "integer", "I32"),
        Datatype("BOOL", "bool", np.dtype("?"), "boolean", "BOOL"),
    )
}
BY_ANY_NAME: dict[str, Datatype] = DATATYPES | {datatype.numpy_name: datatype for datatype in DATATYPES.values()}
BY_SHORT_NAME: dict[str, Datatype] = {datatype.short_name: datatype for datatype in DATATYPES.values()}
