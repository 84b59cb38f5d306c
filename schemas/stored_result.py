"""Results of jobs as bytes, from which an answer in any form is made.

A stored result is a file in the safetensors format with the tensors of the result, and in its metadata the other fields
and the place of each tensor.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import orjson

from schemas.json_writer import defer_tensor
from schemas.safetensors_body import REPORT_ENTRY, decode_tensors, to_safetensors
from schemas.tensor import Encoding, Tensor

_PLACES_ENTRY = "places"
Place = tuple[str | int, ...]
"""Keys from the document to a value."""


def pack_result(document: Mapping[str, Any]) -> bytes:
    """Write a document with "binary" tensors at any depth as bytes.

    Parameters
    ----------
    document
        Document of an answer. It may hold arrays and NumPy numbers besides, which become lists and numbers.
    """
    tensors = dict(_find_tensors(document, ()))
    places = orjson.dumps(list(tensors)).decode()
    names = {place: f"tensor {number}" for number, place in enumerate(tensors)}
    return to_safetensors(
        {names[place]: tensor for place, tensor in tensors.items()},
        _replace_tensors(document, lambda tensor: None),
        {_PLACES_ENTRY: places},
    )


def unpack_result(content: bytes) -> dict[str, Any]:
    """Read what `pack_result` wrote: the document with its "binary" tensors, and its keys in their order."""
    tensors, metadata = decode_tensors(content)
    document = cast("dict[str, Any]", orjson.loads(metadata[REPORT_ENTRY]))
    for number, place in enumerate(orjson.loads(metadata[_PLACES_ENTRY])):
        parent: Any = document
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = Tensor.decode_all(tensors[f"tensor {number}"])
    return document


def encode_result(document: Mapping[str, Any], encoding: Encoding) -> Any:
    """Return a document whose tensors the writer of JSON encodes, "nested" or as "b64"."""
    return _replace_tensors(document, lambda tensor: defer_tensor(tensor.array, encoding, tensor.datatype))


def _find_tensors(value: Any, place: Place) -> Iterator[tuple[Place, Tensor]]:
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, Mapping):
        for key, part in cast("Mapping[str, Any]", value).items():
            yield from _find_tensors(part, (*place, key))
    elif isinstance(value, list):
        for index, part in enumerate(cast("list[Any]", value)):
            yield from _find_tensors(part, (*place, index))


def _replace_tensors(value: Any, replace: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return replace(value)
    if isinstance(value, Mapping):
        return {key: _replace_tensors(part, replace) for key, part in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_replace_tensors(part, replace) for part in cast("list[Any]", value)]
    return value
