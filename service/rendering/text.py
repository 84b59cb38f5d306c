"""A report for a terminal, within its width."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.rendering.document import Block, Heading, Listing, Paragraph, Section, SectionBuilder, Table
from service.rendering.sections import build_sections
from service.rendering.terminal_text import elide_middle, escape_text, measure_width, wrap_text

DEFAULT_COLUMNS = 100
MIN_COLUMNS, MAX_COLUMNS = 40, 120
_COLUMN_GAP = "  "
_INDENT = "  "
_MIN_COLUMN_WIDTH = 12


def render_text(
    report: Mapping[str, Any],
    columns: int = DEFAULT_COLUMNS,
    *,
    has_details: bool = False,
    build_sections: SectionBuilder[Any] = build_sections,
) -> str:
    """Write a report, which has an `outcome`, as plain text.

    Parameters
    ----------
    report
        The report on the wire.
    columns
        Width of a line in cells of a terminal; 40 to 120.
    has_details
        True to include all pairs of gradients, full gradients and every passed check as well.
    build_sections
        Function that builds the sections; by default those of a check or of a judgement by losses.
    """
    columns = max(MIN_COLUMNS, min(columns, MAX_COLUMNS))
    first, *other_sections = (
        _write_section(section, columns) for section in build_sections(report, has_details=has_details)
    )
    return "\n".join([f"gradcheckd: {report['outcome']}\n{first}", *other_sections])


def _write_section(section: Section, columns: int) -> str:
    title = _write_heading(section.heading, columns)
    indent = _INDENT if title else ""
    lines = [title] if title else []
    for position, block in enumerate(section.blocks):
        if position and not (isinstance(block, Paragraph) and isinstance(section.blocks[position - 1], Paragraph)):
            lines.append("")
        lines += [f"{indent}{line}".rstrip() for line in _write_block(block, columns - len(indent))]
    return "\n".join([*lines, ""])


def _write_heading(heading: Heading, columns: int) -> str:
    max_width = columns * 2 // 3 // max(len(heading.names), 1)
    names = ", ".join(elide_middle(name, max_width) for name in heading.names)
    omission_note = f" and {heading.more_names} more" if heading.more_names else ""
    return ": ".join(part for part in (names + omission_note, escape_text(heading.text)) if part)


def _write_block(block: Block, columns: int) -> Iterator[str]:
    if isinstance(block, Paragraph):
        heading = _write_heading(block.heading, columns)
        yield from wrap_text(f"{heading}: {escape_text(block.text)}" if heading else escape_text(block.text), columns)
    elif isinstance(block, Listing):
        yield from (elide_middle(escape_text(line), columns) for line in block.lines)
    else:
        if heading := _write_heading(block.heading, columns):
            yield from wrap_text(heading, columns)
        yield from _write_table(block, columns)


def _write_table(table: Table, columns: int) -> Iterator[str]:
    table = _drop_columns(table, columns)
    rows = _list_rows(table)
    widths = _fit_widths(_measure_columns(rows), table, columns)
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        cells = [
            _pad_cell(elide_middle(cell, room), room, align_left=column.is_text)
            for cell, room, column in zip(row, widths, table.columns, strict=True)
        ]
        # A row of figures alone may still be too wide: it is cut rather than wrapped by the terminal.
        yield elide_middle(_COLUMN_GAP.join(cells).rstrip(), columns)


def _list_rows(table: Table) -> list[Sequence[str]]:
    return [[column.head for column in table.columns], *([escape_text(cell) for cell in row] for row in table.rows)]


def _measure_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(measure_width, cells)) for cells in zip(*rows, strict=True)]


def _drop_columns(table: Table, columns: int) -> Table:
    """Leave out the columns that readers miss least until the others fit beside each other."""
    ranks = {position: column.drop_rank for position, column in enumerate(table.columns) if column.drop_rank}
    dropped_positions: set[int] = set()
    for position in sorted(ranks, key=lambda position: -ranks[position]):
        shown_table = table.without_columns(frozenset(dropped_positions))
        if _measure_table(_fit_widths(_measure_columns(_list_rows(shown_table)), shown_table, columns)) <= columns:
            return shown_table
        dropped_positions.add(position)
    return table.without_columns(frozenset(dropped_positions))


def _measure_table(widths: Sequence[int]) -> int:
    return sum(widths) + len(_COLUMN_GAP) * (len(widths) - 1)


def _fit_widths(widths: Sequence[int], table: Table, columns: int) -> list[int]:
    """Return widths of columns that fit beside each other: those of words give way, the widest first."""
    fitted_widths = list(widths)
    excess = _measure_table(fitted_widths) - columns
    words = [position for position, column in enumerate(table.columns) if column.is_text]
    for position in sorted(words, key=lambda position: -fitted_widths[position]):
        reduction = max(0, min(excess, fitted_widths[position] - _MIN_COLUMN_WIDTH))
        fitted_widths[position] -= reduction
        excess -= reduction
    return fitted_widths


def _pad_cell(cell: str, cell_width: int, *, align_left: bool) -> str:
    blank = " " * (cell_width - measure_width(cell))
    return cell + blank if align_left else blank + cell
