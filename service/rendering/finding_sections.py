"""The findings: probable bugs, patterns of wrong elements, reasons why nothing could be told; each is said once."""

import re
from collections.abc import Iterator, Mapping

from schemas.outputs import JudgedProduct
from schemas.plan import JudgedVerdict, JudgeReport
from schemas.report import CheckReport, Diagnosis, Verdict
from service.rendering import number_format
from service.rendering.document import DisplayName, Heading, Paragraph, Section
from service.rendering.verdict_sections import sort_by_outcome

MAX_GROUPS = 20
_MAX_LISTED_NAMES = 5
_UNKNOWN_BUG = "unknown"
_BUG_HEADING = "probable bug"
_GENERIC_NAME = "\N{HORIZONTAL ELLIPSIS}"


def build_finding_section(report: CheckReport | JudgeReport) -> Iterator[Section]:
    """Build a paragraph for each bug, and for each pattern that no known bug explains, with its tensors."""
    groups: dict[tuple[str, ...], list[str]] = {}
    paragraphs: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for name in sort_by_outcome(report):
        finding = _describe_finding(report["verdicts"][name])
        key = tuple(_remove_name(text, name) for _, text in finding)
        if finding:
            groups.setdefault(key, []).append(name)
            paragraphs.setdefault(key, finding)
    blocks = [block for key, names in groups.items() for block in _write_group(names, paragraphs[key])]
    if len(blocks) > MAX_GROUPS:
        omission_note = number_format.format_count(len(blocks) - MAX_GROUPS, "more finding")
        blocks[MAX_GROUPS:] = [Paragraph(f"{omission_note} in the JSON report.")]
    if blocks:
        yield Section(Heading(), blocks)


def _remove_name(text: str, name: str) -> str:
    """Make the same finding on two tensors the same text: each names its gradient and its elements."""
    escaped_name = re.escape(DisplayName(name))
    return re.sub(rf"dL/d{escaped_name}(?!\w)|(?<!\w){escaped_name}(?=\[)", _GENERIC_NAME, text)


def has_named_bug(verdict: Verdict | JudgedVerdict | JudgedProduct) -> bool:
    """Tell whether a bug of the catalogue explains the gradient."""
    return any(diagnosis["name"] != _UNKNOWN_BUG for diagnosis in verdict["diagnoses"])


def _write_group(names: list[str], paragraphs: list[tuple[str, str]]) -> Iterator[Paragraph]:
    listed_names = tuple(map(DisplayName, names[:_MAX_LISTED_NAMES]))
    for heading, text in paragraphs:
        shared_note = (
            f" The same explains all {len(names)} gradients." if len(names) > 1 and heading == _BUG_HEADING else ""
        )
        yield Paragraph(text + shared_note, Heading(heading, listed_names, len(names) - len(listed_names)))


def _describe_finding(verdict: Verdict | JudgedVerdict | JudgedProduct) -> list[tuple[str, str]]:
    """Return the paragraphs on one tensor, each with its heading."""
    diagnoses = verdict["diagnoses"]
    if has_named_bug(verdict):
        return [(_BUG_HEADING, _describe_bug(diagnosis)) for diagnosis in diagnoses]
    if "pattern" in verdict:
        remark = " No bug that is known here explains this." if diagnoses else ""
        return [("", f"{verdict['pattern']}.{remark}{''.join(map(_find_notes, diagnoses))}")]
    if verdict["outcome"] == "inconclusive":
        return [("inconclusive", verdict["reason"])]
    return [("", diagnosis["explanation"]) for diagnosis in diagnoses]


def _describe_bug(diagnosis: Mapping[str, object]) -> str:
    return f"{diagnosis['name']} \N{EM DASH} {diagnosis['explanation']}"


def _find_notes(diagnosis: Diagnosis) -> str:
    """Return what an explanation says behind its first sentence, as that not every bug could be tried."""
    _, _, notes = diagnosis["explanation"].partition(". ")
    return f" {notes}" if notes else ""
