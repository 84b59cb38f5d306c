"""Bodies as they cross the wire, in JSON and in the safetensors format, written and read with NumPy alone.

That format is 8 bytes with the length of a header, little-endian; the header, JSON of `dtype`, `shape` and
`data_offsets` by name; and the numbers, without gaps.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
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
"""What has the report for reading beside it: an entry of the metadata, or of the last line of progress."""

_LENGTH_BYTES = 8
_MAX_FIELDS_CHARACTERS = 2**21
"""Characters of other fields beyond which a request goes in JSON: a service takes a header of twice as many."""
_MAX_POINTER_PARTS = 6
"""Parts of a pointer."""
_METADATA_KEY = "__metadata__"


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
        It is none, or is nested more deeply than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class UnexpectedAnswerGuard:  # as those of contextlib, whose decorator would leave frames of its own in a traceback
    """Read an answer in a block, of which not every part is looked at first.

    Raises
    ------
    UnexpectedAnswerError
        A part is missing, or is of another kind than it should be.
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


def encode_body(fields: Mapping[str, Any], sections: Mapping[str, Mapping[str, TypedTensor | UntypedTensor]]) -> Body:
    """Write a request.

    Parameters
    ----------
    fields
        All but tensors.
    sections
        Tensors, by field and name.

    Raises
    ------
    RequestError
        A field is not JSON.
    """
    tensors = {f"{section}/{name}": each for section, named in sections.items() for name, each in named.items()}
    text = _encode_json(dict(fields))
    if any(isinstance(each, UntypedTensor) for each in tensors.values()) or len(text) > _MAX_FIELDS_CHARACTERS:
        # Only JSON has numbers without a datatype, and room for fields that are large themselves.
        nested = {
            section: {name: each.as_json() for name, each in named.items()} for section, named in sections.items()
        }
        return Body(_encode_json(dict(fields) | nested).encode(), JSON)
    return Body(to_safetensors(cast("dict[str, TypedTensor]", tensors), {"request": text}), SAFETENSORS)


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
    """A number of NumPy as one of Python."""
    kind = type(value).__qualname__
    plain: object = cast("Any", value).item() if isinstance(value, np.generic) else None
    if isinstance(plain, int | float):
        return plain
    raise TypeError(f"it is of type {kind}")


def _find_unencodable(value: Any, pointer: str = "", depth: int = 0) -> str:
    """The pointer to the innermost part that is not JSON; of what is nested very deeply, to one above it."""
    items: Iterable[tuple[object, Any]] = ()
    if isinstance(value, dict):
        items = cast("dict[object, Any]", value).items()
    elif isinstance(value, list | tuple):
        items = enumerate(cast("Sequence[Any]", value))
    for key, each in items if depth < _MAX_POINTER_PARTS else ():
        try:
            _dump_json(each)
        except (TypeError, ValueError, RecursionError):
            return _find_unencodable(each, f"{pointer}/{key}", depth + 1)
    return pointer


def to_safetensors(tensors: Mapping[str, TypedTensor], metadata: Mapping[str, str]) -> bytes:
    """Write tensors in the safetensors format."""
    header: dict[str, Any] = {_METADATA_KEY: dict(metadata)}
    start = 0
    for name, each in tensors.items():
        end = start + each.array.nbytes
        shape = list(each.array.shape)
        header[name] = {"dtype": each.datatype.short_name, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    # Numbers begin where 8 bytes do, so that they can be read in place.
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return b"".join(
        [len(text).to_bytes(_LENGTH_BYTES, "little"), text, *(each.array.tobytes() for each in tensors.values())]
    )


def add_report_parameter(media_type: str, report_media_type: str) -> str:
    """What to accept for a report that is to come for reading, too, in another form."""
    return f'{media_type}; report="{report_media_type}"'


def read_safetensors_report(content: bytes) -> tuple[dict[str, Array], Any]:
    """Read an answer in the safetensors format: its tensors, and the JSON of its metadata entry `report`.

    Raises
    ------
    UnexpectedAnswerError
        It is not in that format.
    """
    with UnexpectedAnswerGuard():
        try:
            tensors, metadata = read_safetensors(content)
        except RequestError as error:
            raise ValueError(str(error)) from None
        return {name: each.datatype.from_storage(each.array) for name, each in tensors.items()}, load_json(
            metadata["report"]
        )


def read_text_entry(content: bytes) -> str | None:
    """The report for reading of an answer in the safetensors format, if it came beside.

    Raises
    ------
    RequestError
        It is not in that format.
    """
    return read_safetensors(content)[1].get(TEXT_ENTRY)


def assemble_report(content: bytes) -> dict[str, Any]:
    """A report of which the tensors came by themselves, named gradients/w1/analytic.

    Raises
    ------
    UnexpectedAnswerError
        It is not in that format.
    """
    arrays, raw = read_safetensors_report(content)
    parts: dict[str, dict[str, dict[str, Any]]] = {"gradients": {}, "intermediates": {}}
    with UnexpectedAnswerGuard():
        for full, array in arrays.items():
            # A name may have slashes of its own.
            part, _, rest = full.partition("/")
            name, _, route = rest.rpartition("/")
            parts[part].setdefault(name, {})[route] = array
        return raw | parts


def read_safetensors(content: bytes) -> tuple[dict[str, TypedTensor], Mapping[str, str]]:
    """Read tensors in the safetensors format, and the metadata.

    Raises
    ------
    RequestError
        They are not in that format.
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
    """Whether bytes are in that format: a length that they have, and behind it the beginning of an object."""
    return content[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{" and int.from_bytes(
        content[:_LENGTH_BYTES], "little"
    ) <= len(content)
