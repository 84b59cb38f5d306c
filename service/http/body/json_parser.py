"""JSON text of a request: parsed, or refused with what is wrong and how to write it."""

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
        The text, in UTF-8.
    what
        Where it stands, as the subject of a sentence.
    deepest
        So many lists and objects may be within one another.
    most
        So many bytes of memory may be taken by what is built of it.

    Raises
    ------
    BadRequest
        Where it is not JSON, or deeper.
    RequestEntityTooLarge
        Where it takes more memory.
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
    """How often there is each byte."""
    counts = np.zeros(256, np.intp)
    # In pieces: they are made eight times as large to be counted, and between them other threads get their turn.
    for start in range(0, len(raw), _CHUNK_BYTES):
        piece = np.frombuffer(raw, np.uint8, min(_CHUNK_BYTES, len(raw) - start), start)
        counts += np.bincount(piece, minlength=counts.size)
    return counts


_PARSED_BYTES_PER_CHARACTER = {",": 64, "[": 88, "{": 88, ":": 200, '"': 36}
"""Bytes of memory, at most, for each such character, with what the parser needs meanwhile; measured, with orjson.

A comma has a value behind it, a colon an entry of a dictionary, and a string has two quotes.
"""
_FOUR_BYTE_LEAD = 0xF0
"""From this byte on one of UTF-8 is of a character that makes Python take four bytes for each of its string."""


def _estimate_parsed_bytes(raw: bytes, counts: np.ndarray[Any, np.dtype[np.intp]]) -> int:
    """Bytes at most that what is built of JSON takes."""
    built = sum(size * int(counts[ord(character)]) for character, size in _PARSED_BYTES_PER_CHARACTER.items())
    # What is escaped may be any character.
    widest = counts[_FOUR_BYTE_LEAD:].any() or counts[ord("\\")]
    return built + len(raw) * (4 if widest else 2 if counts[0x80:].any() else 1)


def _describe_excess(subject: str, counts: np.ndarray[Any, np.dtype[np.intp]], built: int, max_bytes: int) -> str:
    lists, objects, commas = (int(counts[ord(character)]) for character in "[{,")
    return (
        f"{subject} would take about {built:.1e} bytes of memory as {lists} lists, {objects} objects and {commas} values "
        f'behind commas; the limit is {max_bytes:.1e}. Tensors take less as "b64", and least in the safetensors format.'
    )


_ESCAPE_PATTERN = re.compile(rb"\\.", re.DOTALL)
_STRING_PATTERN = re.compile(rb'"[^"]*"')
_OPENING, _CLOSING, _QUOTE = b"[{", b"]}", b'"'
_NON_STRUCTURAL_BYTES = bytes(set(range(256)) - {*_OPENING, *_CLOSING, *_QUOTE})


def _is_too_deep(raw: bytes, counts: np.ndarray[Any, np.dtype[np.intp]], max_depth: int) -> bool:
    """Tell whether JSON is deeper, before anything is built of it; of what is not JSON something may be said too."""
    if sum(counts[byte] for byte in _OPENING) <= max_depth:
        return False
    unescaped = _ESCAPE_PATTERN.sub(b"", raw) if b"\\" in raw else raw
    brackets = np.frombuffer(_STRING_PATTERN.sub(b"", unescaped.translate(None, _NON_STRUCTURAL_BYTES)), np.uint8)
    steps = np.where(np.isin(brackets, list(_OPENING)), np.int8(1), np.int8(-1))
    return bool(np.cumsum(steps, dtype=np.int32).max(initial=0) > max_depth)


def _parse_large_numbers(raw: bytes) -> object:
    """Parse JSON with numbers too large for a float64, which orjson refuses though JSON allows them, as infinities."""
    # As UTF-8, and nothing else: of bytes Python would guess the encoding.
    return json.loads(raw.decode(), parse_constant=_refuse_constant, parse_int=_parse_integer)


class _BareNumberError(ValueError):
    """A NaN or an infinity written as a number, which other languages print so."""


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
    """Say how to spell what stands at the position, counted in characters, if it is a NaN or an infinity."""
    text = raw.decode("utf-8", "replace")
    # The parser stands on the number, or behind its sign.
    start = position - 1 if text[position - 1 : position] in ("-", "+") else position
    found = _NONFINITE_PATTERN.match(text, start)
    return f" {_choose_spelling(found.group())}" if found else ""


def _choose_spelling(token: str) -> str:
    sign = "-" if token.startswith("-") else ""
    spelling = "NaN" if "nan" in token.lower() else f"{sign}Infinity"
    return (
        f'JSON has no {token}; in a candidate it is spelled as the string "{spelling}", '
        "and tensors and weights must be finite."
    )
