"""Bodies in the safetensors format, written by hand: by nothing that reads them."""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

SAFETENSORS_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "bool": "BOOL",
}

Entry = tuple[str, list[int], bytes]


def frame_body(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Any header, as bytes or to be JSON, and any data behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def make_entry(array: Any) -> Entry:
    array = np.asarray(array)
    return SAFETENSORS_DTYPES[array.dtype.name], list(array.shape), array.tobytes()


def make_bfloat16_entry(array: Any) -> Entry:
    """The upper halves of float32."""
    array = np.asarray(array, np.float32)
    return "BF16", list(array.shape), (array.view(np.uint32) >> 16).astype("<u2").tobytes()


def make_body(entries: Mapping[str, Entry], metadata: Any = None) -> bytes:
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, shape, raw) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return frame_body(header, data)


def encode_request(request: Mapping[str, Any]) -> bytes:
    """A request as it is in JSON, its tensors nested lists: the same request in the other form."""
    sections = ("tensors", "weights", "candidate")
    entries = {
        f"{section}/{name}": make_entry(np.array(value, np.float64))
        for section in sections
        for name, value in request.get(section, {}).items()
    }
    rest = {name: value for name, value in request.items() if name not in sections}
    return make_body(entries, {"request": json.dumps(rest)})


def read_body(raw: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    """Tensors and metadata."""
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    entries: dict[str, Entry] = {}
    for name, array in header.items():
        start, stop = array["data_offsets"]
        entries[name] = array["dtype"], array["shape"], raw[8 + length + start : 8 + length + stop]
    return entries, metadata
