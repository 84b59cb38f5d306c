"""An ONNX file as the request of a check, which the service makes of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from gradcheckd import wire
from gradcheckd.arrays import Array
from gradcheckd.connection import Connection
from gradcheckd.errors import RequestError, describe_error, hide_frames
from gradcheckd.wire import SAFETENSORS, Body

__tracebackhide__ = hide_frames

ONNX = "application/onnx"
_REQUEST_ENTRY, _NOTE_ENTRY = "request", "note"
_FIRST_BYTE = b"\x08"
"""First byte of an ONNX file: its field of the version comes first."""


@dataclass(frozen=True, eq=False)
class ImportedRequest(Mapping[str, Any]):
    """A request for `gradcheckd.check`, which takes it as `check(**request)`.

    Attributes
    ----------
    tensors, weights
        Inputs with random values and constants; initialisers of floats. Arrays by name.
    fields
        Other fields of the request, with the model among them.
    note
        The choices of the import, in a sentence: which values are random, and what the loss is.
    """

    tensors: Mapping[str, Array]
    weights: Mapping[str, Array]
    fields: Mapping[str, Any] = field(repr=False)
    note: str = ""

    def _get_fields(self) -> dict[str, Any]:
        return {"tensors": dict(self.tensors), "weights": dict(self.weights), **self.fields}

    def __getitem__(self, name: str) -> Any:
        return self._get_fields()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._get_fields())

    def __len__(self) -> int:
        return len(self._get_fields())


def is_onnx(path: str, content: bytes) -> bool:
    """Tell whether a file is one of ONNX, by its name or its first byte."""
    return path.endswith(".onnx") or content.startswith(_FIRST_BYTE)


def import_content(connection: Connection, content: bytes, loss: str = "projection", seed: int = 0) -> bytes:
    """Return the request that the service makes of a file, in the safetensors format."""
    query = urlencode({"loss": loss, "seed": seed})
    return connection.post(f"/v1/import?{query}", Body(content, ONNX), SAFETENSORS)


def import_file(connection: Connection, path: str | PathLike[str], loss: str, seed: int) -> ImportedRequest:
    """Read a file, and return the request that the service makes of it; parameters as for `Service.from_onnx`."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"{str(path)!r} cannot be read: {describe_error(error)}.") from None
    tensors, metadata = wire.read_safetensors(import_content(connection, content, loss, seed))
    with wire.UnexpectedAnswerGuard():
        sections: dict[str, dict[str, Array]] = {"tensors": {}, "weights": {}}
        for full_name, tensor in tensors.items():
            section, _, name = full_name.partition("/")
            sections[section][name] = tensor.array
        fields = wire.load_json(metadata[_REQUEST_ENTRY])
        return ImportedRequest(sections["tensors"], sections["weights"], fields, read_note(metadata))


def read_note(metadata: Mapping[str, str]) -> str:
    """Return the note of an imported request."""
    return metadata.get(_NOTE_ENTRY, "")
