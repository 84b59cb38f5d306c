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
    """A datatype of the wire: its names, how an element is stored, and the NumPy dtype it becomes."""

    name: str
    numpy_name: str
    stored: np.dtype[Any]
    kind: str

    def restored(self, raw: bytes) -> Array:
        """Elements from their bytes, as an array of one's own."""
        stored = np.frombuffer(raw, self.stored)
        if self.name == "BF16":
            return bfloat16_to_float32(stored)
        return stored.astype(self.stored.newbyteorder("="))


DATATYPES: dict[str, Datatype] = {
    datatype.name: datatype
    for datatype in (
        Datatype("FP64", "float64", np.dtype("<f8"), "float"),
        Datatype("FP32", "float32", np.dtype("<f4"), "float"),
        Datatype("FP16", "float16", np.dtype("<f2"), "float"),
        Datatype("BF16", "bfloat16", np.dtype("<u2"), "float"),
        Datatype("INT64", "int64", np.dtype("<i8"), "integer"),
        Datatype("INT32", "int32", np.dtype("<i4"), "integer"),
        Datatype("BOOL", "bool", np.dtype("?"), "boolean"),
    )
}
BY_ANY_NAME: dict[str, Datatype] = DATATYPES | {each.numpy_name: each for each in DATATYPES.values()}
