"""Bodies on the wire, in JSON and in the safetensors format, written and read with NumPy alone.

That format is 8 bytes with the length of a header, little-endian; the header, JSON of `dtype`, `shape` and
`data_offsets` by name; and the numbers, without gaps.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

import numpy as np

from gradcheckd.arrays import BY_SHORT_NAME, Array, TypedTensor, UntypedTensor
from gradcheckd.errors import GradcheckdError, RequestError, UnexpectedAnswerError, describe_error, hide_frames

__tracebackhide__ = hide_frames

JSON = "application/json"
SAFETENSORS = "application/vnd.safetensors"
NDJSON = "application/x-ndjson"
TEXT = "text/plain"
MARKDOWN = "text/markdown"
TEXT_ENTRY = "text"
"""Place of the report for reading beside the report: in the metadata, or in the last line of progress."""

_LENGTH_BYTES = 8
_MAX_FIELDS_CHARACTERS = 2**21
"""Longer fields make a request go in JSON: a service accepts a header of twice as many characters."""
_MAX_POINTER_PARTS = 6
"""A longer pointer helps nobody."""
_METADATA_KEY = "__metadata__"

Section = Mapping[str, TypedTensor | UntypedTensor] | Mapping[str, Mapping[str, TypedTensor | UntypedTensor]]
"""Tensors of one field of a request: by name, or by the names of an output and a tensor."""


@dataclass(frozen=True)
class Body:
    """A body and its content type."""

    content: bytes
    media_type: str


def load_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises
    ------
    ValueError
        The text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class UnexpectedAnswerGuard:  # as those of contextlib, whose decorator would leave frames of its own in a traceback
    """A context that reads an answer whose parts are not all validated first.

    Raises
    ------
    UnexpectedAnswerError
        A part is missing, or has another type than expected.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, ValueError | TypeError | LookupError | AttributeError) and not isinstance(
            error, GradcheckdError
        ):
            raise UnexpectedAnswerError(
                f"The answer is not as it should be: {error!r}. Is that the address of a gradcheckd, and of a version "
                "that goes with this client?"
            ) from None


def encode_body(fields: Mapping[str, Any], sections: Mapping[str, Section]) -> Body:
    """Encode a request.

    Parameters
    ----------
    fields
        Fields other than tensors.
    sections
        Tensors, by field and name, or by field and several names in turn.

    Raises
    ------
    RequestError
        A field is not JSON.
    """
    tensors = dict(_list_tensors(sections))
    text = _encode_json(dict(fields))
    if any(isinstance(tensor, UntypedTensor) for tensor in tensors.values()) or len(text) > _MAX_FIELDS_CHARACTERS:
        # Only JSON has numbers without a datatype, and room for large fields.
        return Body(_encode_json(dict(fields) | _nest_tensors(sections)).encode(), JSON)
    return Body(to_safetensors(cast("dict[str, TypedTensor]", tensors), {"request": text}), SAFETENSORS)


def _list_tensors(sections: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, TypedTensor | UntypedTensor]]:
    for name, part in sections.items():
        if isinstance(part, Mapping):
            yield from _list_tensors(cast("Mapping[str, Any]", part), f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", part


def _nest_tensors(sections: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _nest_tensors(cast("Mapping[str, Any]", part)) if isinstance(part, Mapping) else part.as_json()
        for name, part in sections.items()
    }


def _encode_json(fields: dict[str, Any]) -> str:
    try:
        return _dump_json(fields)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(
            f"The field {_find_unencodable(fields)} of the request is not JSON: {describe_error(error)}."
        ) from None


def _dump_json(value: object) -> str:
    return json.dumps(value, allow_nan=False, default=_to_python_number)


def _to_python_number(value: object) -> Any:
    """Convert a number of NumPy to one of Python."""
    kind = type(value).__qualname__
    number: object = cast("Any", value).item() if isinstance(value, np.generic) else None
    if isinstance(number, int | float):
        return number
    raise TypeError(f"it is of type {kind}")


def _find_unencodable(value: Any, pointer: str = "", depth: int = 0) -> str:
    """Find the pointer to the innermost part that is not JSON, or to one above it where it is nested deeply."""
    items: Iterable[tuple[object, Any]] = ()
    if isinstance(value, dict):
        items = cast("dict[object, Any]", value).items()
    elif isinstance(value, list | tuple):
        items = enumerate(cast("Sequence[Any]", value))
    for key, part in items if depth < _MAX_POINTER_PARTS else ():
        try:
            _dump_json(part)
        except (TypeError, ValueError, RecursionError):
            return _find_unencodable(part, f"{pointer}/{key}", depth + 1)
    return pointer


def to_safetensors(tensors: Mapping[str, TypedTensor], metadata: Mapping[str, str]) -> bytes:
    """Write tensors in the safetensors format."""
    header: dict[str, Any] = {_METADATA_KEY: dict(metadata)}
    start = 0
    for name, tensor in tensors.items():
        end = start + tensor.array.nbytes
        shape = list(tensor.array.shape)
        header[name] = {"dtype": tensor.datatype.short_name, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    # Numbers begin at a multiple of 8 bytes, so that they can be read in place.
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return b"".join(
        [len(text).to_bytes(_LENGTH_BYTES, "little"), text, *(tensor.array.tobytes() for tensor in tensors.values())]
    )


def add_report_parameter(media_type: str, report_media_type: str) -> str:
    """Return the media range of a report that has a report for reading beside it."""
    return f'{media_type}; report="{report_media_type}"'


def read_safetensors_report(content: bytes) -> tuple[dict[str, Array], Any]:
    """Read an answer in the safetensors format: its tensors, and the JSON of its metadata entry `report`.

    Raises
    ------
    UnexpectedAnswerError
        The answer is not in that format.
    """
    with UnexpectedAnswerGuard():
        try:
            tensors, metadata = read_safetensors(content)
        except RequestError as error:
            raise ValueError(str(error)) from None
        return {name: tensor.datatype.from_storage(tensor.array) for name, tensor in tensors.items()}, load_json(
            metadata["report"]
        )


def read_text_entry(content: bytes) -> str | None:
    """Return the report for reading of an answer in the safetensors format, if it came beside.

    Raises
    ------
    RequestError
        The answer is not in that format.
    """
    return read_safetensors(content)[1].get(TEXT_ENTRY)


def assemble_report(content: bytes) -> dict[str, Any]:
    """Assemble a report whose tensors came by themselves, named gradients/w1/analytic.

    Raises
    ------
    UnexpectedAnswerError
        The answer is not in that format.
    """
    arrays, raw = read_safetensors_report(content)
    parts: dict[str, dict[str, dict[str, Any]]] = {"gradients": {}, "intermediates": {}}
    with UnexpectedAnswerGuard():
        for full_name, array in arrays.items():
            # A name may have slashes of its own.
            part, _, remaining = full_name.partition("/")
            name, _, route = remaining.rpartition("/")
            parts[part].setdefault(name, {})[route] = array
        return raw | parts


def read_safetensors(content: bytes) -> tuple[dict[str, TypedTensor], Mapping[str, str]]:
    """Read tensors in the safetensors format, and the metadata.

    Raises
    ------
    RequestError
        The content is not in that format.
    """
    try:
        length = int.from_bytes(content[:_LENGTH_BYTES], "little")
        header = load_json(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
        metadata = dict(header.pop(_METADATA_KEY, {}))
        data = memoryview(content)[_LENGTH_BYTES + length :]
        return {name: _read_tensor(entry, data) for name, entry in header.items()}, metadata
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"Not in the safetensors format: {error!r}") from None


def _read_tensor(entry: Mapping[str, Any], data: memoryview) -> TypedTensor:
    start, end = entry["data_offsets"]
    datatype = BY_SHORT_NAME[entry["dtype"]]
    return TypedTensor(datatype, np.frombuffer(data[start:end], datatype.storage_dtype).reshape(entry["shape"]))


def is_safetensors(content: bytes) -> bool:
    """Tell whether bytes are in that format: they begin with a length and an object."""
    return content[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{" and int.from_bytes(
        content[:_LENGTH_BYTES], "little"
    ) <= len(content)
