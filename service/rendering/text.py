"""A report for a terminal: every line below 120 columns."""

from collections.abc import Iterator, Sequence

from schemas.plan import JudgeReport
from schemas.report import CheckReport
from service.rendering.cells import elided, plain, width, wrapped
from service.rendering.document import Block, Heading, Listing, Said, Section, Table
from service.rendering.sections import sections

COLUMNS = 119
_GAP = "  "
_INDENT = "  "
_NARROWEST = 12
_HEADING = 80


def text(report: CheckReport | JudgeReport) -> str:
    """Write a report as plain text."""
    parts = [f"gradcheckd: {report['outcome']}\n", *map(_section, sections(report))]
    return "\n".join(parts)


def _section(section: Section) -> str:
    title = _heading(section.heading)
    indent = _INDENT if title else ""
    lines = [title] if title else []
    for position, block in enumerate(section.blocks):
        if position and not (isinstance(block, Said) and isinstance(section.blocks[position - 1], Said)):
            lines.append("")
        lines += [f"{indent}{line}".rstrip() for line in _block(block, COLUMNS - len(indent))]
    return "\n".join([*lines, ""])


def _heading(heading: Heading) -> str:
    return ": ".join(part for part in (_name(heading.name), plain(heading.text)) if part)


def _name(name: str | None) -> str:
    return elided(plain(name), _HEADING) if name else ""


def _block(block: Block, columns: int) -> Iterator[str]:
    if isinstance(block, Said):
        heading = _heading(block.heading)
        yield from wrapped(f"{heading}: {plain(block.text)}" if heading else plain(block.text), columns)
    elif isinstance(block, Listing):
        yield from (elided(plain(line), columns) for line in block.lines)
    else:
        if heading := _heading(block.heading):
            yield from wrapped(heading, columns)
        yield from _table(block, columns)


def _table(table: Table, columns: int) -> Iterator[str]:
    heads = [column.head for column in table.columns]
    rows = [heads, *([plain(cell) for cell in row] for row in table.rows)]
    widths = _fitting([max(map(width, cells)) for cells in zip(*rows, strict=True)], table, columns)
    rows.insert(1, ["-" * each for each in widths])
    for row in rows:
        cells = [
            _padded(elided(cell, room), room, left=column.words)
            for cell, room, column in zip(row, widths, table.columns, strict=True)
        ]
        # What is of figures alone fits; should it not, the line is cut rather than wrapped by the terminal.
        yield elided(_GAP.join(cells).rstrip(), columns)


def _fitting(widths: Sequence[int], table: Table, columns: int) -> list[int]:
    """Widths of columns that fit beside each other: those of words give way, the widest first."""
    fitting = list(widths)
    excess = sum(fitting) + len(_GAP) * (len(fitting) - 1) - columns
    words = [position for position, column in enumerate(table.columns) if column.words]
    for position in sorted(words, key=lambda each: -fitting[each]):
        less = max(0, min(excess, fitting[position] - _NARROWEST))
        fitting[position] -= less
        excess -= less
    return fitting


def _padded(cell: str, cells: int, *, left: bool) -> str:
    blank = " " * (cells - width(cell))
    return cell + blank if left else blank + cell
