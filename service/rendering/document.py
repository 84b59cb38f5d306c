"""The parts of a report, whatever form it is written in: sections of sentences, tables and listings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from service.rendering.terminal_text import escape_text

ReportT = TypeVar("ReportT", contravariant=True)


class DisplayName(str):
    """A name of the request as every form shows it: this is the one place in which names are escaped.

    A backslash is doubled, as in the sentences of a report, to tell it from an escape. Characters that a terminal would
    obey, or that do not show, are escapes of Python's. A form adds the escapes of its own markup.
    """

    __slots__ = ()

    def __new__(cls, name: str) -> "DisplayName":
        """Escape a name of the request."""
        return super().__new__(cls, escape_text(name.replace("\\", "\\\\")))


@dataclass(frozen=True)
class Heading:
    """A few words, the names that they are about, or both."""

    text: str = ""
    names: tuple[DisplayName, ...] = ()
    more_names: int = 0


@dataclass(frozen=True)
class Paragraph:
    """A sentence or two under a heading."""

    text: str
    heading: Heading = Heading()


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes
    ----------
    head
        Words above the column.
    is_text
        Words are set to the left, and may be shortened; figures to the right.
    drop_rank
        Order in which columns give way where a table is too wide, the largest first; 0 never does.
    """

    head: str
    is_text: bool = False
    drop_rank: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are columns."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    heading: Heading = Heading()

    def without_columns(self, positions: frozenset[int]) -> "Table":
        """Return the table without the columns at some positions."""
        kept_positions = [position for position in range(len(self.columns)) if position not in positions]
        return Table(
            [self.columns[position] for position in kept_positions],
            [[row[position] for position in kept_positions] for row in self.rows],
            self.heading,
        )


@dataclass(frozen=True)
class Listing:
    """Lines as they are."""

    lines: Sequence[str]


Block = Paragraph | Table | Listing


@dataclass(frozen=True)
class Section:
    """A part of a report; `is_long` if few readers want it at once."""

    heading: Heading
    blocks: Sequence[Block]
    is_long: bool = False


class SectionBuilder(Protocol[ReportT]):
    """A function that builds the sections of a report, with or without the details that few readers want."""

    def __call__(self, report: ReportT, /, *, has_details: bool) -> Iterable[Section]:
        """Build the sections."""
        ...
