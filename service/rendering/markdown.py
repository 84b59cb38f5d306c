"""A report for a pull request: GitHub-flavoured Markdown, within the length of one comment.

No text of the request becomes markup. Names are code, in which nothing is markup; in other text every character that
Markdown, HTML or GitHub would act upon is escaped.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from service.rendering import number_format
from service.rendering.document import (
    Block,
    Column,
    DisplayName,
    Heading,
    Listing,
    Paragraph,
    Section,
    SectionBuilder,
    Table,
)
from service.rendering.sections import build_sections
from service.rendering.terminal_text import elide_middle, escape_text

MAX_LENGTH = 60_000
"""A comment on GitHub may have 65,536 characters: some are left for words around the report."""
MAX_ROWS = 200
_MAX_NAME_LENGTH = 120
_MAX_LINE_LENGTH = 200

_TRUNCATION_NOTE = "{} of this report would not fit into a comment: see the report as text or as JSON.\n"

_SYNTAX_PATTERN = re.compile(r"[\\`*_{}\[\]<>&|~$]|(?<=www)\.|:(?=//)")
_MENTION_PATTERN = re.compile(r"[@#]")
_LIST_PATTERN = re.compile(r"^ *(\d*)([-+.)])")


def render_markdown(
    report: Mapping[str, Any],
    *,
    has_details: bool = False,
    build_sections: SectionBuilder[Any] = build_sections,
) -> str:
    """Write a report, which has an `outcome`, as Markdown.

    Details are all pairs of gradients, full gradients and every check that passed.
    """
    parts = [f"## gradcheckd: {_escape_markdown(report['outcome'])}\n"]
    free_characters, omitted_count = MAX_LENGTH - len(parts[0]) - len(_TRUNCATION_NOTE), 0
    for section in build_sections(report, has_details=has_details):
        part = "\n".join(_write_section(section))
        if len(part) < free_characters:
            parts.append(part)
            free_characters -= len(part) + 1
        else:
            omitted_count += 1
    if omitted_count:
        parts.append(_TRUNCATION_NOTE.format(number_format.format_count(omitted_count, "section")))
    return "\n".join(parts)


def _write_section(section: Section) -> Iterator[str]:
    title = _write_heading(section.heading)
    if section.is_long:
        yield f"<details><summary>{section.heading.text}</summary>\n"
    elif title:
        yield f"### {title}\n"
    for block in section.blocks:
        yield from _write_block(block)
        yield ""
    if section.is_long:
        yield "</details>\n"


def _write_heading(heading: Heading) -> str:
    names = ", ".join(filter(None, map(_write_code, heading.names)))
    omission_note = f" and {heading.more_names} more" if heading.more_names else ""
    return ": ".join(part for part in (names + omission_note, _escape_markdown(heading.text)) if part)


def _write_block(block: Block) -> Iterator[str]:
    heading = _write_heading(block.heading) if not isinstance(block, Listing) else ""
    if isinstance(block, Paragraph):
        yield f"**{heading}:** {_escape_markdown(block.text)}" if heading else _escape_paragraph(block.text)
    elif isinstance(block, Listing):
        yield from _write_fenced(block.lines)
    else:
        if heading:
            yield f"**{heading}**\n"
        yield from _write_table(block)


def _write_table(table: Table) -> Iterator[str]:
    yield _write_row(column.head for column in table.columns)
    yield _write_row(map(_write_rule, table.columns))
    yield from (_write_row(map(_write_cell, row)) for row in table.rows[:MAX_ROWS])
    if omitted_rows := table.rows[MAX_ROWS:]:
        yield f"\n{len(omitted_rows)} more rows are in the report as JSON and as text."


def _write_rule(column: Column) -> str:
    return "---" if column.is_text else "---:"


def _write_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _write_cell(cell: str) -> str:
    # A parser cuts a table into cells before it reads anything in them, code included, and takes the backslash away.
    return _write_code(cell).replace("|", r"\|") if isinstance(cell, DisplayName) else _escape_markdown(cell)


def _write_code(display_name: DisplayName) -> str:
    """Write a name as code: between more backticks than are in it, and spaces, which Markdown takes away, if needed."""
    name = elide_middle(display_name, _MAX_NAME_LENGTH)
    if not name:
        return ""
    ticks, space = "`" * (_count_longest_run(name) + 1), " " if name[0] in "` " or name[-1] in "` " else ""
    return f"{ticks}{space}{name}{space}{ticks}"


def _write_fenced(lines: Sequence[str]) -> Iterator[str]:
    escaped_lines = [elide_middle(escape_text(line), _MAX_LINE_LENGTH) for line in lines]
    fence = "`" * max(3, *(_count_longest_run(line) + 1 for line in escaped_lines))
    yield from (f"{fence}text", *escaped_lines, fence)


def _count_longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _escape_markdown(text: str) -> str:
    # GitHub looks for mentions in the displayed text, where no escape is left: an empty comment stands in between.
    return _MENTION_PATTERN.sub(r"\g<0><!-- -->", _SYNTAX_PATTERN.sub(r"\\\g<0>", escape_text(text)))


def _escape_paragraph(text: str) -> str:
    """Escape text at the beginning of a line, where a list could begin."""
    return _LIST_PATTERN.sub(r"\1\\\2", _escape_markdown(text).lstrip())
