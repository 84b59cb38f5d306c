"""A look at the bytes of a message of Protocol Buffers before it is parsed.

An empty message takes two bytes of a file and some hundred bytes of memory. So the parts are counted first: the time
and the memory of the parser follow from their number.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.core.interrupts import check_interrupt

_MAX_DEPTH = 64
"""Messages within one another; the parser refuses more than 100."""
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_INTERRUPT_INTERVAL = 2**12


class BrokenMessageError(Exception):
    """Bytes that are no message; the text says why."""


class MessageTooLargeError(Exception):
    """A message of too many parts."""


@dataclass
class MessageScan:
    """Counts of the parts of a message.

    Attributes
    ----------
    max_fields
        Most fields of all messages together.
    max_numbers
        Most numbers in packed fields.
    """

    max_fields: int
    max_numbers: int
    _fields: int = 0
    _numbers: int = 0

    def scan(self, content: bytes, descriptor: Any) -> None:
        """Count the parts of a message.

        Raises
        ------
        BrokenMessageError
            The bytes are no such message.
        MessageTooLargeError
            The message has too many parts.
        """
        pending: list[tuple[int, int, Any, int]] = [(0, len(content), descriptor, 0)]
        while pending:
            position, end, message, depth = pending.pop()
            if depth > _MAX_DEPTH:
                raise BrokenMessageError(f"messages lie more than {_MAX_DEPTH} deep in one another")
            fields = message.fields_by_number
            while position < end:
                self._count_field()
                tag, position = _read_varint(content, position, end)
                wire_type = tag & 7
                if wire_type != _DELIMITED:
                    position = _skip_scalar(content, position, end, wire_type)
                    continue
                length, position = _read_varint(content, position, end)
                if length > end - position:
                    raise BrokenMessageError("the file ends before one of its parts")
                field = fields.get(tag >> 3)
                if field is not None and field.message_type is not None:
                    pending.append((position, position + length, field.message_type, depth + 1))
                elif field is not None:
                    self._inspect_field(content, position, length, field)
                position += length

    def _count_field(self) -> None:
        self._fields += 1
        if self._fields > self.max_fields:
            raise MessageTooLargeError(f"the file has more than {self.max_fields} parts")
        if self._fields % _INTERRUPT_INTERVAL == 0:
            check_interrupt()

    def _inspect_field(self, content: bytes, position: int, length: int, field: Any) -> None:
        """Count the numbers of a packed field, and check the text of one with text."""
        if field.type == field.TYPE_STRING:
            _check_text(content[position : position + length])
        if field.type in (field.TYPE_STRING, field.TYPE_BYTES):
            return
        # The last byte of each number of variable length is below 128, and each other number has four bytes or more.
        last_bytes = np.frombuffer(content, np.uint8, length, position) < 128
        is_fixed = field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE, field.TYPE_FIXED32, field.TYPE_FIXED64)
        self._numbers += length // 4 if is_fixed else int(np.count_nonzero(last_bytes))
        if self._numbers > self.max_numbers:
            raise MessageTooLargeError(f"the file holds more than {self.max_numbers} numbers")


def _check_text(text: bytes) -> None:
    """Refuse text that is not in UTF-8: the parser would hand out bytes in place of it."""
    try:
        text.decode()
    except UnicodeDecodeError:
        raise BrokenMessageError("a name in it is no text in UTF-8") from None


def _read_varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the number at a position, and the position behind it."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= end:
            break
        byte = content[position + index]
        value |= (byte & 127) << (7 * index)
        if byte < 128:
            return value, position + index + 1
    raise BrokenMessageError("the file ends inside a number, or has a number that is too long")


def _skip_scalar(content: bytes, position: int, end: int, wire_type: int) -> int:
    """Return the position behind a number."""
    if wire_type == _VARINT:
        return _read_varint(content, position, end)[1]
    if wire_type not in (_FIXED32, _FIXED64):
        raise BrokenMessageError("its bytes are not those of Protocol Buffers")
    position += 4 if wire_type == _FIXED32 else 8
    if position > end:
        raise BrokenMessageError("the file ends inside a number")
    return position
