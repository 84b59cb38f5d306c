"""An ONNX file as the request of a check, which the service makes of it."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from urllib.parse import urlencode

from gradcheckd import wire
from gradcheckd.arrays import Array
from gradcheckd.connection import Connection
from gradcheckd.errors import RequestError, describe_error, hide_frames
from gradcheckd.imported_request import ImportedRequest
from gradcheckd.wire import SAFETENSORS, Body

__tracebackhide__ = hide_frames

ONNX = "application/onnx"
_REQUEST_ENTRY, _NOTE_ENTRY = "request", "note"
_FIRST_BYTE = b"\x08"
"""First byte of an ONNX file: its field of the version comes first."""


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
