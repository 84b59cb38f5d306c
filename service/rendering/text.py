"""A report for a terminal: every line below 120 columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from service.rendering.document import Block, Heading, Listing, Paragraph, Section, Table
from service.rendering.sections import build_sections
from service.rendering.terminal_text import elide_middle, escape_text, measure_width, wrap_text

COLUMNS = 119
_COLUMN_GAP = "  "
_INDENT = "  "
_MIN_COLUMN_WIDTH = 12
_MAX_HEADING_WIDTH = 80


def render_text(report: Mapping[str, Any], build_sections: Callable[[Any], Iterable[Section]] = build_sections) -> str:
    """Write a report, which has an `outcome`, as plain text."""
    parts = [f"gradcheckd: {report['outcome']}\n", *map(_write_section, build_sections(report))]
    return "\n".join(parts)


def _write_section(section: Section) -> str:
    title = _write_heading(section.heading)
    indent = _INDENT if title else ""
    lines = [title] if title else []
    for position, block in enumerate(section.blocks):
        if position and not (isinstance(block, Paragraph) and isinstance(section.blocks[position - 1], Paragraph)):
            lines.append("")
        lines += [f"{indent}{line}".rstrip() for line in _write_block(block, COLUMNS - len(indent))]
    return "\n".join([*lines, ""])


def _write_heading(heading: Heading) -> str:
    return ": ".join(part for part in (_shorten_name(heading.name), escape_text(heading.text)) if part)


def _shorten_name(name: str | None) -> str:
    return elide_middle(escape_text(name), _MAX_HEADING_WIDTH) if name else ""


def _write_block(block: Block, columns: int) -> Iterator[str]:
    if isinstance(block, Paragraph):
        heading = _write_heading(block.heading)
        yield from wrap_text(f"{heading}: {escape_text(block.text)}" if heading else escape_text(block.text), columns)
    elif isinstance(block, Listing):
        yield from (elide_middle(escape_text(line), columns) for line in block.lines)
    else:
        if heading := _write_heading(block.heading):
            yield from wrap_text(heading, columns)
        yield from _write_table(block, columns)


def _write_table(table: Table, columns: int) -> Iterator[str]:
    heads = [column.head for column in table.columns]
    rows = [heads, *([escape_text(cell) for cell in row] for row in table.rows)]
    widths = _fit_widths([max(map(measure_width, cells)) for cells in zip(*rows, strict=True)], table, columns)
    rows.insert(1, ["-" * each for each in widths])
    for row in rows:
        cells = [
            _pad_cell(elide_middle(cell, room), room, align_left=column.is_text)
            for cell, room, column in zip(row, widths, table.columns, strict=True)
        ]
        # What is of figures alone fits; should it not, the line is cut rather than wrapped by the terminal.
        yield elide_middle(_COLUMN_GAP.join(cells).rstrip(), columns)


def _fit_widths(widths: Sequence[int], table: Table, columns: int) -> list[int]:
    """Widths of columns that fit beside each other: those of words give way, the widest first."""
    fitting = list(widths)
    excess = sum(fitting) + len(_COLUMN_GAP) * (len(fitting) - 1) - columns
    words = [position for position, column in enumerate(table.columns) if column.is_text]
    for position in sorted(words, key=lambda each: -fitting[each]):
        less = max(0, min(excess, fitting[position] - _MIN_COLUMN_WIDTH))
        fitting[position] -= less
        excess -= less
    return fitting


def _pad_cell(cell: str, cell_width: int, *, align_left: bool) -> str:
    blank = " " * (cell_width - measure_width(cell))
    return cell + blank if align_left else blank + cell
