"""Requests and reports in the safetensors format: 8 bytes, little-endian, of the header's length; the header; the data.

The library reads and writes it. The metadata, which it hands out of files alone, and names that occur twice, of which
it keeps one, are read here from the header itself. Nor is its NumPy side used, which does not know BF16.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import safetensors
from safetensors import SafetensorError, TensorSpec, serialize

from schemas.datatype import Datatype
from schemas.problem import InvalidRequestError, PlacedError, placed, shown
from schemas.report import CheckReport
from schemas.stored import Stored
from schemas.tensor import Tensor
from schemas.writing import written

SAFETENSORS = "application/vnd.safetensors"
SECTIONS = ("tensors", "weights", "candidate")
"""Fields of a check's request that are tensors of the body, named section/name."""
FIELDS, REPORT, READABLE = "request", "report", "text"
"""Entries of the metadata: those that hold all else as JSON text, of a request and of an answer; a report to read."""
_PARTS = ("gradients", "intermediates")
"""Fields of a report that are tensors of the answer, named part/name/route."""
_deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = cast("Any", safetensors).deserialize
_LENGTH = 8
_LONGEST_HEADER = 2**22
"""Bytes, of which to look through takes a second: room for the names of 2000 tensors and the other fields."""
_METADATA = "__metadata__"


class NotSafetensorsError(ValueError):
    """A body that is not in the safetensors format: what is wrong with it."""


@dataclass(frozen=True)
class Parts:
    """What a body holds: the text of the entry `request` of its metadata, and tensors by section and name."""

    fields: str
    sections: dict[str, dict[str, Stored]]

    def joined(self, fields: object) -> dict[str, Any]:
        """Put the tensors to the other fields, which the text has been parsed to.

        Raises
        ------
        InvalidRequestError
            Where these are no object, or are to have tensors of their own.
        """
        if not isinstance(fields, dict):
            raise InvalidRequestError([placed(f"the metadata entry `{FIELDS}` must be a JSON object")])
        given = cast("dict[str, Any]", fields)
        if twice := [
            placed(f"comes as tensors named {name}/..., not in the metadata entry `{FIELDS}`", name)
            for name in self.sections
            if name in given
        ]:
            raise InvalidRequestError(twice)
        return given | {name: tensors for name, tensors in self.sections.items() if tensors or name != "candidate"}


def decode(body: bytes, sections: tuple[str, ...] = SECTIONS) -> Parts:
    """Take a request with some sections apart; what its tensors are is not looked at.

    Raises
    ------
    NotSafetensorsError
        Where it is not in the format.
    InvalidRequestError
        Where a tensor is of no section.
    """
    length = int.from_bytes(body[:_LENGTH], "little")
    if len(body) >= _LENGTH and length > _LONGEST_HEADER:
        raise NotSafetensorsError(f"the header is said to have {length} bytes; at most {_LONGEST_HEADER} are taken")
    try:
        # In an order of the moment.
        entries = dict(_deserialize(body))
    except SafetensorError as error:
        # The library quotes what it does not know whole, a name of megabytes too.
        raise NotSafetensorsError(_shortened(str(error).removeprefix("Error while deserializing: "))) from None
    # The header is JSON, and of the right form: the library has seen to that.
    header = json.loads(body[_LENGTH : _LENGTH + length], object_pairs_hook=_without_repetition)
    metadata: dict[str, str] = header.pop(_METADATA, None) or {}
    return Parts(metadata.get(FIELDS, "{}"), _sections({name: entries[name] for name in header}, sections))


_LONGEST_REASON = 200
"""Characters of what the library says that are passed on."""


def _shortened(reason: str) -> str:
    """Cut a message in its middle, where it is long."""
    if len(reason) <= _LONGEST_REASON:
        return reason
    half = (_LONGEST_REASON - 3) // 2
    return f"{reason[:half]}...{reason[-half:]}"


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise NotSafetensorsError(f"its header has {shown(name)} twice")
        found[name] = value
    return found


def _sections(entries: dict[str, dict[str, Any]], known: tuple[str, ...]) -> dict[str, dict[str, Stored]]:
    sections: dict[str, dict[str, Stored]] = {name: {} for name in known}
    errors: list[PlacedError] = []
    for full, entry in entries.items():
        # What is behind the first slash is the name, with all the slashes that it has.
        section, slash, name = full.partition("/")
        if slash and section in sections:
            sections[section][name] = Stored(entry["dtype"], entry["shape"], entry["data"])
        else:
            errors.append(placed(_named(known, shown(full)), *full.split("/", 1)))
    if errors:
        raise InvalidRequestError(errors)
    return sections


def _named(sections: tuple[str, ...], given: str) -> str:
    *others, last = (f"{name}/..." for name in sections)
    names = f"{', '.join(others)} or {last}" if others else last
    return f"a tensor is named {names}, as in {(*sections, *sections)[1]}/w1; {given} is not"


def encode(report: CheckReport, text: str | None = None) -> bytes:
    """Write a report of which the tensors are "binary", and beside it, where it is given, what it is for reading."""
    fields = cast("dict[str, Any]", report)
    tensors: dict[str, Tensor] = {
        f"{part}/{name}/{route}": tensor
        for part in _PARTS
        for name, routes in fields[part].items()
        for route, tensor in routes.items()
    }
    rest = {name: value for name, value in fields.items() if name not in _PARTS}
    return packed(tensors, rest, {} if text is None else {READABLE: text})


def packed(tensors: Mapping[str, Tensor], rest: Mapping[str, Any], beside: Mapping[str, str] | None = None) -> bytes:
    """Write tensors, each with its datatype, all else of an answer, and further entries of the metadata."""
    entries = {REPORT: written(rest).decode()}
    return _written(tensors, entries | dict(beside or {}))


def listed(content: bytes, names: Iterable[str]) -> bytes:
    """Have the header of a body list its tensors in an order of one's own.

    The library lists them by size of their elements and then by name. The order of the header is free: each entry
    says where its numbers are, which stay where they are.
    """
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH:end])
    wanted = [*([_METADATA] if _METADATA in header else []), *names]
    if list(header) == wanted:
        return content
    text = json.dumps({name: header[name] for name in wanted}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH)
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, memoryview(content)[end:]])


def _written(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    datatypes = {name: cast("Datatype", tensor.datatype) for name, tensor in tensors.items()}
    # The library is given addresses: the arrays have to outlive the call.
    arrays = {name: datatypes[name].stored_from(tensor.array) for name, tensor in tensors.items()}
    specs = {
        name: TensorSpec(
            dtype=datatypes[name].numpy_name, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes
        )
        for name, array in arrays.items()
    }
    return serialize(specs, metadata)
