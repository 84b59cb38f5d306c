"""A report for a pull request: GitHub-flavoured Markdown, within the length of one comment.

Nothing of the request is taken for markup. Names are code, in which nothing is; of other text every character that
Markdown, HTML or GitHub would act upon is escaped.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from schemas.plan import JudgeReport
from schemas.report import CheckReport
from service.rendering import figures
from service.rendering.cells import elided, plain
from service.rendering.document import Block, Column, Heading, Listing, Name, Said, Section, Table
from service.rendering.sections import sections

MAX_LENGTH = 60_000
"""Of the 65,536 characters that a comment on GitHub may have, some are left for words around the report."""
MAX_ROWS = 200
_LONGEST_NAME = 120
_LONGEST_LINE = 200

_LEFT_OUT = "{} of this report would not fit into a comment: see the report as text or as JSON.\n"

_ACTIVE = re.compile(r"[\\`*_{}\[\]<>&|~$]|(?<=www)\.|:(?=//)")
_MENTION = re.compile(r"[@#]")
_LIST = re.compile(r"^ *(\d*)([-+.)])")


def markdown(report: CheckReport | JudgeReport) -> str:
    """Write a report as Markdown."""
    parts = [f"## gradcheckd: {_escaped(report['outcome'])}\n"]
    room, left_out = MAX_LENGTH - len(parts[0]) - len(_LEFT_OUT), 0
    for section in sections(report):
        part = "\n".join(_section(section))
        if len(part) < room:
            parts.append(part)
            room -= len(part) + 1
        else:
            left_out += 1
    if left_out:
        parts.append(_LEFT_OUT.format(figures.counted(left_out, "section")))
    return "\n".join(parts)


def _section(section: Section) -> Iterator[str]:
    title = _heading(section.heading)
    if section.long:
        yield f"<details><summary>{section.heading.text}</summary>\n"
    elif title:
        yield f"### {title}\n"
    for block in section.blocks:
        yield from _block(block)
        yield ""
    if section.long:
        yield "</details>\n"


def _heading(heading: Heading) -> str:
    return ": ".join(part for part in (_code(heading.name or ""), _escaped(heading.text)) if part)


def _block(block: Block) -> Iterator[str]:
    heading = _heading(block.heading) if not isinstance(block, Listing) else ""
    if isinstance(block, Said):
        yield f"**{heading}:** {_escaped(block.text)}" if heading else _paragraph(block.text)
    elif isinstance(block, Listing):
        yield from _fenced(block.lines)
    else:
        if heading:
            yield f"**{heading}**\n"
        yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    yield _row(column.head for column in table.columns)
    yield _row(map(_rule, table.columns))
    yield from (_row(map(_cell, row)) for row in table.rows[:MAX_ROWS])
    if more := table.rows[MAX_ROWS:]:
        yield f"\n{len(more)} more rows are in the report as JSON and as text."


def _rule(column: Column) -> str:
    return "---" if column.words else "---:"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: str) -> str:
    # A table is cut into cells before anything in them is read, code included, and takes the backslash away again.
    return _code(cell).replace("|", r"\|") if isinstance(cell, Name) else _escaped(cell)


def _code(name: str) -> str:
    """A name as code: between more backticks than are in it, and spaces that are taken away again if they must be."""
    name = elided(plain(name), _LONGEST_NAME)
    if not name:
        return ""
    ticks, space = "`" * (_longest_run(name) + 1), " " if name[0] in "` " or name[-1] in "` " else ""
    return f"{ticks}{space}{name}{space}{ticks}"


def _fenced(lines: Sequence[str]) -> Iterator[str]:
    shown = [elided(plain(line), _LONGEST_LINE) for line in lines]
    fence = "`" * max(3, *(_longest_run(line) + 1 for line in shown))
    yield from (f"{fence}text", *shown, fence)


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _escaped(text: str) -> str:
    # GitHub looks for mentions in what is displayed, where no escape is left: an empty comment stands in between.
    return _MENTION.sub(r"\g<0><!-- -->", _ACTIVE.sub(r"\\\g<0>", plain(text)))


def _paragraph(text: str) -> str:
    """Text at the beginning of a line, where a list could begin."""
    return _LIST.sub(r"\1\\\2", _escaped(text).lstrip())
