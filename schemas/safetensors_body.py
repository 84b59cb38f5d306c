"""Requests and reports in the safetensors format.

The format is the length of the header in 8 bytes, little-endian, the header, and the data. The library reads and
writes it. It hands out the metadata of files alone, and keeps one of two equal names: both are read here from the
header itself. Its NumPy interface is not used, since it does not know BF16.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import safetensors
from safetensors import SafetensorError, TensorSpec, serialize

from schemas.check import TENSOR_FIELDS
from schemas.datatype import Datatype
from schemas.json_writer import write_json
from schemas.plan import FurtherPoints, JudgeReport
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from schemas.raw_tensor import RawTensor
from schemas.report import CheckReport
from schemas.tensor import Tensor

SAFETENSORS = "application/vnd.safetensors"
SECTIONS = TENSOR_FIELDS
"""Fields of a check's request whose tensors are tensors of the body, named section/name."""
OPTIONAL_SECTIONS = frozenset({"candidate", "repeats", "cotangents", "values", "vjp", "jvp", "jacobian"})
"""Fields that a request without such tensors leaves out."""
NESTED_SECTIONS = frozenset({"vjp", "jacobian"})
"""Fields whose tensors are named section/output/name. Names of outputs have no slash."""
FIELDS_ENTRY, REPORT_ENTRY, TEXT_ENTRY, NOTE_ENTRY = "request", "report", "text", "note"
"""Entries of the metadata: other fields of a request, other fields of an answer, both JSON text, a text report, and a
note on a request."""
_TENSOR_FIELDS = ("gradients", "intermediates")
"""Fields of a report whose tensors are tensors of the answer, named part/name/route."""
_DERIVATIVES = "derivatives"
_POINTS = "points"
_deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = cast("Any", safetensors).deserialize
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 2**22
"""Bytes that take a second to search: enough for the names of 2000 tensors and the other fields."""
_METADATA_KEY = "__metadata__"


class NotSafetensorsError(ValueError):
    """A body that is not in the safetensors format, with the reason."""


@dataclass(frozen=True)
class RequestParts:
    """The parts of a body: the metadata entry `request`, and tensors by section, output if it has any, and name."""

    fields_text: str
    sections: dict[str, dict[str, Any]]

    def merge_fields(self, fields: object) -> dict[str, Any]:
        """Merge the tensors and the other fields.

        Parameters
        ----------
        fields
            Other fields, as parsed from the text.

        Raises
        ------
        InvalidRequestError
            The other fields are no object, or hold tensors themselves.
        """
        if not isinstance(fields, dict):
            raise InvalidRequestError([error_at(f"the metadata entry `{FIELDS_ENTRY}` must be a JSON object")])
        by_name = cast("dict[str, Any]", fields)
        if duplicates := [
            error_at(f"comes as tensors named {name}/..., not in the metadata entry `{FIELDS_ENTRY}`", name)
            for name in self.sections
            if name in by_name
        ]:
            raise InvalidRequestError(duplicates)
        return by_name | {
            name: tensors for name, tensors in self.sections.items() if tensors or name not in OPTIONAL_SECTIONS
        }


def decode_request(body: bytes, sections: tuple[str, ...] = SECTIONS) -> RequestParts:
    """Split the body of a request into its parts, without a look at the tensors themselves.

    Parameters
    ----------
    body
        Body in the safetensors format.
    sections
        Fields of the request with tensors; those of a check by default.

    Raises
    ------
    NotSafetensorsError
        The body is not in the format.
    InvalidRequestError
        A tensor belongs to no section.
    """
    length = int.from_bytes(body[:_LENGTH_BYTES], "little")
    if len(body) >= _LENGTH_BYTES and length > _MAX_HEADER_BYTES:
        raise NotSafetensorsError(f"the header is said to have {length} bytes; at most {_MAX_HEADER_BYTES} are taken")
    try:
        # Its order is arbitrary.
        entries = dict(_deserialize(body))
    except SafetensorError as error:
        # The library quotes unknown names whole, even one of megabytes.
        raise NotSafetensorsError(_shorten_reason(str(error).removeprefix("Error while deserializing: "))) from None
    # The library has validated that the header is JSON of the right form.
    header = json.loads(body[_LENGTH_BYTES : _LENGTH_BYTES + length], object_pairs_hook=_reject_duplicate_keys)
    metadata: dict[str, str] = header.pop(_METADATA_KEY, None) or {}
    return RequestParts(
        metadata.get(FIELDS_ENTRY, "{}"), _group_by_section({name: entries[name] for name in header}, sections)
    )


def decode_tensors(content: bytes) -> tuple[dict[str, RawTensor], dict[str, str]]:
    """Return the tensors by name, and the metadata, of a body that this service wrote."""
    tensors = {name: RawTensor(entry["dtype"], entry["shape"], entry["data"]) for name, entry in _deserialize(content)}
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    return tensors, header[_METADATA_KEY]


_MAX_REASON_CHARACTERS = 200
"""Most characters of a message of the library that an error repeats."""


def _shorten_reason(reason: str) -> str:
    """Cut a long message in its middle."""
    if len(reason) <= _MAX_REASON_CHARACTERS:
        return reason
    half_length = (_MAX_REASON_CHARACTERS - 3) // 2
    return f"{reason[:half_length]}...{reason[-half_length:]}"


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    by_name: dict[str, Any] = {}
    for name, value in pairs:
        if name in by_name:
            raise NotSafetensorsError(f"its header has {quote_name(name)} twice")
        by_name[name] = value
    return by_name


def _group_by_section(entries: dict[str, dict[str, Any]], known_sections: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {name: {} for name in known_sections}
    errors: list[PlacedError] = []
    for full_name, entry in entries.items():
        # A name may have slashes: it begins behind the first one.
        section, slash, name = full_name.partition("/")
        output, has_output, inner_name = name.partition("/")
        tensor = RawTensor(entry["dtype"], entry["shape"], entry["data"])
        if not slash or section not in sections:
            errors.append(error_at(_describe_sections(known_sections, quote_name(full_name)), *full_name.split("/", 1)))
        elif section not in NESTED_SECTIONS:
            sections[section][name] = tensor
        elif has_output:
            sections[section].setdefault(output, {})[inner_name] = tensor
        else:
            detail = f"a tensor is named {section}/OUTPUT/NAME, as in {section}/y/w1; {quote_name(full_name)} is not"
            errors.append(error_at(detail, section, name))
    if errors:
        raise InvalidRequestError(errors)
    return sections


def _describe_sections(sections: tuple[str, ...], given_name: str) -> str:
    *other_names, last = (f"{name}/..." for name in sections)
    names = f"{', '.join(other_names)} or {last}" if other_names else last
    return f"a tensor is named {names}, as in {(*sections, *sections)[1]}/w1; {given_name} is not"


def encode_report(report: CheckReport, text: str | None = None) -> bytes:
    """Write a report with "binary" tensors, and its text for reading if there is one."""
    fields = cast("dict[str, Any]", report)
    tensors: dict[str, Tensor] = {
        f"{part}/{name}/{route}": tensor
        for part in _TENSOR_FIELDS
        for name, routes in fields[part].items()
        for route, tensor in routes.items()
    }
    other_fields = {name: value for name, value in fields.items() if name not in _TENSOR_FIELDS}
    return to_safetensors(tensors, other_fields, {} if text is None else {TEXT_ENTRY: text})


def encode_request(tensors: Mapping[str, Tensor], fields: Mapping[str, Any], note: str) -> bytes:
    """Write a request of tensors under their names in a body, and of its other fields, with a note for its reader."""
    return _serialize_tensors(tensors, {FIELDS_ENTRY: write_json(fields).decode(), NOTE_ENTRY: note})


def encode_judgement(report: JudgeReport | FurtherPoints, text: str | None = None) -> bytes:
    """Write a report of a judgement with "binary" derivatives or points, and its text for reading if there is one."""
    tensors: dict[str, Tensor] = {
        f"{_DERIVATIVES}/{name}/{part}": cast("Tensor", tensor)
        for name, parts in report.get(_DERIVATIVES, {}).items()
        for part, tensor in parts.items()
    }
    points = cast("Mapping[str, Tensor]", report.get(_POINTS, {}))
    tensors |= {f"{_POINTS}/{name}": tensor for name, tensor in points.items()}
    rest = {name: value for name, value in report.items() if name not in (_DERIVATIVES, _POINTS)}
    return to_safetensors(tensors, rest, {} if text is None else {TEXT_ENTRY: text})


def to_safetensors(
    tensors: Mapping[str, Tensor], document: Mapping[str, Any], extra_metadata: Mapping[str, str] | None = None
) -> bytes:
    """Write tensors with datatypes, the other fields of an answer, and further metadata."""
    entries = {REPORT_ENTRY: write_json(document).decode()}
    return _serialize_tensors(tensors, entries | dict(extra_metadata or {}))


def reorder_header(content: bytes, names: Iterable[str]) -> bytes:
    """Reorder the tensors in the header of a body.

    The library lists tensors by the size of their elements and then by name. The order of the header is free: each
    entry gives the offsets of its data, which stays in place.

    Parameters
    ----------
    content
        Body in the safetensors format.
    names
        Names of all tensors, in the new order.
    """
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES:end])
    order = [*([_METADATA_KEY] if _METADATA_KEY in header else []), *names]
    if list(header) == order:
        return content
    text = json.dumps({name: header[name] for name in order}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, memoryview(content)[end:]])


def _serialize_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    datatypes = {name: cast("Datatype", tensor.datatype) for name, tensor in tensors.items()}
    # The library takes addresses: the arrays must outlive the call.
    arrays = {name: datatypes[name].to_storage(tensor.array) for name, tensor in tensors.items()}
    specs = {
        name: TensorSpec(
            dtype=datatypes[name].numpy_name, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes
        )
        for name, array in arrays.items()
    }
    return serialize(specs, metadata)
