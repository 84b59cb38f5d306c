"""What a report is made of, whatever it is written as: sections of sentences, tables and listings."""

from collections.abc import Sequence
from dataclasses import dataclass


class DisplayName(str):
    """A name of the request. A backslash is doubled, as in the sentences of a report, to tell it from an escape."""

    __slots__ = ()

    def __new__(cls, name: str) -> "DisplayName":
        """Name as it came."""
        return super().__new__(cls, name.replace("\\", "\\\\"))


@dataclass(frozen=True)
class Heading:
    """A few words, of a name or of the check; either may be missing."""

    text: str = ""
    name: DisplayName | None = None


@dataclass(frozen=True)
class Paragraph:
    """A sentence or two, and what they are about."""

    text: str
    heading: Heading = Heading()


@dataclass(frozen=True)
class Column:
    """Head of a column. Words are set to the left, and may be shortened; figures to the right."""

    head: str
    is_text: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are columns."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    heading: Heading = Heading()


@dataclass(frozen=True)
class Listing:
    """Lines as they are."""

    lines: Sequence[str]


Block = Paragraph | Table | Listing


@dataclass(frozen=True)
class Section:
    """A part of a report; `long` if few readers want it at once."""

    heading: Heading
    blocks: Sequence[Block]
    is_long: bool = False
