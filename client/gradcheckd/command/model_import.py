"""ONNX files as requests, for the commands that read a request."""

import sys
from argparse import Namespace

from gradcheckd import wire
from gradcheckd.connection import Connection
from gradcheckd.onnx_file import import_content, read_note


def import_model(arguments: Namespace, content: bytes) -> bytes:
    """Return the request that the service makes of an ONNX file; tell which of its values are random."""
    with Connection(arguments.url, arguments.key, timeout=arguments.timeout) as connection:
        request = import_content(connection, content)
    print(f"gradcheckd: {read_note(wire.read_safetensors(request)[1])}", file=sys.stderr)
    return request
