"""Text that keeps to its place: nothing invisible, nothing that moves a cursor, and a known width in a terminal.

Names come from the request and may hold anything. Characters that a terminal would obey, that have no width of their
own or that turn the direction of writing around are shown as escapes of Python's, as in the messages of the service.
"""

import unicodedata
from itertools import accumulate

_RIGHT_TO_LEFT = {"R", "AL", "AN"}
_BLANK_CHARACTERS = "\u2800\u3164\uffa0"
_ELLIPSIS = "..."


def escape_text(text: str) -> str:
    """Escape all characters but those that are seen, and that stand in their place. Doing so twice changes nothing."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if _is_plain(character) else character.encode("unicode_escape").decode() for character in text
    )


def _is_plain(character: str) -> bool:
    # A combining mark joins its neighbour, and a vowel of Hangul its consonant: terminals disagree about their width.
    return (
        character.isprintable()
        and not unicodedata.category(character).startswith("M")
        and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT
        and not "\u115f" <= character <= "\u11ff"
        and not "\ud7b0" <= character <= "\ud7ff"
        and character not in _BLANK_CHARACTERS
    )


def measure_width(text: str) -> int:
    """Return the cells of a terminal that plain text takes."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def elide_middle(text: str, cells: int) -> str:
    """Shorten plain text in its middle, visibly, until it fits: names differ at their ends."""
    if measure_width(text) <= cells:
        return text
    room = cells - len(_ELLIPSIS)
    return _take_cells(text, room - room // 2) + _ELLIPSIS + _take_cells(text[::-1], room // 2)[::-1]


def _take_cells(text: str, cells: int) -> str:
    return text[: sum(end <= cells for end in accumulate(map(measure_width, text)))]


def wrap_text(text: str, cells: int) -> list[str]:
    """Break plain text into lines, at spaces, and within a word that is longer than a line."""
    lines = [""]
    for word in text.split(" "):
        for piece in _split_word(word, cells):
            extended_line = f"{lines[-1]} {piece}" if lines[-1] else piece
            if measure_width(extended_line) <= cells:
                lines[-1] = extended_line
            else:
                lines.append(piece)
    return lines


def _split_word(word: str, cells: int) -> list[str]:
    pieces, width = [""], 0
    for character in word:
        width += measure_width(character)
        if width > cells:
            pieces.append("")
            width = measure_width(character)
        pieces[-1] += character
    return pieces
