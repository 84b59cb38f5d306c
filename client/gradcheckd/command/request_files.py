"""Input files of the command: requests in JSON, in the safetensors format and of NumPy; numbers in a text."""

import codecs
import io
import json
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from gradcheckd import wire
from gradcheckd.arrays import Array, TypedTensor, UntypedTensor, to_tensor
from gradcheckd.errors import RequestError, describe_error
from gradcheckd.onnx_file import is_onnx
from gradcheckd.wire import JSON, SAFETENSORS, Body

TensorSections = Mapping[str, Mapping[str, TypedTensor | UntypedTensor]]
_REQUEST_ENTRY = "request"
_MISSING_LOSS = "null"
_READ_ERRORS = (ValueError, EOFError, MemoryError, OverflowError, RuntimeError, tokenize.TokenError)
"""Errors of NumPy for a file that is cut off, or that is of another kind than its first bytes say."""


@dataclass(frozen=True)
class RequestFile:
    """A request from a file.

    Attributes
    ----------
    fields, sections
        Fields of the request, and its fields of tensors by name.
    original_body
        The bytes of an unchanged request: the service says what is wrong with it.
    """

    fields: Mapping[str, Any]
    sections: TensorSections
    original_body: Body | None = None

    def to_body(self) -> Body:
        """Return the body to send."""
        return self.original_body or wire.encode_body(self.fields, self.sections)

    def with_fields(self, **fields: Any) -> Self:
        """Return the request with some fields replaced."""
        return replace(self, fields=dict(self.fields) | fields, original_body=None)

    def with_only_fields(self, *names: str) -> Self:
        """Return the request with some of its fields alone."""
        fields = {name: value for name, value in self.fields.items() if name in names}
        return replace(self, fields=fields, original_body=None)

    def with_candidate(self, name: str | None, path: str) -> Self:
        """Return the request with a gradient from a file; without a name, of the only tensor.

        Raises
        ------
        RequestError
            The name is left out where there are several tensors, or the file holds no numbers.
        """
        shapes = self._list_gradient_shapes()
        if name is None and len(shapes) != 1:
            raise RequestError(f"--candidate takes NAME=FILE; the name is one of {', '.join(shapes)}.")
        name = next(iter(shapes)) if name is None else name
        candidate = {**self.sections.get("candidate", {}), name: _read_gradient(path, shapes.get(name))}
        return replace(self, sections={**self.sections, "candidate": candidate}, original_body=None)

    def _list_gradient_shapes(self) -> dict[str, tuple[int, ...]]:
        """List the shapes of tensors that may have a gradient: of a check, or of the point of a plan."""
        plan = self.fields.get("plan")
        if isinstance(plan, dict):
            point: dict[str, Any] = cast("dict[str, Any]", plan).get("point", {})
            return {name: _get_shape(UntypedTensor(value)) for name, value in point.items()}
        return self.list_shapes("tensors", "weights")

    def list_shapes(self, *sections: str) -> dict[str, tuple[int, ...]]:
        """List the shapes of the tensors of some sections, by name."""
        return {
            name: _get_shape(tensor) for section in sections for name, tensor in self.sections.get(section, {}).items()
        }


def _get_shape(tensor: TypedTensor | UntypedTensor) -> tuple[int, ...]:
    if isinstance(tensor, TypedTensor):
        return tensor.array.shape
    value: Any = tensor.value
    if isinstance(value, dict):
        return tuple(cast("dict[str, Any]", value).get("shape", ()))
    try:
        return np.shape(value)
    except ValueError:
        # Ragged: the service says so, and where.
        return ()


def parse_number_or_tensor(text: str, shape: tuple[int, ...] | None) -> Any:
    """Parse a number, or read the tensor in the file of that name, for JSON."""
    try:
        return to_tensor(_parse_float(text), text).as_json()
    except (ValueError, OverflowError):
        return _read_gradient(text, shape).as_json()


def _read_gradient(path: str, shape: tuple[int, ...] | None) -> TypedTensor | UntypedTensor:
    content = _read_content(path)
    array: Array
    if content.startswith(b"\x93NUMPY"):
        array = _read_npy(content, path)
    else:
        array = parse_numbers(content, path)
        if shape is not None and array.size == np.prod(shape, dtype=int):
            array = array.reshape(shape)
    return to_tensor(array, f"candidate of {path}")


def _read_npy(content: bytes, path: str) -> Array:
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except _READ_ERRORS as error:
        raise RequestError(f"{path} is no .npy of numbers that can be read: {describe_error(error)}.") from None


def read_request(
    path: str, sections: Sequence[str], import_model: Callable[[bytes], bytes] | None = None
) -> RequestFile:
    """Read a request, some fields of which are tensors by name; its bytes tell its format.

    Parameters
    ----------
    path
        Path of the file; `-` for standard input.
    sections
        Fields with tensors.
    import_model
        Function that makes a request in the safetensors format of an ONNX file; none by default.

    Raises
    ------
    RequestError
        The file has none of the formats.
    """
    content = _read_content(path)
    if import_model is not None and is_onnx(path, content):
        content = import_model(content)
    if content.startswith(b"PK\3\4"):
        return _read_npz(content, path, sections)
    if wire.is_safetensors(content):
        tensors, metadata = wire.read_safetensors(content)
        fields = _parse_fields(metadata.get(_REQUEST_ENTRY, "{}"), path)
        return RequestFile(fields, _group_by_section(tensors, path, sections), Body(content, SAFETENSORS))
    try:
        document: Any = wire.load_json(content)
    except ValueError as error:
        raise RequestError(
            f"{path} is neither JSON ({error}) nor in the safetensors format, nor a .npz of NumPy."
        ) from None
    if not isinstance(document, dict):
        raise RequestError(f"{path}: a request is an object, with fields such as {', '.join(sections)}.")
    fields = cast("dict[str, Any]", document)
    tensors_by_section = {section: fields[section] for section in sections if isinstance(fields.get(section), dict)}
    other_fields = {name: value for name, value in fields.items() if name not in tensors_by_section}
    untyped_sections = {
        section: {name: UntypedTensor(value) for name, value in tensors.items()}
        for section, tensors in tensors_by_section.items()
    }
    return RequestFile(other_fields, untyped_sections, Body(content, JSON))


def describe_columns(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Say which columns of a file of points are of which tensor."""
    descriptions: list[str] = []
    first_column = 1
    for name, shape in shapes.items():
        last_column = first_column + int(np.prod(shape, dtype=int)) - 1
        location = (
            f"column {first_column}" if first_column == last_column else f"columns {first_column} to {last_column}"
        )
        # In JSON, as a name may have a line's end.
        descriptions.append(f"{location}: {json.dumps(name)}, shape {list(shape)}")
        first_column = last_column + 1
    return "; ".join(descriptions)


def read_losses(path: str) -> list[float | str | None]:
    """Read losses from a text, for JSON; `null` where the function has no value."""
    entries = _parse_entries(_read_content(path), path, {_MISSING_LOSS: None})
    return [None if entry is None else cast("UntypedTensor", to_tensor(entry, "loss")).value for entry in entries]


def parse_numbers(content: bytes, path: str) -> Array:
    """Parse numbers between blanks, commas and line ends, with comments behind #; shape (n,).

    Raises
    ------
    RequestError
        The text holds something else.
    """
    return np.array(_parse_entries(content, path, {}), np.float64)


def _parse_entries(content: bytes, path: str, words: Mapping[str, None]) -> list[float | None]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise RequestError(f"{path} is in UTF-16, as some shells write; numbers are read in UTF-8. Convert it.")
    numbers: list[float | None] = []
    for line_number, line in enumerate(content.decode("utf-8-sig", "backslashreplace").splitlines(), 1):
        try:
            numbers += [
                words[word] if word in words else _parse_float(word)
                for word in line.partition("#")[0].replace(",", " ").split()
            ]
        except (ValueError, OverflowError) as error:
            raise RequestError(
                f"{path}, line {line_number}: there are to be numbers, and blanks between them: "
                f"{describe_error(error)}."
            ) from None
    return numbers


def _parse_float(text: str) -> float:
    """Parse a number in decimals, or in the hexadecimals that C writes with %a."""
    return float.fromhex(text) if "x" in text.lower() else float(text)


def _read_content(path: str) -> bytes:
    if path != "-":
        return Path(path).read_bytes()
    if sys.stdin is None:
        raise RequestError("Standard input is closed. Give a file, or something to read.")
    return sys.stdin.buffer.read()


def _read_npz(content: bytes, path: str, sections: Sequence[str]) -> RequestFile:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (*_READ_ERRORS, zipfile.BadZipFile, zlib.error) as error:
        raise RequestError(
            f"{path} is no .npz of arrays, with `request` as JSON text: {describe_error(error)}."
        ) from None
    fields = _parse_fields(str(arrays.pop(_REQUEST_ENTRY, "{}")), path)
    tensors = {name: cast("TypedTensor", to_tensor(array, f"{path}: {name!r}")) for name, array in arrays.items()}
    return RequestFile(fields, _group_by_section(tensors, path, sections))


def _parse_fields(text: str, path: str) -> dict[str, Any]:
    """Parse the fields of a request beside its arrays."""
    try:
        fields: Any = wire.load_json(text)
    except ValueError as error:
        raise RequestError(f"{path}: `{_REQUEST_ENTRY}` is not JSON: {describe_error(error)}.") from None
    if not isinstance(fields, dict):
        raise RequestError(
            f"{path}: `{_REQUEST_ENTRY}` is to be an object in JSON, the other fields; {text[:40]!r} is none."
        )
    return cast("dict[str, Any]", fields)


def _group_by_section(
    tensors: Mapping[str, TypedTensor], path: str, sections: Sequence[str]
) -> dict[str, dict[str, TypedTensor | UntypedTensor]]:
    grouped: dict[str, dict[str, TypedTensor | UntypedTensor]] = {
        section: {} for section in sections if section != "candidate"
    }
    for full_name, tensor in tensors.items():
        section, slash, name = full_name.partition("/")
        if not slash or section not in sections:
            expected_names = " or ".join(f"{section}/..." for section in sections)
            raise RequestError(f"{path}: an array is named {expected_names}; {full_name!r} is not.")
        grouped.setdefault(section, {})[name] = tensor
    return grouped
