"""The parser of the JSON text of a request, which refuses it with the error and the right spelling."""

import json
import re
from typing import Any

import numpy as np
import orjson
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge


def parse_json(raw: bytes, subject: str, max_depth: int, max_bytes: int) -> object:
    """Parse JSON.

    Parameters
    ----------
    raw
        Text in UTF-8.
    subject
        Name of the text, as the subject of a sentence.
    max_depth
        Most lists and objects within one another.
    max_bytes
        Most bytes of memory for the parsed objects.

    Raises
    ------
    BadRequest
        The text is not JSON, or too deep.
    RequestEntityTooLarge
        The objects would take more memory.
    """
    counts = _count_bytes(raw)
    if (bytes_built := _estimate_parsed_bytes(raw, counts)) > max_bytes:
        raise RequestEntityTooLarge(_describe_excess(subject, counts, bytes_built, max_bytes))
    if _is_too_deep(raw, counts, max_depth):
        raise BadRequest(f"{subject} is nested deeper than the {max_depth} levels of lists and objects that are taken.")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            return _parse_large_numbers(raw)
        except _BareNumberError as bare:
            raise BadRequest(f"{_describe_syntax_error(raw, subject, error)} {_choose_spelling(str(bare))}") from None
        except ValueError:
            raise BadRequest(
                f"{_describe_syntax_error(raw, subject, error)}{_suggest_spelling(raw, error.pos)}"
            ) from None


_CHUNK_BYTES = 2**16


def _count_bytes(raw: bytes) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return the count of each byte value, shape (256,)."""
    counts = np.zeros(256, np.intp)
    # In pieces: NumPy widens them eightfold to count them, and other threads get their turn between them.
    for start in range(0, len(raw), _CHUNK_BYTES):
        piece = np.frombuffer(raw, np.uint8, min(_CHUNK_BYTES, len(raw) - start), start)
        counts += np.bincount(piece, minlength=counts.size)
    return counts


_PARSED_BYTES_PER_CHARACTER = {",": 64, "[": 88, "{": 88, ":": 200, '"': 36}
"""Most bytes of memory for each such character, those of the parser included; measured with orjson.

A value follows each comma, an entry of a dictionary has a colon, and a string has two quotes.
"""
_FOUR_BYTE_LEAD = 0xF0
"""The first byte of UTF-8 whose character makes Python store four bytes for each character of the string."""


def _estimate_parsed_bytes(raw: bytes, counts: np.ndarray[Any, np.dtype[np.intp]]) -> int:
    """Return the most bytes of memory that the parsed objects take."""
    object_bytes = sum(size * int(counts[ord(character)]) for character, size in _PARSED_BYTES_PER_CHARACTER.items())
    # An escape may stand for any character.
    has_wide_characters = counts[_FOUR_BYTE_LEAD:].any() or counts[ord("\\")]
    return object_bytes + len(raw) * (4 if has_wide_characters else 2 if counts[0x80:].any() else 1)


def _describe_excess(subject: str, counts: np.ndarray[Any, np.dtype[np.intp]], built: int, max_bytes: int) -> str:
    lists, objects, commas = (int(counts[ord(character)]) for character in "[{,")
    return (
        f"{subject} would take about {built:.1e} bytes of memory as {lists} lists, {objects} objects and {commas} "
        f'values behind commas; the limit is {max_bytes:.1e}. Tensors take less as "b64", and least in the safetensors '
        "format."
    )


_ESCAPE_PATTERN = re.compile(rb"\\.", re.DOTALL)
_STRING_PATTERN = re.compile(rb'"[^"]*"')
_OPENING, _CLOSING, _QUOTE = b"[{", b"]}", b'"'
_NON_STRUCTURAL_BYTES = bytes(set(range(256)) - {*_OPENING, *_CLOSING, *_QUOTE})


def _is_too_deep(raw: bytes, counts: np.ndarray[Any, np.dtype[np.intp]], max_depth: int) -> bool:
    """Tell whether JSON is too deep, before it is parsed; text that is not JSON may get either answer."""
    if sum(counts[byte] for byte in _OPENING) <= max_depth:
        return False
    unescaped_text = _ESCAPE_PATTERN.sub(b"", raw) if b"\\" in raw else raw
    brackets = np.frombuffer(_STRING_PATTERN.sub(b"", unescaped_text.translate(None, _NON_STRUCTURAL_BYTES)), np.uint8)
    steps = np.where(np.isin(brackets, list(_OPENING)), np.int8(1), np.int8(-1))
    return bool(np.cumsum(steps, dtype=np.int32).max(initial=0) > max_depth)


def _parse_large_numbers(raw: bytes) -> object:
    """Parse JSON, with numbers beyond float64 as infinities: JSON allows them, orjson refuses them."""
    # Decoded here: `json.loads` would guess the encoding of bytes.
    return json.loads(raw.decode(), parse_constant=_refuse_constant, parse_int=_parse_integer)


class _BareNumberError(ValueError):
    """A NaN or an infinity written as a bare token, as other languages print it."""


def _refuse_constant(token: str) -> object:
    raise _BareNumberError(token)


def _parse_integer(text: str) -> float:
    return int(text) if len(text) < _MAX_INTEGER_CHARACTERS else float(text)


_MAX_INTEGER_CHARACTERS = 300


def _describe_syntax_error(raw: bytes, subject: str, error: orjson.JSONDecodeError) -> str:
    if not raw.strip():
        return f"{subject} is empty; it must be a JSON object."
    return f"{subject} is not JSON: {error.msg} at line {error.lineno} column {error.colno}."


_NONFINITE_PATTERN = re.compile(r"[-+]?(?:nan|inf(?:inity)?)\b", re.IGNORECASE)


def _suggest_spelling(raw: bytes, position: int) -> str:
    """Return the right spelling of a NaN or an infinity at a position in characters, or nothing."""
    text = raw.decode("utf-8", "replace")
    # The position is that of the number, or the one behind its sign.
    start = position - 1 if text[position - 1 : position] in ("-", "+") else position
    token = _NONFINITE_PATTERN.match(text, start)
    return f" {_choose_spelling(token.group())}" if token else ""


def _choose_spelling(token: str) -> str:
    sign = "-" if token.startswith("-") else ""
    spelling = "NaN" if "nan" in token.lower() else f"{sign}Infinity"
    return (
        f'JSON has no {token}; in a candidate it is spelled as the string "{spelling}", '
        "and tensors and weights must be finite."
    )
