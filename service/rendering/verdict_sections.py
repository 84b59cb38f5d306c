"""Verdicts: a row for each name, and what more there is to say of some."""

from collections.abc import Iterator, Sequence

from schemas.plan import JudgedDirection, JudgeReport
from schemas.report import (
    CheckReport,
    Diagnosis,
    DirectionReport,
    Discrepancies,
    Kink,
    MissedAlong,
    MissedInSample,
    Number,
    Verdict,
    WorstElement,
)
from service.rendering import number_format
from service.rendering.document import Block, Column, DisplayName, Heading, Paragraph, Section, Table

MAX_NAMES = 20
"""So many names are told of at length; of hundreds that fail, nobody reads more."""
MAX_KINKS = 5
MAX_DIRECTIONS = 20

_OUTCOME_ORDER = ("fail", "inconclusive", "pass")
_MISSED_LEGEND = "; missed: the probability that a wrong element, or so small an error along directions, was missed"
_NEGLIGIBLE_LEGEND = (
    "; negligible: elements that pass, but are too small beside the largest for an error to be found for sure"
)
_LEGEND = (
    "worst ratio: the worst distance from the finite difference, over what is allowed; detects: the smallest relative "
    "error that would have been found; max_rel: the largest relative distance from the finite difference"
)


def sort_by_outcome(report: CheckReport | JudgeReport) -> list[str]:
    """Names, those that fail first, then as they came."""
    verdicts = report["verdicts"]
    return sorted(verdicts, key=lambda name: _OUTCOME_ORDER.index(verdicts[name]["outcome"]))


def build_verdict_section(report: CheckReport) -> Iterator[Section]:
    """One row for each name."""
    verdicts, discrepancies = report["verdicts"], report["discrepancies"]
    columns = [
        Column("name", is_text=True), Column("outcome", is_text=True), Column("pass"), Column("fail"),
        Column("inconclusive"), Column("not examined"), Column("worst ratio"), Column("max_rel"), Column("detects"),
    ]  # fmt: skip
    rows = [[DisplayName(name), *_build_row(verdicts[name], discrepancies[name])] for name in sort_by_outcome(report)]
    legend = _LEGEND
    if any(each["elements"]["negligible"] for each in verdicts.values()):
        columns.insert(3, Column("negligible"))
        legend += _NEGLIGIBLE_LEGEND
        for row, name in zip(rows, sort_by_outcome(report), strict=True):
            row.insert(3, str(verdicts[name]["elements"]["negligible"]))
    if any("missed" in each for each in verdicts.values()):
        columns.append(Column("missed"))
        legend += _MISSED_LEGEND
        for row, name in zip(rows, sort_by_outcome(report), strict=True):
            row.append(_format_miss_probability(verdicts[name]))
    yield Section(Heading("Verdicts"), [Table(columns, rows), Paragraph(f"{legend}.")])


def _build_row(verdict: Verdict, discrepancies: Discrepancies) -> tuple[str, ...]:
    elements, detects = verdict["elements"], verdict["smallest_detectable_error"]
    counts = (elements["pass"], elements["fail"], elements["inconclusive"], elements["not_examined"])
    return (
        verdict["outcome"],
        *map(str, counts),
        _format_worst_ratio(verdict),
        _format_max_rel(verdict, discrepancies),
        "nothing" if detects == "Infinity" else number_format.format_rounded_up(detects),
    )


def _format_miss_probability(verdict: Verdict) -> str:
    return number_format.format_probability(verdict["missed"]["probability"]) if "missed" in verdict else "-"


def _format_worst_ratio(verdict: Verdict) -> str:
    if directions := verdict.get("directions"):
        return number_format.format_ratio(
            number_format.find_largest([compute_direction_ratio(each) for each in directions])
        )
    return number_format.format_ratio(verdict["worst"][0]["ratio"]) if verdict["worst"] else "-"


def compute_direction_ratio(direction: DirectionReport | JudgedDirection) -> Number:
    """How many times over what is allowed it is off."""
    return number_format.compute_ratio(direction["judged"], direction["reference"], direction["allowed"])


def _format_max_rel(verdict: Verdict, discrepancies: Discrepancies) -> str:
    """Of what was judged; of a candidate of another shape there is none."""
    if "candidate_vs_finite_difference" in discrepancies:
        return number_format.format_magnitude(discrepancies["candidate_vs_finite_difference"]["max_rel"])
    if not verdict["worst"] and not verdict.get("directions"):
        return "-"
    own = discrepancies["analytic_vs_finite_difference"], discrepancies["autograd_vs_finite_difference"]
    return number_format.format_magnitude(number_format.find_largest([each["max_rel"] for each in own]))


def build_detail_sections(report: CheckReport) -> Iterator[Section]:
    """A section for each name of which more is to be said than a row holds."""
    told = [
        Section(Heading(verdict["outcome"], DisplayName(name)), blocks)
        for name, verdict in ((name, report["verdicts"][name]) for name in sort_by_outcome(report))
        if (blocks := _build_details(verdict))
    ]
    yield from told[:MAX_NAMES]
    if more := told[MAX_NAMES:]:
        count = number_format.format_count(len(more), "name")
        yield Section(Heading(), [Paragraph(f"Of {count} more there is as much to say; the JSON report does.")])


def _build_details(verdict: Verdict) -> list[Block]:
    """What there is beside the row of a name: nothing, of an ordinary pass."""
    blocks: list[Block] = []
    if verdict["outcome"] != "pass":
        blocks.append(Paragraph(verdict["reason"], Heading("reason")))
        blocks += list_probable_bugs(verdict["diagnoses"])
        blocks += build_worst_element_table(verdict["worst"])
    blocks += _build_kink_table(verdict["kinks"])
    blocks += build_direction_table(verdict.get("directions", []))
    if blocks and "missed" in verdict:
        blocks.append(Paragraph(_describe_miss_probability(verdict["missed"], verdict), Heading("not looked at")))
    return blocks


def list_probable_bugs(diagnoses: Sequence[Diagnosis]) -> Iterator[Paragraph]:
    """A sentence for each."""
    for each in diagnoses:
        yield Paragraph(f"{each['name']} \N{EM DASH} {each['explanation']}", Heading("probable bug"))


def _make_comparison_columns(*before: Column) -> tuple[Column, ...]:
    return (
        *before, Column("route", is_text=True), Column("judged"), Column("finite difference"), Column("error bound"),
        Column("allowed"), Column("ratio"), Column("outcome", is_text=True),
    )  # fmt: skip


def build_worst_element_table(elements: Sequence[WorstElement]) -> Iterator[Table]:
    """A row for each of the worst."""
    rows = [
        (
            number_format.format_index(each["index"]),
            each["route"],
            number_format.format_value(each["judged"]),
            number_format.format_value(each["reference"]),
            number_format.format_magnitude(each["error_bound"]),
            number_format.format_magnitude(each["allowed"]),
            number_format.format_ratio(each["ratio"]),
            each["outcome"],
        )
        for each in elements
    ]
    if rows:
        yield Table(_make_comparison_columns(Column("index", is_text=True)), rows, Heading("worst elements"))


def build_direction_table(directions: Sequence[DirectionReport | JudgedDirection]) -> Iterator[Block]:
    """A row for each of the first random directions."""
    rows = [
        (
            str(number),
            each["route"],
            number_format.format_value(each["judged"]),
            number_format.format_value(each["reference"]),
            number_format.format_magnitude(each["error_bound"]),
            number_format.format_magnitude(each["allowed"]),
            number_format.format_ratio(compute_direction_ratio(each)),
            each["outcome"],
        )
        for number, each in enumerate(directions[:MAX_DIRECTIONS])
    ]
    if rows:
        yield Table(_make_comparison_columns(Column("direction")), rows, Heading("random directions"))
        yield from _describe_omitted(len(rows), len(directions), "direction")


def _build_kink_table(kinks: Sequence[Kink]) -> Iterator[Block]:
    rows = [
        (
            number_format.format_index(each["index"]),
            number_format.format_value(each["left"]),
            number_format.format_value(each["right"]),
        )
        for each in kinks[:MAX_KINKS]
    ]
    if rows:
        columns = Column("index", is_text=True), Column("derivative from the left"), Column("from the right")
        yield Table(columns, rows, Heading("kinks, where either one-sided derivative is accepted"))
        yield from _describe_omitted(len(rows), len(kinks), "kink")


def _describe_omitted(shown_count: int, count: int, noun: str) -> Iterator[Paragraph]:
    if shown_count < count:
        yield Paragraph(f"The first {shown_count} of {number_format.format_count(count, noun)}.")


def _describe_miss_probability(missed: MissedInSample | MissedAlong, verdict: Verdict) -> str:
    if "wrong_elements" in missed:
        wrong, elements = number_format.format_count(missed["wrong_elements"], "wrong element"), verdict["elements"]
        left = f"{elements['not_examined']} of {number_format.format_count(elements['total'], 'element')}"
        return f"{left}; {wrong} would be missed with probability {number_format.format_probability(missed['probability'])}."
    if missed["relative_l2"] == "Infinity":
        return "any single element; no error is sure to be found along these directions."
    error = f"an error of {number_format.format_rounded_up(missed['relative_l2'])} of the gradient's norm"
    return f"any single element; {error} would be missed with probability {number_format.format_probability(missed['probability'])}."
