"""A judgement by losses, in the order in which a reader wants it."""

from collections.abc import Iterator

from schemas.plan import JudgedVerdict, JudgeReport, Taylor
from service.rendering import number_format
from service.rendering.document import Block, Column, DisplayName, Heading, Paragraph, Section, Table
from service.rendering.verdict_sections import (
    MAX_NAMES,
    build_direction_table,
    build_worst_element_table,
    compute_direction_ratio,
    list_probable_bugs,
    sort_by_outcome,
)

_LEGEND = (
    "directions: along which the loss was differenced, single elements or random ones of the whole tensor; worst "
    "ratio: the worst distance from the finite difference, over what is allowed; detects: the smallest relative error "
    "that would have been found, of random directions that of the norm."
)


_FACTOR_MEANINGS = {
    "0.0": "candidate and derivative are 0 along it",
    "NaN": "the candidate is no number along it",
}


def build_judgement_sections(report: JudgeReport) -> Iterator[Section]:
    """All that there is to say."""
    yield Section(Heading(), [Paragraph(report["summary"])])
    yield Section(Heading(), [Paragraph(_describe_noise(report), Heading("noise of the loss"))])
    yield _build_verdict_section(report)
    names = sort_by_outcome(report)
    for name in names[:MAX_NAMES]:
        verdict = report["verdicts"][name]
        yield Section(Heading(verdict["outcome"], DisplayName(name)), [*_build_details(verdict)])
    if more := names[MAX_NAMES:]:
        count = number_format.format_count(len(more), "name")
        yield Section(Heading(), [Paragraph(f"Of {count} more there is as much to say; the JSON report does.")])


def _describe_noise(report: JudgeReport) -> str:
    size, evaluations = (
        number_format.format_magnitude(report["noise"]),
        number_format.format_count(report["evaluations"], "evaluation"),
    )
    repeated = "the same" if report["deterministic"] else "not quite the same"
    return f"{size} (standard deviation of one of {evaluations}); at one point it was {repeated} each time"


def _build_verdict_section(report: JudgeReport) -> Section:
    columns = (
        Column("name", is_text=True), Column("outcome", is_text=True), Column("elements"), Column("directions"),
        Column("pass"), Column("fail"), Column("inconclusive"), Column("worst ratio"), Column("detects"),
    )  # fmt: skip
    rows = [(DisplayName(name), *_build_row(report["verdicts"][name])) for name in sort_by_outcome(report)]
    return Section(Heading("Verdicts"), [Table(columns, rows), Paragraph(_LEGEND)])


def _build_row(verdict: JudgedVerdict) -> tuple[str, ...]:
    directions, detects = verdict["directions"], verdict["smallest_detectable_error"]
    outcomes = [each["outcome"] for each in directions]
    return (
        verdict["outcome"],
        str(verdict["elements"]["total"]),
        str(len(directions)),
        *(str(outcomes.count(outcome)) for outcome in ("pass", "fail", "inconclusive")),
        number_format.format_ratio(number_format.find_largest([compute_direction_ratio(each) for each in directions])),
        "nothing" if detects == "Infinity" else number_format.format_rounded_up(detects),
    )


def _build_details(verdict: JudgedVerdict) -> Iterator[Block]:
    if verdict["outcome"] != "pass":
        yield Paragraph(verdict["reason"], Heading("reason"))
        yield from list_probable_bugs(verdict["diagnoses"])
        yield Paragraph(_describe_remainder(verdict["taylor"]), Heading("Taylor remainder"))
        yield from build_worst_element_table(verdict["worst"])
    # Of single elements the worst say as much.
    yield from build_direction_table([each for each in verdict["directions"] if "index" not in each])
    yield Paragraph(_format_miss_probability(verdict), Heading("missed"))


def _describe_remainder(taylor: Taylor) -> str:
    slope = number_format.format_ratio(taylor["slope"])
    power = "is below the noise" if slope == "NaN" else f"grows with the step to the power of {slope}"
    return (
        f"along direction {taylor['direction']} it {power} (2 of a right gradient, 1 of a wrong one); "
        f"{_describe_factor(taylor)}."
    )


def _describe_factor(taylor: Taylor) -> str:
    """What the candidate is to the derivative; of what is not a number there is a word instead."""
    if taylor["factor"] == "NaN":
        return _FACTOR_MEANINGS.get(str(taylor["intercept"]), "the candidate is 0 along it, and the derivative is not")
    intercept, factor = (number_format.format_ratio(taylor[part]) for part in ("intercept", "factor"))
    # What is off by little is told by how much it is off alone.
    times = "" if factor == "1" else f"the derivative is {factor} times the candidate's, and "
    return f"{times}the candidate is off by {intercept} of itself"


def _format_miss_probability(verdict: JudgedVerdict) -> str:
    missed, elements = verdict["missed"], verdict["elements"]
    single = missed["single_element"]
    text = (
        f"one element off by {number_format.format_magnitude(single['relative_error'])} of itself with probability "
        f"{number_format.format_probability(single['probability'])}"
    )
    if "relative_l2" in missed:
        if missed["relative_l2"] == "Infinity":
            return f"{text}; no error is sure to be found along these directions."
        error = f"an error of {number_format.format_magnitude(missed['relative_l2'])} of the gradient's norm"
        return f"{text}; {error} with probability {number_format.format_probability(missed['probability'])} at most."
    left = f"; {elements['not_examined']} of {number_format.format_count(elements['total'], 'element')} not looked at"
    return f"{text}{left if elements['not_examined'] else ''}."
