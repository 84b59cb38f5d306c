"""The details of each tensor that does not pass: the reason, the worst elements or directions, kinks."""

from collections.abc import Iterator, Sequence

from schemas.plan import JudgedDirection
from schemas.report import CheckReport, DirectionReport, Kink, MissedAlong, MissedInSample, Verdict, WorstElement
from service.rendering import number_format
from service.rendering.document import Block, Column, DisplayName, Heading, Paragraph, Section, Table
from service.rendering.finding_sections import has_named_bug
from service.rendering.verdict_sections import MAX_NAMES, compute_direction_ratio, is_directional, sort_by_outcome

MAX_KINKS = 5
MAX_DIRECTIONS = 20
_MAX_WORST = 3
"""Elements or directions that show what is wrong; the details have all that the report has."""


def build_detail_sections(report: CheckReport, *, has_details: bool = False) -> Iterator[Section]:
    """Build a section for each tensor that does not pass; with details, for each with more to say than its row."""
    verdicts = report["verdicts"]
    sections = [
        Section(Heading(verdicts[name]["outcome"], (DisplayName(name),)), blocks)
        for name in sort_by_outcome(report)
        if (has_details or verdicts[name]["outcome"] != "pass")
        and (blocks := _build_details(verdicts[name], has_details=has_details))
    ]
    yield from limit_sections(sections)


def build_joint_section(report: CheckReport) -> Iterator[Section]:
    """Build the table of the directions of several tensors together, if there are any."""
    if directions := report.get("directions"):
        names = ", ".join(DisplayName(name) for name in directions[0]["names"][:MAX_NAMES])
        more = len(directions[0]["names"]) - MAX_NAMES
        text = f"Each moves {names}{f' and {more} more' if more > 0 else ''} together."
        blocks = [Paragraph(text), *build_direction_table(directions, has_details=True)]
        yield Section(Heading("Joint directions"), blocks, is_long=True)


def limit_sections(sections: Sequence[Section]) -> Iterator[Section]:
    """Keep the first sections, and count the others."""
    yield from sections[:MAX_NAMES]
    if more := sections[MAX_NAMES:]:
        count = number_format.format_count(len(more), "more tensor")
        yield Section(Heading(), [Paragraph(f"Details of {count} in the JSON report.")])


def _build_details(verdict: Verdict, *, has_details: bool) -> list[Block]:
    blocks: list[Block] = []
    if verdict["outcome"] != "pass":
        # A bug that is named says more than that the elements are too far off; the findings have other reasons.
        if has_details or (verdict["outcome"] == "fail" and not has_named_bug(verdict)):
            blocks.append(Paragraph(verdict["reason"], Heading("reason")))
        blocks += build_worst_element_table(verdict["worst"], has_details=has_details)
    blocks += _build_kink_table(verdict["kinks"])
    blocks += build_direction_table(verdict.get("directions", []), has_details=has_details)
    if "missed" in verdict and (blocks or is_directional(verdict)):
        blocks.append(Paragraph(_describe_miss_probability(verdict["missed"], verdict), Heading("not looked at")))
    return blocks


def _make_comparison_columns(position: Column) -> tuple[Column, ...]:
    return (
        position, Column("route", is_text=True, drop_rank=3), Column("judged"), Column("finite difference"),
        Column("error bound", drop_rank=4), Column("allowed", drop_rank=1), Column("ratio"),
        Column("outcome", is_text=True, drop_rank=2),
    )  # fmt: skip


def build_worst_element_table(elements: Sequence[WorstElement], *, has_details: bool = False) -> Iterator[Table]:
    """Build a row for each of the worst elements: three, or with details all of the report."""
    rows = [
        (
            number_format.format_index(element["index"]),
            element["route"],
            number_format.format_value(element["judged"]),
            number_format.format_value(element["reference"]),
            number_format.format_magnitude(element["error_bound"]),
            number_format.format_magnitude(element["allowed"]),
            number_format.format_ratio(element["ratio"]),
            element["outcome"],
        )
        for element in (elements if has_details else elements[:_MAX_WORST])
    ]
    if rows:
        yield _merge_routes(_make_comparison_columns(Column("index", is_text=True)), rows, "worst elements")


def _merge_routes(columns: Sequence[Column], rows: Sequence[tuple[str, ...]], title: str) -> Table:
    """Name the route in the heading where all rows have the same."""
    position = [column.head for column in columns].index("route")
    routes = {row[position] for row in rows}
    if len(routes) > 1:
        return Table(columns, rows, Heading(title))
    table = Table(columns, rows, Heading(f"{title} of the {routes.pop()} gradient"))
    return table.without_columns(frozenset((position,)))


def build_direction_table(
    directions: Sequence[DirectionReport | JudgedDirection], *, has_details: bool = False
) -> Iterator[Block]:
    """Build a row for each of the worst three random directions; with details, for the first twenty."""
    ranked_directions = list(enumerate(directions))
    if not has_details:
        # NaN sorts before every ratio, as in the worst elements.
        ranked_directions.sort(key=lambda pair: (pair[1]["outcome"] != "fail", -_rank_direction(pair[1])))
    rows = [
        (
            str(number),
            direction["route"],
            number_format.format_value(direction["judged"]),
            number_format.format_value(direction["reference"]),
            number_format.format_magnitude(direction["error_bound"]),
            number_format.format_magnitude(direction["allowed"]),
            number_format.format_ratio(compute_direction_ratio(direction)),
            direction["outcome"],
        )
        for number, direction in ranked_directions[: MAX_DIRECTIONS if has_details else _MAX_WORST]
    ]
    if rows:
        columns = _make_comparison_columns(Column("direction"))
        yield _merge_routes(columns, rows, "random directions" if has_details else "worst random directions")
        if has_details:
            yield from _describe_omitted_rows(len(rows), len(directions), "direction")


def _rank_direction(direction: DirectionReport | JudgedDirection) -> float:
    ratio = compute_direction_ratio(direction)
    return float("inf") if ratio == "NaN" else float(ratio)


def _build_kink_table(kinks: Sequence[Kink]) -> Iterator[Block]:
    rows = [
        (
            number_format.format_index(kink["index"]),
            number_format.format_value(kink["left"]),
            number_format.format_value(kink["right"]),
        )
        for kink in kinks[:MAX_KINKS]
    ]
    if rows:
        columns = Column("index", is_text=True), Column("derivative from the left"), Column("from the right")
        yield Table(columns, rows, Heading("kinks, where either one-sided derivative is accepted"))
        yield from _describe_omitted_rows(len(rows), len(kinks), "kink")


def _describe_omitted_rows(shown_count: int, count: int, noun: str) -> Iterator[Paragraph]:
    if shown_count < count:
        yield Paragraph(f"The first {shown_count} of {number_format.format_count(count, noun)}.")


def _describe_miss_probability(missed: MissedInSample | MissedAlong, verdict: Verdict) -> str:
    probability = number_format.format_probability(missed["probability"])
    if "wrong_elements" in missed:
        wrong_count, elements = (
            number_format.format_count(missed["wrong_elements"], "wrong element"),
            verdict["elements"],
        )
        unexamined = f"{elements['not_examined']} of {number_format.format_count(elements['total'], 'element')}"
        return f"{unexamined}; {wrong_count} would be missed with probability {probability}."
    if missed["relative_l2"] == "Infinity":
        return "any single element; no error is sure to be found along these directions."
    error = f"an error of {number_format.format_rounded_up(missed['relative_l2'])} of the gradient's norm"
    return f"any single element; {error} would be missed with probability {probability}."
