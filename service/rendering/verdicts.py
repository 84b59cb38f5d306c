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
from service.rendering import figures
from service.rendering.document import Block, Column, Heading, Name, Said, Section, Table

MAX_NAMES = 20
"""So many names are told of at length; of hundreds that fail, nobody reads more."""
MAX_KINKS = 5
MAX_DIRECTIONS = 20

_OUTCOMES = ("fail", "inconclusive", "pass")
_MISSED = "; missed: the probability that a wrong element, or so small an error along directions, was missed"
_NEGLIGIBLE = "; negligible: elements that pass, but are too small beside the largest for an error to be found for sure"
_LEGEND = (
    "worst ratio: the worst distance from the finite difference, over what is allowed; detects: the smallest relative "
    "error that would have been found; max_rel: the largest relative distance from the finite difference"
)


def by_outcome(report: CheckReport | JudgeReport) -> list[str]:
    """Names, those that fail first, then as they came."""
    verdicts = report["verdicts"]
    return sorted(verdicts, key=lambda name: _OUTCOMES.index(verdicts[name]["outcome"]))


def judged(report: CheckReport) -> Iterator[Section]:
    """One row for each name."""
    verdicts, discrepancies = report["verdicts"], report["discrepancies"]
    columns = [
        Column("name", words=True), Column("outcome", words=True), Column("pass"), Column("fail"),
        Column("inconclusive"), Column("not examined"), Column("worst ratio"), Column("max_rel"), Column("detects"),
    ]  # fmt: skip
    rows = [[Name(name), *_row(verdicts[name], discrepancies[name])] for name in by_outcome(report)]
    legend = _LEGEND
    if any(each["elements"]["negligible"] for each in verdicts.values()):
        columns.insert(3, Column("negligible"))
        legend += _NEGLIGIBLE
        for row, name in zip(rows, by_outcome(report), strict=True):
            row.insert(3, str(verdicts[name]["elements"]["negligible"]))
    if any("missed" in each for each in verdicts.values()):
        columns.append(Column("missed"))
        legend += _MISSED
        for row, name in zip(rows, by_outcome(report), strict=True):
            row.append(_probability(verdicts[name]))
    yield Section(Heading("Verdicts"), [Table(columns, rows), Said(f"{legend}.")])


def _row(verdict: Verdict, discrepancies: Discrepancies) -> tuple[str, ...]:
    elements, detects = verdict["elements"], verdict["smallest_detectable_error"]
    counts = (elements["pass"], elements["fail"], elements["inconclusive"], elements["not_examined"])
    return (
        verdict["outcome"],
        *map(str, counts),
        _worst_ratio(verdict),
        _max_rel(verdict, discrepancies),
        "nothing" if detects == "Infinity" else figures.at_least(detects),
    )


def _probability(verdict: Verdict) -> str:
    return figures.probability(verdict["missed"]["probability"]) if "missed" in verdict else "-"


def _worst_ratio(verdict: Verdict) -> str:
    if directions := verdict.get("directions"):
        return figures.ratio(figures.largest([direction_ratio(each) for each in directions]))
    return figures.ratio(verdict["worst"][0]["ratio"]) if verdict["worst"] else "-"


def direction_ratio(direction: DirectionReport | JudgedDirection) -> Number:
    """How many times over what is allowed it is off."""
    return figures.apart(direction["judged"], direction["reference"], direction["allowed"])


def _max_rel(verdict: Verdict, discrepancies: Discrepancies) -> str:
    """Of what was judged; of a candidate of another shape there is none."""
    if "candidate_vs_finite_difference" in discrepancies:
        return figures.size(discrepancies["candidate_vs_finite_difference"]["max_rel"])
    if not verdict["worst"] and not verdict.get("directions"):
        return "-"
    own = discrepancies["analytic_vs_finite_difference"], discrepancies["autograd_vs_finite_difference"]
    return figures.size(figures.largest([each["max_rel"] for each in own]))


def at_length(report: CheckReport) -> Iterator[Section]:
    """A section for each name of which more is to be said than a row holds."""
    told = [
        Section(Heading(verdict["outcome"], Name(name)), blocks)
        for name, verdict in ((name, report["verdicts"][name]) for name in by_outcome(report))
        if (blocks := _told(verdict))
    ]
    yield from told[:MAX_NAMES]
    if more := told[MAX_NAMES:]:
        count = figures.counted(len(more), "name")
        yield Section(Heading(), [Said(f"Of {count} more there is as much to say; the JSON report does.")])


def _told(verdict: Verdict) -> list[Block]:
    """What there is beside the row of a name: nothing, of an ordinary pass."""
    blocks: list[Block] = []
    if verdict["outcome"] != "pass":
        blocks.append(Said(verdict["reason"], Heading("reason")))
        blocks += probable_bugs(verdict["diagnoses"])
        blocks += worst_elements(verdict["worst"])
    blocks += _kinks(verdict["kinks"])
    blocks += along_directions(verdict.get("directions", []))
    if blocks and "missed" in verdict:
        blocks.append(Said(_missed(verdict["missed"], verdict), Heading("not looked at")))
    return blocks


def probable_bugs(diagnoses: Sequence[Diagnosis]) -> Iterator[Said]:
    """A sentence for each."""
    for each in diagnoses:
        yield Said(f"{each['name']} \N{EM DASH} {each['explanation']}", Heading("probable bug"))


def _compared(*before: Column) -> tuple[Column, ...]:
    return (
        *before, Column("route", words=True), Column("judged"), Column("finite difference"), Column("error bound"),
        Column("allowed"), Column("ratio"), Column("outcome", words=True),
    )  # fmt: skip


def worst_elements(elements: Sequence[WorstElement]) -> Iterator[Table]:
    """A row for each of the worst."""
    rows = [
        (
            figures.index(each["index"]),
            each["route"],
            figures.value(each["judged"]),
            figures.value(each["reference"]),
            figures.size(each["error_bound"]),
            figures.size(each["allowed"]),
            figures.ratio(each["ratio"]),
            each["outcome"],
        )
        for each in elements
    ]
    if rows:
        yield Table(_compared(Column("index", words=True)), rows, Heading("worst elements"))


def along_directions(directions: Sequence[DirectionReport | JudgedDirection]) -> Iterator[Block]:
    """A row for each of the first random directions."""
    rows = [
        (
            str(number),
            each["route"],
            figures.value(each["judged"]),
            figures.value(each["reference"]),
            figures.size(each["error_bound"]),
            figures.size(each["allowed"]),
            figures.ratio(direction_ratio(each)),
            each["outcome"],
        )
        for number, each in enumerate(directions[:MAX_DIRECTIONS])
    ]
    if rows:
        yield Table(_compared(Column("direction")), rows, Heading("random directions"))
        yield from _of_all(len(rows), len(directions), "direction")


def _kinks(kinks: Sequence[Kink]) -> Iterator[Block]:
    rows = [
        (figures.index(each["index"]), figures.value(each["left"]), figures.value(each["right"]))
        for each in kinks[:MAX_KINKS]
    ]
    if rows:
        columns = Column("index", words=True), Column("derivative from the left"), Column("from the right")
        yield Table(columns, rows, Heading("kinks, where either one-sided derivative is accepted"))
        yield from _of_all(len(rows), len(kinks), "kink")


def _of_all(shown: int, count: int, noun: str) -> Iterator[Said]:
    if shown < count:
        yield Said(f"The first {shown} of {figures.counted(count, noun)}.")


def _missed(missed: MissedInSample | MissedAlong, verdict: Verdict) -> str:
    if "wrong_elements" in missed:
        wrong, elements = figures.counted(missed["wrong_elements"], "wrong element"), verdict["elements"]
        left = f"{elements['not_examined']} of {figures.counted(elements['total'], 'element')}"
        return f"{left}; {wrong} would be missed with probability {figures.probability(missed['probability'])}."
    if missed["relative_l2"] == "Infinity":
        return "any single element; no error is sure to be found along these directions."
    error = f"an error of {figures.at_least(missed['relative_l2'])} of the gradient's norm"
    return f"any single element; {error} would be missed with probability {figures.probability(missed['probability'])}."
