"""The page: verdict first, then each name at length, those that fail before the others."""

from collections.abc import Iterator
from importlib.resources import files

from gradcheckd.findings import Outcome, Verdict
from gradcheckd.page import figures, tables
from gradcheckd.page.maps import maps
from gradcheckd.page.markup import Markup, element, joined
from gradcheckd.report import BlackBoxReport, Report

Either = Report | BlackBoxReport
_MOST_NAMES = 20
_ORDER: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
_SIGNS = {"pass": "\N{HEAVY CHECK MARK}", "fail": "\N{HEAVY BALLOT X}", "inconclusive": "?"}
# Nothing is loaded and nothing runs, whatever a name of the request may hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Either) -> str:
    """Write a report as one file of HTML."""
    style = (files("gradcheckd.page") / "style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"gradcheckd: {report.outcome}"),
        element("style", Markup(style)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', *_body(report)), lang='en')}\n"


def _body(report: Either) -> Iterator[Markup]:
    title = element("h1", "gradcheckd ", badge(report.outcome))
    facts = element("ul", *(element("li", each) for each in _facts(report)), class_="facts")
    yield element("header", title, element("p", report.summary, class_="summary"), facts)
    names = sorted(report.verdicts, key=lambda name: _ORDER.index(report.verdicts[name].outcome))
    sections = [_at_length(name, report) for name in names[:_MOST_NAMES]]
    if more := len(names) - _MOST_NAMES:
        sections += [element("p", f"{figures.counted(more, 'name')} more in the JSON report.")] if more > 0 else []
    verdicts = element("section", element("h2", "Verdicts"), tables.verdicts(names, report.verdicts))
    yield element("main", verdicts, *sections, *_further(report, names))


def badge(outcome: Outcome) -> Markup:
    """An outcome, told by colour, by sign and by word."""
    return element("span", f"{_SIGNS[outcome]} {outcome}", class_=f"badge {outcome}")


def _facts(report: Either) -> Iterator[str]:
    if isinstance(report, BlackBoxReport):
        yield f"noise of the loss {figures.told(report.noise, 2)}"
        yield f"{figures.counted(report.evaluations, 'evaluation')} of the loss"
        return
    yield f"loss {report.loss.analytic!r} (analytic), {report.loss.autograd!r} (autograd)"
    cost = report.raw["cost"]
    yield f"{figures.counted(cost['loss_evaluations'], 'loss evaluation')} in {1000 * cost['seconds']:.0f} ms"


def _at_length(name: str, report: Either) -> Markup:
    verdict = report.verdicts[name]
    heading = element("h2", element("code", name), " ", badge(verdict.outcome))
    return element("section", heading, *_told(verdict), _drawn(name, report, verdict))


def _told(verdict: Verdict) -> Iterator[Markup]:
    yield element("p", verdict.reason, class_="reason")
    if verdict.diagnoses:
        bugs = (
            element("li", element("code", each.name), f" \N{EM DASH} {each.explanation}") for each in verdict.diagnoses
        )
        yield element("div", element("h3", "Probable bug"), element("ul", *bugs), class_="bug")
    if verdict.worst and verdict.outcome != "pass":
        yield tables.judged("Worst elements", verdict.worst)
    if along := [each for each in verdict.directions if each.index is None]:
        yield tables.judged("Random directions", along)
    if verdict.kinks:
        yield tables.kinks(verdict.kinks)
    if verdict.taylor is not None and verdict.outcome != "pass":
        yield tables.remainder(verdict.taylor)


def _drawn(name: str, report: Either, verdict: Verdict) -> Markup | None:
    if isinstance(report, BlackBoxReport) or name not in report.gradients:
        return None
    return joined(element("h3", "Gradients"), maps(name, report.gradients[name], verdict))


def _further(report: Either, names: list[str]) -> Iterator[Markup]:
    if isinstance(report, BlackBoxReport):
        return
    yield tables.folded("Discrepancies", tables.discrepancies(names[:_MOST_NAMES], report.discrepancies))
    yield tables.folded("Model", tables.model(report.raw["model"]["nodes"]))
