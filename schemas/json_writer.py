"""The writer of answers as JSON text, one tensor after the other.

A document holds a tensor as its array. There is more of it only while its text is written.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import orjson

from schemas.datatype import Array, Datatype
from schemas.tensor import Encoding, Tensor, encode_tensor, to_nested_list

_NUMBERS_PER_PIECE = 2**14
"""Numbers that are written as one list of Python."""


@dataclass(frozen=True)
class DeferredTensor(Tensor):
    """A tensor of an answer, which the writer encodes."""

    encoding: Encoding = "nested"

    def to_wire(self) -> Any:
        """Return the wire form of the tensor."""
        if self.encoding == "nested":
            return self.array
        return encode_tensor(self.array, self.encoding, self.datatype)


@dataclass(frozen=True)
class DeferredPart:
    """A part of an answer that the writer makes."""

    to_wire: Callable[[], Any]


def defer_tensor(array: Array, encoding: Encoding, datatype: Datatype | None = None) -> Any:
    """Keep an array for the writer to encode; a number is encoded at once."""
    if encoding == "binary" or (encoding == "nested" and not array.ndim):
        return encode_tensor(array, encoding, datatype)
    return DeferredTensor(array, datatype, is_integral=False, encoding=encoding)


def write_json(document: Any) -> bytes:
    """Write a document, with arrays, NumPy numbers and deferred parts, as JSON."""
    return orjson.dumps(document, _encode_deferred, orjson.OPT_PASSTHROUGH_DATACLASS)


def _encode_deferred(value: Any) -> Any:
    if isinstance(value, DeferredTensor | DeferredPart):
        return value.to_wire()
    if isinstance(value, np.ndarray | np.generic):
        array = cast("Array", value)
        return orjson.Fragment(_write_array(array)) if array.ndim else array.item()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _write_array(array: Array) -> bytes:
    """Write an array of one axis or more, as lists of some thousand numbers at a time.

    Notes
    -----
    orjson could write NumPy arrays itself. Its version 3.13.0 writes beyond its buffer if long numbers end near the
    end of it, and the process ends sooner or later.
    """
    return b"[%b]" % b",".join(_write_pieces(array))


def _write_pieces(array: Array) -> Iterator[bytes]:
    row = math.prod(array.shape[1:])
    if row > _NUMBERS_PER_PIECE and array.ndim > 1:
        for row_array in array:
            yield _write_array(row_array)
        return
    length = max(1, _NUMBERS_PER_PIECE // max(1, row))
    for start in range(0, len(array), length):
        yield orjson.dumps(to_nested_list(array[start : start + length]))[1:-1]
