"""The page: outcome, verdicts, and for each tensor the reason, the probable bug, heat maps and elements."""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files

from gradcheckd.page import number_format, tables
from gradcheckd.page.gradient_maps import render_maps
from gradcheckd.page.markup import Markup, join_markup, make_element
from gradcheckd.report import BlackBoxReport, Report
from gradcheckd.report_parts import Diagnosis, Judged, Verdict

_OUTCOME_ORDER = ("fail", "inconclusive", "pass")
_OUTCOME_SIGNS = {"pass": "\N{CHECK MARK}", "fail": "\N{MULTIPLICATION X}"}
_UNKNOWN_BUG = "unknown"
_MAX_HEATMAP_NAMES = 20
"""Tensors with heat maps; those that do not pass come first."""
_CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render_page(report: Report | BlackBoxReport) -> str:
    """Write a report as one file of HTML: no script, nothing from elsewhere."""
    names = sorted(report.verdicts, key=lambda name: _OUTCOME_ORDER.index(report.verdicts[name].outcome))
    body = make_element(
        "main",
        _render_header(report),
        tables.render_verdicts(names, report.verdicts),
        *_render_names(report, names),
        _render_joint_directions(report),
        _render_remaining_names(report),
    )
    head = make_element(
        "head",
        make_element("meta", charset="utf-8"),
        make_element("meta", http_equiv="Content-Security-Policy", content=_CONTENT_POLICY),
        make_element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        make_element("title", f"{report.outcome} \N{EN DASH} gradcheckd"),
        make_element("style", _read_style()),
    )
    return f"<!doctype html>\n{make_element('html', head, make_element('body', body), lang='en')}\n"


def _read_style() -> Markup:
    return Markup(files("gradcheckd.page").joinpath("page.css").read_text(encoding="utf-8"))


def _render_header(report: Report | BlackBoxReport) -> Markup:
    facts = _format_facts(report)
    # The badge beside it has the outcome.
    summary = report.summary.removeprefix(f"{report.outcome}: ")
    return make_element(
        "header",
        make_element("p", "gradcheckd, a second opinion for gradients", class_="quiet"),
        make_element(
            "h1",
            render_badge(report.outcome),
            " ",
            make_element("span", *_render_code_spans(summary), class_="summary"),
        ),
        make_element("p", facts, class_="quiet"),
    )


def render_badge(outcome: str) -> Markup:
    """Render an outcome by its word and its sign as well as by its colour."""
    return make_element("span", f"{_OUTCOME_SIGNS.get(outcome, '?')} {outcome}", class_=f"badge {outcome}")


def _format_facts(report: Report | BlackBoxReport) -> str:
    if isinstance(report, Report):
        analytic, autograd = (
            number_format.format_number(loss, 17) for loss in (report.loss.analytic, report.loss.autograd)
        )
        return f"loss {analytic} (by autograd {autograd})"
    repeat_note = "the same" if report.deterministic else "not quite the same"
    evaluations = number_format.format_count(report.evaluations, "evaluation")
    noise = number_format.format_number(report.noise, 2)
    return f"noise of the loss {noise}, of {evaluations}; at one point it was {repeat_note} each time"


def _render_names(report: Report | BlackBoxReport, names: list[str]) -> Iterator[Markup]:
    for position, name in enumerate(names):
        verdict = report.verdicts[name]
        title = make_element("h2", make_element("code", name), " ", render_badge(verdict.outcome))
        heatmaps = _render_heatmaps(report, name, verdict) if position < _MAX_HEATMAP_NAMES else None
        yield make_element("section", title, *_render_reasons(verdict), heatmaps, *_render_elements(verdict))


def _render_reasons(verdict: Verdict) -> Iterator[Markup]:
    if verdict.outcome != "pass":
        yield make_element("p", *_render_code_spans(verdict.reason))
    if verdict.pattern is not None:
        yield make_element("p", make_element("strong", f"{verdict.pattern}."))
    if verdict.diagnoses:
        has_known_bug = any(diagnosis.name != _UNKNOWN_BUG for diagnosis in verdict.diagnoses)
        yield make_element(
            "h3", "No known bug" if not has_known_bug else f"Probable bug{'s'[: len(verdict.diagnoses) - 1]}"
        )
        yield make_element("ul", *map(_render_bug, verdict.diagnoses), class_="bugs")


def _render_bug(diagnosis: Diagnosis) -> Markup:
    # Only a bug of the catalogue has a fit.
    is_known = diagnosis.name != _UNKNOWN_BUG
    fit = (
        make_element("span", f" fits to {number_format.format_number(diagnosis.fit, 4)}", class_="quiet")
        if is_known
        else None
    )
    return make_element(
        "li", make_element("code", diagnosis.name), fit, make_element("br"), *_render_code_spans(diagnosis.explanation)
    )


def _render_code_spans(text: str) -> Iterator[str]:
    """Render the text between backticks as code."""
    for number, part in enumerate(re.split("`", text)):
        yield make_element("code", part) if number % 2 else part


def _render_heatmaps(report: Report | BlackBoxReport, name: str, verdict: Verdict) -> Markup | None:
    gradient = report.gradients.get(name) if isinstance(report, Report) else None
    return None if gradient is None or not gradient.analytic.size else render_maps(name, gradient, verdict)


def _render_elements(verdict: Verdict) -> Iterator[Markup]:
    if verdict.worst:
        yield _render_judged_table(verdict, "Worst elements", verdict.worst)
    if random_directions := [direction for direction in verdict.directions if direction.index is None]:
        yield _render_judged_table(verdict, "Random directions", random_directions)
    if verdict.kinks:
        yield tables.render_folded(
            number_format.format_count(len(verdict.kinks), "kink"), tables.render_kinks(verdict.kinks)
        )
    if verdict.taylor is not None:
        yield tables.render_folded("Taylor remainder", tables.render_remainder(verdict.taylor))


def _render_judged_table(verdict: Verdict, title: str, judged: Sequence[Judged]) -> Markup:
    """Render a table, folded where the gradient passes."""
    if verdict.outcome == "pass":
        return tables.render_folded(title, tables.render_judged(title, judged))
    return join_markup(make_element("h3", title), tables.render_judged(title, judged))


def _render_joint_directions(report: Report | BlackBoxReport) -> Markup | None:
    if isinstance(report, BlackBoxReport) or not report.directions:
        return None
    names = report.directions[0].names
    title = f"Random directions of {number_format.format_count(len(names), 'tensor')}"
    return tables.render_folded(title, tables.render_judged(title, report.directions))


def _render_remaining_names(report: Report | BlackBoxReport) -> Markup | None:
    if isinstance(report, BlackBoxReport):
        return None
    nodes: list[Mapping[str, object]] = report.raw["model"]["nodes"]
    return join_markup(
        tables.render_folded(
            "Discrepancies", tables.render_discrepancies(list(report.discrepancies), report.discrepancies)
        ),
        tables.render_folded("The model", tables.render_model(nodes)),
    )
