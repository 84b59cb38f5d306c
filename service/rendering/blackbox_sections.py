"""A judgement by losses, in the order in which a reader wants it."""

from collections.abc import Iterator

from schemas.outputs import JudgedProduct
from schemas.plan import FurtherPoints, JudgedVerdict, JudgeReport, Taylor
from service.rendering import number_format
from service.rendering.detail_sections import build_direction_table, build_worst_element_table, limit_sections
from service.rendering.document import Block, Column, DisplayName, Heading, Paragraph, Section, Table
from service.rendering.finding_sections import build_finding_section, has_named_bug
from service.rendering.output_sections import (
    build_derivative_section,
    build_dot_test_section,
    build_product_row,
    split_name,
)
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


def build_judgement_sections(report: JudgeReport | FurtherPoints, *, has_details: bool = False) -> Iterator[Section]:
    """Build the sections of a judgement by losses, or by the values of outputs."""
    if report["outcome"] == "more":
        yield Section(Heading(), [Paragraph(report["summary"].removeprefix("more: "))])
        return
    summary = report["summary"].removeprefix(f"{report['outcome']}: ")
    function = "outputs" if "outputs" in report else "loss"
    yield Section(
        Heading(), [Paragraph(summary), Paragraph(_describe_noise(report), Heading(f"noise of the {function}"))]
    )
    if report["verdicts"] and (has_details or report["outcome"] != "pass"):
        yield from build_finding_section(report)
        yield _build_verdict_section(report)
        names = [
            name for name in sort_by_outcome(report) if has_details or report["verdicts"][name]["outcome"] != "pass"
        ]
        yield from limit_sections(
            [_build_detail_section(name, report["verdicts"][name], has_details=has_details) for name in names]
        )
    yield from build_dot_test_section(report, has_details=has_details)
    yield from build_derivative_section(report, has_details=has_details)


def _build_detail_section(name: str, verdict: JudgedVerdict | JudgedProduct, *, has_details: bool) -> Section:
    blocks = [*_build_details(verdict, has_details=has_details)]
    if "directions" not in verdict and "/" not in name:
        blocks.append(Paragraph("the direction, then that of the output", Heading("index")))
    return Section(Heading(verdict["outcome"], (DisplayName(name),)), blocks)


def _describe_noise(report: JudgeReport) -> str:
    size = number_format.format_magnitude(report["noise"])
    evaluations = number_format.format_count(report["evaluations"], "evaluation")
    repeat_note = "repeatable" if report["deterministic"] else "not quite repeatable at one point"
    return f"{size} (standard deviation); {evaluations}, {repeat_note}"


def _build_verdict_section(report: JudgeReport) -> Section:
    has_outputs = "outputs" in report
    columns = (
        *(Column(head, is_text=True) for head in (("output", "tensor") if has_outputs else ("name",))),
        Column("outcome", is_text=True), Column("elements"), Column("directions"),
        Column("pass"), Column("fail"), Column("inconclusive"), Column("worst ratio"), Column("detects"),
    )  # fmt: skip
    rows = [
        (*(split_name(name) if has_outputs else (DisplayName(name),)), *_build_row(report["verdicts"][name]))
        for name in sort_by_outcome(report)
    ]
    return build_table_section(Table(columns, rows), _LEGENDS)


def _build_row(verdict: JudgedVerdict | JudgedProduct) -> tuple[str, ...]:
    if "directions" not in verdict:
        return build_product_row(verdict)
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


def _build_details(verdict: JudgedVerdict | JudgedProduct, *, has_details: bool) -> Iterator[Block]:
    if verdict["outcome"] != "pass":
        if has_details or (verdict["outcome"] == "fail" and not has_named_bug(verdict)):
            yield Paragraph(verdict["reason"], Heading("reason"))
        if "taylor" in verdict:
            yield Paragraph(_describe_remainder(verdict["taylor"]), Heading("Taylor remainder"))
        yield from build_worst_element_table(verdict["worst"], has_details=has_details)
    # The table of the worst elements has the directions of single elements.
    random = [direction for direction in verdict.get("directions", []) if "index" not in direction]
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


def _format_miss_probability(verdict: JudgedVerdict | JudgedProduct) -> str:
    missed, elements = verdict["missed"], verdict["elements"]
    parts: list[str] = []
    if "single_element" in missed:
        single = missed["single_element"]
        parts.append(
            f"one element off by {number_format.format_magnitude(single['relative_error'])} of itself with probability "
            f"{number_format.format_probability(single['probability'])}"
        )
    if "relative_l2" in missed:
        if missed["relative_l2"] == "Infinity":
            return f"{'; '.join([*parts, 'no error is sure to be found along these directions'])}."
        size = number_format.format_magnitude(missed["relative_l2"])
        probability = number_format.format_probability(missed["probability"])
        parts.append(f"an error of {size} of the gradient's norm with probability {probability} at most")
    elif elements["not_examined"]:
        total = number_format.format_count(elements["total"], "element")
        parts.append(f"{elements['not_examined']} of {total} not looked at")
    return f"{'; '.join(parts) or 'every element was looked at'}."
