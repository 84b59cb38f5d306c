"""A judgement by losses, in the order in which a reader wants it."""

from collections.abc import Iterator

from schemas.plan import JudgedVerdict, JudgeReport, Taylor
from service.rendering import figures
from service.rendering.document import Block, Column, Heading, Name, Said, Section, Table
from service.rendering.verdicts import (
    MAX_NAMES,
    along_directions,
    by_outcome,
    direction_ratio,
    probable_bugs,
    worst_elements,
)

_LEGEND = (
    "directions: along which the loss was differenced, single elements or random ones of the whole tensor; worst "
    "ratio: the worst distance from the finite difference, over what is allowed; detects: the smallest relative error "
    "that would have been found, of random directions that of the norm."
)


_NO_FACTOR = {
    "0.0": "candidate and derivative are 0 along it",
    "NaN": "the candidate is no number along it",
}


def judgement(report: JudgeReport) -> Iterator[Section]:
    """All that there is to say."""
    yield Section(Heading(), [Said(report["summary"])])
    yield Section(Heading(), [Said(_noise(report), Heading("noise of the loss"))])
    yield _judged(report)
    names = by_outcome(report)
    for name in names[:MAX_NAMES]:
        verdict = report["verdicts"][name]
        yield Section(Heading(verdict["outcome"], Name(name)), [*_told(verdict)])
    if more := names[MAX_NAMES:]:
        count = figures.counted(len(more), "name")
        yield Section(Heading(), [Said(f"Of {count} more there is as much to say; the JSON report does.")])


def _noise(report: JudgeReport) -> str:
    size, evaluations = figures.size(report["noise"]), figures.counted(report["evaluations"], "evaluation")
    repeated = "the same" if report["deterministic"] else "not quite the same"
    return f"{size} (standard deviation of one of {evaluations}); at one point it was {repeated} each time"


def _judged(report: JudgeReport) -> Section:
    columns = (
        Column("name", words=True), Column("outcome", words=True), Column("elements"), Column("directions"),
        Column("pass"), Column("fail"), Column("inconclusive"), Column("worst ratio"), Column("detects"),
    )  # fmt: skip
    rows = [(Name(name), *_row(report["verdicts"][name])) for name in by_outcome(report)]
    return Section(Heading("Verdicts"), [Table(columns, rows), Said(_LEGEND)])


def _row(verdict: JudgedVerdict) -> tuple[str, ...]:
    directions, detects = verdict["directions"], verdict["smallest_detectable_error"]
    outcomes = [each["outcome"] for each in directions]
    return (
        verdict["outcome"],
        str(verdict["elements"]["total"]),
        str(len(directions)),
        *(str(outcomes.count(outcome)) for outcome in ("pass", "fail", "inconclusive")),
        figures.ratio(figures.largest([direction_ratio(each) for each in directions])),
        "nothing" if detects == "Infinity" else figures.at_least(detects),
    )


def _told(verdict: JudgedVerdict) -> Iterator[Block]:
    if verdict["outcome"] != "pass":
        yield Said(verdict["reason"], Heading("reason"))
        yield from probable_bugs(verdict["diagnoses"])
        yield Said(_remainder(verdict["taylor"]), Heading("Taylor remainder"))
        yield from worst_elements(verdict["worst"])
    # Of single elements the worst say as much.
    yield from along_directions([each for each in verdict["directions"] if "index" not in each])
    yield Said(_missed(verdict), Heading("missed"))


def _remainder(taylor: Taylor) -> str:
    slope = figures.ratio(taylor["slope"])
    power = "is below the noise" if slope == "NaN" else f"grows with the step to the power of {slope}"
    return (
        f"along direction {taylor['direction']} it {power} (2 of a right gradient, 1 of a wrong one); "
        f"{_compared(taylor)}."
    )


def _compared(taylor: Taylor) -> str:
    """What the candidate is to the derivative; of what is not a number there is a word instead."""
    if taylor["factor"] == "NaN":
        return _NO_FACTOR.get(str(taylor["intercept"]), "the candidate is 0 along it, and the derivative is not")
    intercept, factor = (figures.ratio(taylor[part]) for part in ("intercept", "factor"))
    # What is off by little is told by how much it is off alone.
    times = "" if factor == "1" else f"the derivative is {factor} times the candidate's, and "
    return f"{times}the candidate is off by {intercept} of itself"


def _missed(verdict: JudgedVerdict) -> str:
    missed, elements = verdict["missed"], verdict["elements"]
    single = missed["single_element"]
    text = (
        f"one element off by {figures.size(single['relative_error'])} of itself with probability "
        f"{figures.probability(single['probability'])}"
    )
    if "relative_l2" in missed:
        if missed["relative_l2"] == "Infinity":
            return f"{text}; no error is sure to be found along these directions."
        error = f"an error of {figures.size(missed['relative_l2'])} of the gradient's norm"
        return f"{text}; {error} with probability {figures.probability(missed['probability'])} at most."
    left = f"; {elements['not_examined']} of {figures.counted(elements['total'], 'element')} not looked at"
    return f"{text}{left if elements['not_examined'] else ''}."
