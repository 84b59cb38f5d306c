"""The table of tensors: a row for each, without the columns that say nothing of any of them."""

from collections.abc import Sequence

from schemas.plan import JudgedDirection, JudgeReport
from schemas.report import CheckReport, DirectionReport, Discrepancies, Number, Verdict
from service.rendering import number_format
from service.rendering.document import Column, DisplayName, Heading, Paragraph, Section, Table

MAX_NAMES = 20
"""Tensors that are described at length; nobody reads more of hundreds that fail."""

_OUTCOME_ORDER = ("fail", "inconclusive", "pass")
_LEGENDS = {
    "negligible": "elements that pass, but are too small beside the largest for an error to be found for sure",
    "worst ratio": "the largest error, over the allowed error",
    "max_rel": "the largest relative distance from the finite difference",
    "detects": "the smallest relative error that would have been found",
    "missed": "the probability that a wrong element, or so small an error along directions, was missed",
}


def sort_by_outcome(report: CheckReport | JudgeReport) -> list[str]:
    """Return the names, those that fail first, then in the order of the request."""
    verdicts = report["verdicts"]
    return sorted(verdicts, key=lambda name: _OUTCOME_ORDER.index(verdicts[name]["outcome"]))


def build_verdict_section(report: CheckReport) -> Section:
    """Build the table of tensors, with a legend of its columns."""
    columns = (
        Column("name", is_text=True), Column("outcome", is_text=True), Column("pass"), Column("negligible"),
        Column("fail"), Column("inconclusive"), Column("not examined"), Column("worst ratio"),
        Column("max_rel", drop_rank=1), Column("detects"), Column("missed"),
    )  # fmt: skip
    rows = [
        (DisplayName(name), *_build_row(report["verdicts"][name], report["discrepancies"][name]))
        for name in sort_by_outcome(report)
    ]
    return build_table_section(Table(columns, rows), _LEGENDS)


def build_table_section(table: Table, legends: dict[str, str]) -> Section:
    """Build a section of a table of tensors, without empty columns, and with the legends of the others."""
    shown_table = hide_empty_columns(table)
    heads = [column.head for column in shown_table.columns]
    legend = "; ".join(f"{head}: {words}" for head, words in legends.items() if head in heads)
    return Section(Heading("Verdicts"), [shown_table, Paragraph(f"{legend}.")])


def hide_empty_columns(table: Table) -> Table:
    """Leave out the columns in which every cell is 0 or a dash."""
    return table.without_columns(
        frozenset(
            position
            for position in range(len(table.columns))
            if not table.columns[position].is_text and all(row[position] in ("0", "-") for row in table.rows)
        )
    )


def _build_row(verdict: Verdict, discrepancies: Discrepancies) -> tuple[str, ...]:
    elements = verdict["elements"]
    counts = (
        elements["pass"], elements["negligible"], elements["fail"], elements["inconclusive"], elements["not_examined"]
    )  # fmt: skip
    return (
        verdict["outcome"],
        *map(str, counts),
        _format_worst_ratio(verdict),
        _format_max_rel(verdict, discrepancies),
        format_detectable_error(verdict["smallest_detectable_error"]),
        number_format.format_probability(verdict["missed"]["probability"]) if "missed" in verdict else "-",
    )


def format_detectable_error(number: Number) -> str:
    """Format the smallest error that would have been found."""
    return "nothing" if number == "Infinity" else number_format.format_rounded_up(number)


def is_directional(verdict: Verdict) -> bool:
    """Tell whether a tensor was compared along directions, its own or those of several tensors."""
    return "relative_l2" in verdict.get("missed", {})


def _format_worst_ratio(verdict: Verdict) -> str:
    if directions := verdict.get("directions"):
        return format_worst_direction_ratio(directions)
    return number_format.format_ratio(verdict["worst"][0]["ratio"]) if verdict["worst"] else "-"


def format_worst_direction_ratio(directions: Sequence[DirectionReport | JudgedDirection]) -> str:
    """Format the largest ratio of error to allowed error among directions."""
    return number_format.format_ratio(number_format.find_largest(list(map(compute_direction_ratio, directions))))


def compute_direction_ratio(direction: DirectionReport | JudgedDirection) -> Number:
    """Return the error along a direction over the allowed error."""
    return number_format.compute_ratio(direction["judged"], direction["reference"], direction["allowed"])


def _format_max_rel(verdict: Verdict, discrepancies: Discrepancies) -> str:
    """Format the distance of the judged gradient; a dash where no element was compared."""
    if is_directional(verdict):
        return "-"
    if "candidate_vs_finite_difference" in discrepancies:
        return number_format.format_magnitude(discrepancies["candidate_vs_finite_difference"]["max_rel"])
    if not verdict["worst"]:
        return "-"
    pairs = discrepancies["analytic_vs_finite_difference"], discrepancies["autograd_vs_finite_difference"]
    return number_format.format_magnitude(number_format.find_largest([metrics["max_rel"] for metrics in pairs]))
