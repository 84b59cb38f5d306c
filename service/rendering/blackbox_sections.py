"""A judgement by losses, in the order in which a reader wants it."""

from collections.abc import Iterator

from schemas.plan import JudgedVerdict, JudgeReport, Taylor
from service.rendering import number_format
from service.rendering.detail_sections import build_direction_table, build_worst_element_table, limit_sections
from service.rendering.document import Block, Column, DisplayName, Heading, Paragraph, Section, Table
from service.rendering.finding_sections import build_finding_section, has_named_bug
from service.rendering.verdict_sections import (
    build_table_section,
    format_detectable_error,
    format_worst_direction_ratio,
    sort_by_outcome,
)

_LEGENDS = {
    "directions": "single elements, or random directions of the whole tensor, along which the loss was differenced",
    "worst ratio": "the largest error, over the allowed error",
    "detects": "the smallest relative error that would have been found, along random directions that of the norm",
}
_FACTOR_MEANINGS = {
    "0.0": "candidate and derivative are 0 along it",
    "NaN": "the candidate is no number along it",
}


def build_judgement_sections(report: JudgeReport, *, has_details: bool = False) -> Iterator[Section]:
    """Build the sections of a judgement by losses."""
    summary = report["summary"].removeprefix(f"{report['outcome']}: ")
    yield Section(Heading(), [Paragraph(summary), Paragraph(_describe_noise(report), Heading("noise of the loss"))])
    if has_details or report["outcome"] != "pass":
        yield from build_finding_section(report)
        yield _build_verdict_section(report)
        names = [
            name for name in sort_by_outcome(report) if has_details or report["verdicts"][name]["outcome"] != "pass"
        ]
        yield from limit_sections(
            [_build_detail_section(name, report["verdicts"][name], has_details=has_details) for name in names]
        )


def _build_detail_section(name: str, verdict: JudgedVerdict, *, has_details: bool) -> Section:
    blocks = [*_build_details(verdict, has_details=has_details)]
    return Section(Heading(verdict["outcome"], (DisplayName(name),)), blocks)


def _describe_noise(report: JudgeReport) -> str:
    size = number_format.format_magnitude(report["noise"])
    evaluations = number_format.format_count(report["evaluations"], "evaluation")
    repeat_note = "repeatable" if report["deterministic"] else "not quite repeatable at one point"
    return f"{size} (standard deviation); {evaluations}, {repeat_note}"


def _build_verdict_section(report: JudgeReport) -> Section:
    columns = (
        Column("name", is_text=True), Column("outcome", is_text=True), Column("elements"), Column("directions"),
        Column("pass"), Column("fail"), Column("inconclusive"), Column("worst ratio"), Column("detects"),
    )  # fmt: skip
    rows = [(DisplayName(name), *_build_row(report["verdicts"][name])) for name in sort_by_outcome(report)]
    return build_table_section(Table(columns, rows), _LEGENDS)


def _build_row(verdict: JudgedVerdict) -> tuple[str, ...]:
    directions = verdict["directions"]
    outcomes = [direction["outcome"] for direction in directions]
    return (
        verdict["outcome"],
        str(verdict["elements"]["total"]),
        str(len(directions)),
        *(str(outcomes.count(outcome)) for outcome in ("pass", "fail", "inconclusive")),
        format_worst_direction_ratio(directions),
        format_detectable_error(verdict["smallest_detectable_error"]),
    )


def _build_details(verdict: JudgedVerdict, *, has_details: bool) -> Iterator[Block]:
    if verdict["outcome"] != "pass":
        if has_details or (verdict["outcome"] == "fail" and not has_named_bug(verdict)):
            yield Paragraph(verdict["reason"], Heading("reason"))
        yield Paragraph(_describe_remainder(verdict["taylor"]), Heading("Taylor remainder"))
        yield from build_worst_element_table(verdict["worst"], has_details=has_details)
    # The table of the worst elements has the directions of single elements.
    random = [direction for direction in verdict["directions"] if "index" not in direction]
    yield from build_direction_table(random, has_details=has_details)
    yield Paragraph(_format_miss_probability(verdict), Heading("missed"))


def _describe_remainder(taylor: Taylor) -> str:
    slope = number_format.format_ratio(taylor["slope"])
    power = "is below the noise" if slope == "NaN" else f"grows with the step to the power of {slope}"
    return (
        f"along direction {taylor['direction']} it {power} (2 of a right gradient, 1 of a wrong one); "
        f"{_describe_factor(taylor)}."
    )


def _describe_factor(taylor: Taylor) -> str:
    """Compare candidate and derivative; say it in words where the factor is no number."""
    if taylor["factor"] == "NaN":
        return _FACTOR_MEANINGS.get(str(taylor["intercept"]), "the candidate is 0 along it, and the derivative is not")
    intercept, factor = (number_format.format_ratio(taylor[part]) for part in ("intercept", "factor"))
    # A factor of almost 1 says less than the error alone.
    times = "" if factor == "1" else f"the derivative is {factor} times the candidate's, and "
    return f"{times}the candidate is off by {intercept} of itself"


def _format_miss_probability(verdict: JudgedVerdict) -> str:
    missed_report, elements = verdict["missed"], verdict["elements"]
    single = missed_report["single_element"]
    text = (
        f"one element off by {number_format.format_magnitude(single['relative_error'])} of itself with probability "
        f"{number_format.format_probability(single['probability'])}"
    )
    if "relative_l2" in missed_report:
        if missed_report["relative_l2"] == "Infinity":
            return f"{text}; no error is sure to be found along these directions."
        error = f"an error of {number_format.format_magnitude(missed_report['relative_l2'])} of the gradient's norm"
        probability = number_format.format_probability(missed_report["probability"])
        return f"{text}; {error} with probability {probability} at most."
    total = number_format.format_count(elements["total"], "element")
    unexamined = f"; {elements['not_examined']} of {total} not looked at" if elements["not_examined"] else ""
    return f"{text}{unexamined}."
