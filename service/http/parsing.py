"""JSON text of a request: parsed, or refused with what is wrong and how to write it."""

import json
import re
from typing import Any

import numpy as np
import orjson
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge


def parsed(raw: bytes, what: str, deepest: int, most: int) -> object:
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
    counts = _counted(raw)
    if (bytes_built := _bytes_built(raw, counts)) > most:
        raise RequestEntityTooLarge(_too_much(what, counts, bytes_built, most))
    if _is_deeper(raw, counts, deepest):
        raise BadRequest(f"{what} is nested deeper than the {deepest} levels of lists and objects that are taken.")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            return _with_infinities(raw)
        except _BareNumberError as bare:
            raise BadRequest(f"{_not_json(raw, what, error)} {_spelling(str(bare))}") from None
        except ValueError:
            raise BadRequest(f"{_not_json(raw, what, error)}{_hint(raw, error.pos)}") from None


_CHUNK = 2**16


def _counted(raw: bytes) -> np.ndarray[Any, np.dtype[np.intp]]:
    """How often there is each byte."""
    counts = np.zeros(256, np.intp)
    # In pieces: they are made eight times as large to be counted, and between them other threads get their turn.
    for start in range(0, len(raw), _CHUNK):
        piece = np.frombuffer(raw, np.uint8, min(_CHUNK, len(raw) - start), start)
        counts += np.bincount(piece, minlength=counts.size)
    return counts


_BYTES_BUILT = {",": 64, "[": 88, "{": 88, ":": 200, '"': 36}
"""Bytes of memory, at most, for each such character, with what the parser needs meanwhile; measured, with orjson.

A comma has a value behind it, a colon an entry of a dictionary, and a string has two quotes.
"""
_WIDE = 0xF0
"""From this byte on one of UTF-8 is of a character that makes Python take four bytes for each of its string."""


def _bytes_built(raw: bytes, counts: np.ndarray[Any, np.dtype[np.intp]]) -> int:
    """Bytes at most that what is built of JSON takes."""
    built = sum(size * int(counts[ord(character)]) for character, size in _BYTES_BUILT.items())
    # What is escaped may be any character.
    widest = counts[_WIDE:].any() or counts[ord("\\")]
    return built + len(raw) * (4 if widest else 2 if counts[0x80:].any() else 1)


def _too_much(what: str, counts: np.ndarray[Any, np.dtype[np.intp]], built: int, most: int) -> str:
    lists, objects, commas = (int(counts[ord(character)]) for character in "[{,")
    return (
        f"{what} would take about {built:.1e} bytes of memory as {lists} lists, {objects} objects and {commas} values "
        f'behind commas; the limit is {most:.1e}. Tensors take less as "b64", and least in the safetensors format.'
    )


_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_OPENING, _CLOSING, _QUOTE = b"[{", b"]}", b'"'
_ALL_ELSE = bytes(set(range(256)) - {*_OPENING, *_CLOSING, *_QUOTE})


def _is_deeper(raw: bytes, counts: np.ndarray[Any, np.dtype[np.intp]], deepest: int) -> bool:
    """Tell whether JSON is deeper, before anything is built of it; of what is not JSON something may be said too."""
    if sum(counts[byte] for byte in _OPENING) <= deepest:
        return False
    unescaped = _ESCAPED.sub(b"", raw) if b"\\" in raw else raw
    brackets = np.frombuffer(_STRING.sub(b"", unescaped.translate(None, _ALL_ELSE)), np.uint8)
    steps = np.where(np.isin(brackets, list(_OPENING)), np.int8(1), np.int8(-1))
    return bool(np.cumsum(steps, dtype=np.int32).max(initial=0) > deepest)


def _with_infinities(raw: bytes) -> object:
    """Parse JSON with numbers too large for a float64, which orjson refuses though JSON allows them, as infinities."""
    # As UTF-8, and nothing else: of bytes Python would guess the encoding.
    return json.loads(raw.decode(), parse_constant=_refused, parse_int=_integer)


class _BareNumberError(ValueError):
    """A NaN or an infinity written as a number, which other languages print so."""


def _refused(token: str) -> object:
    raise _BareNumberError(token)


def _integer(text: str) -> float:
    return int(text) if len(text) < _LONGEST_INTEGER else float(text)


_LONGEST_INTEGER = 300


def _not_json(raw: bytes, what: str, error: orjson.JSONDecodeError) -> str:
    if not raw.strip():
        return f"{what} is empty; it must be a JSON object."
    return f"{what} is not JSON: {error.msg} at line {error.lineno} column {error.colno}."


_OTHER_SPELLING = re.compile(r"[-+]?(?:nan|inf(?:inity)?)\b", re.IGNORECASE)


def _hint(raw: bytes, position: int) -> str:
    """Say how to spell what stands at the position, counted in characters, if it is a NaN or an infinity."""
    text = raw.decode("utf-8", "replace")
    # The parser stands on the number, or behind its sign.
    start = position - 1 if text[position - 1 : position] in ("-", "+") else position
    found = _OTHER_SPELLING.match(text, start)
    return f" {_spelling(found.group())}" if found else ""


def _spelling(token: str) -> str:
    sign = "-" if token.startswith("-") else ""
    spelling = "NaN" if "nan" in token.lower() else f"{sign}Infinity"
    return (
        f'JSON has no {token}; in a candidate it is spelled as the string "{spelling}", '
        "and tensors and weights must be finite."
    )
