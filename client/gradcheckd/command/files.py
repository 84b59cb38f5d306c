"""Files that the command takes: requests in JSON, in the safetensors format and of NumPy; numbers in a text."""

import codecs
import io
import json
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from gradcheckd import wire
from gradcheckd.arrays import Array, Bare, Stored, tensor
from gradcheckd.errors import RequestError, said
from gradcheckd.wire import JSON, SAFETENSORS, Body

Sections = Mapping[str, Mapping[str, Stored | Bare]]
_REQUEST = "request"
_NO_VALUE = "null"
_BROKEN = (ValueError, EOFError, MemoryError, OverflowError, RuntimeError, tokenize.TokenError)
"""What NumPy raises of a file that is cut off, or is not what it begins as."""


@dataclass(frozen=True)
class Given:
    """A request as it was given.

    Attributes
    ----------
    fields, sections
        Its fields, and those that are tensors by name.
    whole
        It as it came, if nothing was changed: what is wrong with it is for the service to say.
    """

    fields: Mapping[str, Any]
    sections: Sections
    whole: Body | None = None

    def body(self) -> Body:
        """What is sent; a model may be given by its nodes."""
        model = self.fields.get("model")
        if isinstance(model, list):
            return self.replaced(model={"nodes": model}).body()
        return self.whole or wire.body(self.fields, self.sections)

    def replaced(self, **fields: Any) -> Self:
        """It with other fields."""
        return replace(self, fields=dict(self.fields) | fields, whole=None)

    def kept(self, *names: str) -> Self:
        """It with some of its fields alone."""
        fields = {name: each for name, each in self.fields.items() if name in names}
        return replace(self, fields=fields, whole=None)

    def with_candidate(self, name: str | None, path: str) -> Self:
        """It with a gradient from a file; the name may be left out where there is one tensor alone.

        Raises
        ------
        RequestError
            The name is left out where there are several, or the file has another number of elements than the tensor.
        """
        shapes = self._shapes()
        if name is None and len(shapes) != 1:
            raise RequestError(f"--candidate takes NAME=FILE; the name is one of {', '.join(shapes)}.")
        name = next(iter(shapes)) if name is None else name
        candidate = {**self.sections.get("candidate", {}), name: _gradient(path, shapes.get(name))}
        return replace(self, sections={**self.sections, "candidate": candidate}, whole=None)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of what may have a gradient: weights and tensors of a check, the point of a plan."""
        plan = self.fields.get("plan")
        if isinstance(plan, dict):
            point: dict[str, Any] = cast("dict[str, Any]", plan).get("point", {})
            return {name: _shape(Bare(each)) for name, each in point.items()}
        return self.shapes("tensors", "weights")

    def shapes(self, *sections: str) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors of some sections, by name."""
        return {name: _shape(each) for section in sections for name, each in self.sections.get(section, {}).items()}


def _shape(given: Stored | Bare) -> tuple[int, ...]:
    if isinstance(given, Stored):
        return given.array.shape
    value: Any = given.value
    if isinstance(value, dict):
        return tuple(cast("dict[str, Any]", value).get("shape", ()))
    try:
        return np.shape(value)
    except ValueError:
        # Ragged: the service says so, and where.
        return ()


def number_or_tensor(text: str, shape: tuple[int, ...] | None) -> Any:
    """A number as it stands, or the tensor in the file of that name, as JSON has them."""
    try:
        return tensor(_float(text), text).as_json()
    except (ValueError, OverflowError):
        return _gradient(text, shape).as_json()


def _gradient(path: str, shape: tuple[int, ...] | None) -> Stored | Bare:
    content = _content(path)
    array: Array
    if content.startswith(b"\x93NUMPY"):
        array = _from_npy(content, path)
    else:
        array = numbers(content, path)
        if shape is not None and array.size == np.prod(shape, dtype=int):
            array = array.reshape(shape)
    return tensor(array, f"candidate of {path}")


def _from_npy(content: bytes, path: str) -> Array:
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except _BROKEN as error:
        raise RequestError(f"{path} is no .npy of numbers that can be read: {said(error)}.") from None


def read(path: str, sections: Sequence[str]) -> Given:
    """Read a request, of which some fields are tensors by name; what it is, its bytes tell.

    Raises
    ------
    RequestError
        It is none of the formats.
    """
    content = _content(path)
    if content.startswith(b"PK\3\4"):
        return _from_npz(content, path, sections)
    if wire.is_safetensors(content):
        tensors, metadata = wire.stored(content)
        fields = _fields(metadata.get(_REQUEST, "{}"), path)
        return Given(fields, _by_section(tensors, path, sections), Body(content, SAFETENSORS))
    try:
        whole: Any = wire.loaded(content)
    except ValueError as error:
        raise RequestError(
            f"{path} is neither JSON ({error}) nor in the safetensors format, nor a .npz of NumPy."
        ) from None
    if not isinstance(whole, dict):
        raise RequestError(f"{path}: a request is an object, with fields such as {', '.join(sections)}.")
    fields = cast("dict[str, Any]", whole)
    named = {each: fields[each] for each in sections if isinstance(fields.get(each), dict)}
    rest = {name: each for name, each in fields.items() if name not in named}
    bare = {section: {name: Bare(each) for name, each in tensors.items()} for section, tensors in named.items()}
    return Given(rest, bare, Body(content, JSON))


def columns(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Say which columns of a file of points are of which tensor."""
    said: list[str] = []
    first = 1
    for name, shape in shapes.items():
        last = first + int(np.prod(shape, dtype=int)) - 1
        where = f"column {first}" if first == last else f"columns {first} to {last}"
        # In JSON, as a name may have a line's end.
        said.append(f"{where}: {json.dumps(name)}, shape {list(shape)}")
        first = last + 1
    return "; ".join(said)


def losses(path: str) -> list[float | str | None]:
    """Losses in a text, as JSON has them; `null` where there is none."""
    found = _read_numbers(_content(path), path, {_NO_VALUE: None})
    return [None if each is None else cast("Bare", tensor(each, "loss")).value for each in found]


def numbers(content: bytes, path: str) -> Array:
    """Numbers of a text, between which there are blanks, commas or line ends, and comments behind #; (n,).

    Raises
    ------
    RequestError
        There is something else.
    """
    return np.array(_read_numbers(content, path, {}), np.float64)


def _read_numbers(content: bytes, path: str, words: Mapping[str, None]) -> list[float | None]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise RequestError(f"{path} is in UTF-16, as some shells write; numbers are read in UTF-8. Convert it.")
    found: list[float | None] = []
    for at, line in enumerate(content.decode("utf-8-sig", "backslashreplace").splitlines(), 1):
        try:
            found += [
                words[each] if each in words else _float(each)
                for each in line.partition("#")[0].replace(",", " ").split()
            ]
        except (ValueError, OverflowError) as error:
            raise RequestError(
                f"{path}, line {at}: there are to be numbers, and blanks between them: {said(error)}."
            ) from None
    return found


def _float(text: str) -> float:
    """A number in decimals, or in the hexadecimals that C writes with %a."""
    return float.fromhex(text) if "x" in text.lower() else float(text)


def _content(path: str) -> bytes:
    if path != "-":
        return Path(path).read_bytes()
    if sys.stdin is None:
        raise RequestError("Standard input is closed. Give a file, or something to read.")
    return sys.stdin.buffer.read()


def _from_npz(content: bytes, path: str, sections: Sequence[str]) -> Given:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (*_BROKEN, zipfile.BadZipFile, zlib.error) as error:
        raise RequestError(f"{path} is no .npz of arrays, with `request` as JSON text: {said(error)}.") from None
    fields = _fields(str(arrays.pop(_REQUEST, "{}")), path)
    tensors = {name: cast("Stored", tensor(each, f"{path}: {name!r}")) for name, each in arrays.items()}
    return Given(fields, _by_section(tensors, path, sections))


def _fields(text: str, path: str) -> dict[str, Any]:
    """The other fields, beside arrays."""
    try:
        fields: Any = wire.loaded(text)
    except ValueError as error:
        raise RequestError(f"{path}: `{_REQUEST}` is not JSON: {said(error)}.") from None
    if not isinstance(fields, dict):
        raise RequestError(f"{path}: `{_REQUEST}` is to be an object in JSON, the other fields; {text[:40]!r} is none.")
    return cast("dict[str, Any]", fields)


def _by_section(
    tensors: Mapping[str, Stored], path: str, sections: Sequence[str]
) -> dict[str, dict[str, Stored | Bare]]:
    found: dict[str, dict[str, Stored | Bare]] = {section: {} for section in sections if section != "candidate"}
    for full, each in tensors.items():
        section, slash, name = full.partition("/")
        if not slash or section not in sections:
            named = " or ".join(f"{section}/..." for section in sections)
            raise RequestError(f"{path}: an array is named {named}; {full!r} is not.")
        found.setdefault(section, {})[name] = each
    return found
