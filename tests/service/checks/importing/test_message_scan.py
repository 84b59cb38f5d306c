"""The parts of a message are counted before it is parsed."""

import numpy as np
import onnx
import pytest

from service.checks.importing.message_scan import BrokenMessageError, MessageScan, MessageTooLargeError
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    list_errors,
    make_classifier,
    make_file,
    node,
)

pytestmark = pytest.mark.covers_by_cases


def test_a_file_of_many_empty_parts_is_refused_before_it_is_parsed():
    # A million empty nodes: two bytes each in the file.
    graph = b"\x0a\x00" * 10**6
    length = bytes(
        [len(graph) & 127 | 128, len(graph) >> 7 & 127 | 128, len(graph) >> 14 & 127 | 128, len(graph) >> 21]
    )
    assert "more than 220000 parts" in list_errors(b"\x3a" + length + graph)[""]


def scan(content, max_fields=10**5, max_numbers=10**5):
    MessageScan(max_fields, max_numbers).scan(content, onnx.ModelProto.DESCRIPTOR)


def test_a_whole_file_is_scanned():
    scan(make_classifier())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x08", "ends inside a number"),
        (b"\x08" + b"\xff" * 11, "a number that is too long"),
        (b"\x0d\x00", "ends inside a number"),
        (b"\x3a\x05\x00", "ends before one of its parts"),
        (b"\x0b", "not those of Protocol Buffers"),
        (b"\x12\x01\xff", "no text in UTF-8"),
    ],
)
def test_broken_bytes_are_no_message(content, words):
    with pytest.raises(BrokenMessageError, match=words):
        scan(content)


def test_the_limits_hold():
    content = make_file([node("Add", "x w")], {"x": (FLOAT, [3])}, initialisers={"w": np.arange(9.0)})
    with pytest.raises(MessageTooLargeError, match="more than 5 parts"):
        scan(content, max_fields=5)
    shape = onnx.ModelProto(graph=onnx.GraphProto(initializer=[onnx.TensorProto(int64_data=[300] * 40)]))
    scan(shape.SerializeToString(), max_numbers=40)
    with pytest.raises(MessageTooLargeError, match="more than 39 numbers"):
        scan(shape.SerializeToString(), max_numbers=39)


def make_field(tag, content):
    digits, length = b"", len(content)
    while length > 127:
        digits, length = digits + bytes([length & 127 | 128]), length >> 7
    return tag + digits + bytes([length]) + content


def make_nested(depth):
    """A graph whose node has an attribute, which has a graph, and so on."""
    content = b""
    for position in range(depth):
        content = make_field((b"\x0a", b"\x32", b"\x2a")[position % 3], content)
    return make_field(b"\x3a", content)


def test_messages_deep_in_one_another_are_refused():
    scan(make_nested(61))
    with pytest.raises(BrokenMessageError, match="more than 64 deep"):
        scan(make_nested(70))
