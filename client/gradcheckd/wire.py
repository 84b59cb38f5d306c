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

from gradcheckd.arrays import BY_SHORT_NAME, Array, Bare, Stored
from gradcheckd.errors import GradcheckdError, RequestError, UnexpectedAnswerError, hides, said

__tracebackhide__ = hides

JSON = "application/json"
SAFETENSORS = "application/vnd.safetensors"
NDJSON = "application/x-ndjson"
TEXT = "text/plain"
MARKDOWN = "text/markdown"
READABLE = "text"
"""What has the report for reading beside it: an entry of the metadata, or of the last line of progress."""

_LENGTH = 8
_LONGEST = 2**21
"""Characters of other fields beyond which a request goes in JSON: a service takes a header of twice as many."""
_POINTED = 6
"""Parts of a pointer."""
_METADATA = "__metadata__"


@dataclass(frozen=True)
class Body:
    """A body and its content type."""

    content: bytes
    media_type: str


def loaded(text: str | bytes) -> Any:
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


class expected:  # noqa: N801  # as those of contextlib, whose decorator would leave frames of its own in a traceback
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


def body(fields: Mapping[str, Any], sections: Mapping[str, Mapping[str, Stored | Bare]]) -> Body:
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
    text = _json(dict(fields))
    if any(isinstance(each, Bare) for each in tensors.values()) or len(text) > _LONGEST:
        # Only JSON has numbers without a datatype, and room for fields that are large themselves.
        nested = {
            section: {name: each.as_json() for name, each in named.items()} for section, named in sections.items()
        }
        return Body(_json(dict(fields) | nested).encode(), JSON)
    return Body(packed(cast("dict[str, Stored]", tensors), {"request": text}), SAFETENSORS)


def _json(fields: dict[str, Any]) -> str:
    try:
        return _dumped(fields)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"The field {_culprit(fields)} of the request is not JSON: {said(error)}.") from None


def _dumped(value: object) -> str:
    return json.dumps(value, allow_nan=False, default=_plain)


def _plain(value: object) -> Any:
    """A number of NumPy as one of Python."""
    kind = type(value).__qualname__
    plain: object = cast("Any", value).item() if isinstance(value, np.generic) else None
    if isinstance(plain, int | float):
        return plain
    raise TypeError(f"it is of type {kind}")


def _culprit(value: Any, place: str = "", depth: int = 0) -> str:
    """The pointer to the innermost part that is not JSON; of what is nested very deeply, to one above it."""
    items: Iterable[tuple[object, Any]] = ()
    if isinstance(value, dict):
        items = cast("dict[object, Any]", value).items()
    elif isinstance(value, list | tuple):
        items = enumerate(cast("Sequence[Any]", value))
    for key, each in items if depth < _POINTED else ():
        try:
            _dumped(each)
        except (TypeError, ValueError, RecursionError):
            return _culprit(each, f"{place}/{key}", depth + 1)
    return place


def packed(tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> bytes:
    """Write tensors in the safetensors format."""
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    start = 0
    for name, each in tensors.items():
        end = start + each.array.nbytes
        shape = list(each.array.shape)
        header[name] = {"dtype": each.datatype.short_name, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    # Numbers begin where 8 bytes do, so that they can be read in place.
    text += b" " * (-len(text) % _LENGTH)
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *(each.array.tobytes() for each in tensors.values())])


def beside(media_type: str, form: str) -> str:
    """What to accept for a report that is to come for reading, too, in another form."""
    return f'{media_type}; report="{form}"'


def unpacked(content: bytes) -> tuple[dict[str, Array], Any]:
    """Read an answer in the safetensors format: its tensors, and the JSON of its metadata entry `report`.

    Raises
    ------
    UnexpectedAnswerError
        It is not in that format.
    """
    with expected():
        try:
            tensors, metadata = stored(content)
        except RequestError as error:
            raise ValueError(str(error)) from None
        return {name: each.datatype.restored(each.array) for name, each in tensors.items()}, loaded(metadata["report"])


def readable(content: bytes) -> str | None:
    """The report for reading of an answer in the safetensors format, if it came beside.

    Raises
    ------
    RequestError
        It is not in that format.
    """
    return stored(content)[1].get(READABLE)


def assembled(content: bytes) -> dict[str, Any]:
    """A report of which the tensors came by themselves, named gradients/w1/analytic.

    Raises
    ------
    UnexpectedAnswerError
        It is not in that format.
    """
    arrays, raw = unpacked(content)
    parts: dict[str, dict[str, dict[str, Any]]] = {"gradients": {}, "intermediates": {}}
    with expected():
        for full, array in arrays.items():
            # A name may have slashes of its own.
            part, _, rest = full.partition("/")
            name, _, route = rest.rpartition("/")
            parts[part].setdefault(name, {})[route] = array
        return raw | parts


def stored(content: bytes) -> tuple[dict[str, Stored], Mapping[str, str]]:
    """Read tensors in the safetensors format, and the metadata.

    Raises
    ------
    RequestError
        They are not in that format.
    """
    try:
        length = int.from_bytes(content[:_LENGTH], "little")
        header = loaded(content[_LENGTH : _LENGTH + length])
        metadata = dict(header.pop(_METADATA, {}))
        data = memoryview(content)[_LENGTH + length :]
        return {name: _tensor(entry, data) for name, entry in header.items()}, metadata
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"Not in the safetensors format: {error!r}") from None


def _tensor(entry: Mapping[str, Any], data: memoryview) -> Stored:
    start, end = entry["data_offsets"]
    datatype = BY_SHORT_NAME[entry["dtype"]]
    return Stored(datatype, np.frombuffer(data[start:end], datatype.stored).reshape(entry["shape"]))


def is_safetensors(content: bytes) -> bool:
    """Whether bytes are in that format: a length that they have, and behind it the beginning of an object."""
    return content[_LENGTH : _LENGTH + 1] == b"{" and int.from_bytes(content[:_LENGTH], "little") <= len(content)
