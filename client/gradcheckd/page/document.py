"""The page: outcome, verdicts, and for each name why, the probable bug, heat maps and elements."""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files

from gradcheckd.findings import Diagnosis, Judged, Verdict
from gradcheckd.page import figures, tables
from gradcheckd.page.maps import maps
from gradcheckd.page.markup import Markup, element, joined
from gradcheckd.report import BlackBoxReport, Report

_ORDER = ("fail", "inconclusive", "pass")
_SIGNS = {"pass": "\N{CHECK MARK}", "fail": "\N{MULTIPLICATION X}"}
_MAPS = 20
"""Names whose heat maps are drawn; those that are not right come first."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Report | BlackBoxReport) -> str:
    """Write a report as one file of HTML: no script, nothing from elsewhere."""
    names = sorted(report.verdicts, key=lambda name: _ORDER.index(report.verdicts[name].outcome))
    body = element("main", _top(report), tables.verdicts(names, report.verdicts), *_names(report, names), _rest(report))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{report.outcome} \N{EN DASH} gradcheckd"),
        element("style", _style()),
    )
    return f"<!doctype html>\n{element('html', head, element('body', body), lang='en')}\n"


def _style() -> Markup:
    return Markup(files("gradcheckd.page").joinpath("page.css").read_text(encoding="utf-8"))


def _top(report: Report | BlackBoxReport) -> Markup:
    facts = _facts(report)
    # The outcome is said beside it.
    summary = report.summary.removeprefix(f"{report.outcome}: ")
    return element(
        "header",
        element("p", "gradcheckd, a second opinion for gradients", class_="quiet"),
        element("h1", badge(report.outcome), " ", element("span", *_coded(summary), class_="summary")),
        element("p", facts, class_="quiet"),
    )


def badge(outcome: str) -> Markup:
    """An outcome, told by its word and its sign as well as by its colour."""
    return element("span", f"{_SIGNS.get(outcome, '?')} {outcome}", class_=f"badge {outcome}")


def _facts(report: Report | BlackBoxReport) -> str:
    if isinstance(report, Report):
        return f"loss {figures.told(report.loss.analytic, 17)} (by autograd {figures.told(report.loss.autograd, 17)})"
    same = "the same" if report.deterministic else "not quite the same"
    evaluations = figures.counted(report.evaluations, "evaluation")
    return f"noise of the loss {figures.told(report.noise, 2)}, of {evaluations}; at one point it was {same} each time"


def _names(report: Report | BlackBoxReport, names: list[str]) -> Iterator[Markup]:
    for position, name in enumerate(names):
        verdict = report.verdicts[name]
        title = element("h2", element("code", name), " ", badge(verdict.outcome))
        drawn = _drawn(report, name, verdict) if position < _MAPS else None
        yield element("section", title, *_why(verdict), drawn, *_elements(verdict))


def _why(verdict: Verdict) -> Iterator[Markup]:
    if verdict.outcome != "pass":
        yield element("p", *_coded(verdict.reason))
    if verdict.diagnoses:
        yield element("h3", "Probable bug" if len(verdict.diagnoses) == 1 else "Probable bugs")
        yield element("ul", *map(_bug, verdict.diagnoses), class_="bugs")


def _bug(diagnosis: Diagnosis) -> Markup:
    # What is no bug of the catalogue fits nothing.
    known = diagnosis.name != "unknown"
    fit = element("span", f" fits to {figures.told(diagnosis.fit, 4)}", class_="quiet") if known else None
    return element("li", element("code", diagnosis.name), fit, element("br"), *_coded(diagnosis.explanation))


def _coded(text: str) -> Iterator[str]:
    """What stands between backticks as code."""
    for number, part in enumerate(re.split("`", text)):
        yield element("code", part) if number % 2 else part


def _drawn(report: Report | BlackBoxReport, name: str, verdict: Verdict) -> Markup | None:
    gradient = report.gradients.get(name) if isinstance(report, Report) else None
    return None if gradient is None or not gradient.analytic.size else maps(name, gradient, verdict)


def _elements(verdict: Verdict) -> Iterator[Markup]:
    if verdict.worst:
        yield _open_if(verdict, "Worst elements", verdict.worst)
    if along := [each for each in verdict.directions if each.index is None]:
        yield _open_if(verdict, "Random directions", along)
    if verdict.kinks:
        yield tables.folded(figures.counted(len(verdict.kinks), "kink"), tables.kinks(verdict.kinks))
    if verdict.taylor is not None:
        yield tables.folded("Taylor remainder", tables.remainder(verdict.taylor))


def _open_if(verdict: Verdict, title: str, found: Sequence[Judged]) -> Markup:
    """At once where something is wrong, and where all is right to be unfolded."""
    if verdict.outcome == "pass":
        return tables.folded(title, tables.judged(title, found))
    return joined(element("h3", title), tables.judged(title, found))


def _rest(report: Report | BlackBoxReport) -> Markup | None:
    if isinstance(report, BlackBoxReport):
        return None
    nodes: list[Mapping[str, object]] = report.raw["model"]["nodes"]
    return joined(
        tables.folded("Discrepancies", tables.discrepancies(list(report.discrepancies), report.discrepancies)),
        tables.folded("The model", tables.model(nodes)),
    )
