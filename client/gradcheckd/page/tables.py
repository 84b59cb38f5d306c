"""Tables of the page."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradcheckd.page.markup import Markup, join_markup, make_element
from gradcheckd.page.number_format import format_element, format_number
from gradcheckd.report_parts import METRIC_NAMES, Discrepancy, Judged, Kink, Verdict

_MAX_ROWS = 20


def render_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Render a table that scrolls sideways; the first cell of a row is its head.

    The caption is for screen readers: the page has the heading above.
    """
    head = make_element("thead", make_element("tr", *(make_element("th", head, scope="col") for head in heads)))
    lines = [
        make_element(
            "tr", make_element("th", row_header, scope="row"), *(make_element("td", cell) for cell in other_cells)
        )
        for row_header, *other_cells in rows
    ]
    title = make_element("caption", make_element("span", caption, class_="hidden"))
    table = make_element("table", title, head, make_element("tbody", *lines), class_="plain")
    return make_element("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)


def render_folded(title: str, content: Markup) -> Markup:
    """Render a part that few readers want at once."""
    return make_element("details", make_element("summary", title), content)


def render_verdicts(names: Sequence[str], verdicts_by_name: Mapping[str, Verdict]) -> Markup:
    """Render a row for each tensor."""
    heads = ("name", "outcome", "pass", "fail", "inconclusive", "not examined", "worst ratio", "detects")
    return join_markup(
        render_table("Verdicts", heads, [_build_verdict_row(name, verdicts_by_name[name]) for name in names]),
        make_element(
            "p",
            "pass, fail, inconclusive: of elements, or of random directions; worst ratio: the largest error, over the "
            "allowed error; detects: the smallest relative error that would have been found.",
            class_="quiet",
        ),
    )


def _build_verdict_row(name: str, verdict: Verdict) -> Sequence[str]:
    elements = verdict.elements
    counts = [elements.passed, elements.failed, elements.inconclusive]
    direction_outcomes = [direction.outcome for direction in verdict.directions if direction.index is None]
    if direction_outcomes:
        # The check judged no element by itself.
        counts = [
            direction_outcomes.count("pass"),
            direction_outcomes.count("fail"),
            direction_outcomes.count("inconclusive"),
        ]
    ratios = [result.ratio for result in (*verdict.worst, *verdict.directions)]
    # NaN is worse than any number.
    worst_ratio = max(ratios, key=lambda ratio: (ratio != ratio, ratio), default=None)
    outcome = make_element("span", verdict.outcome, class_=verdict.outcome)
    return (
        make_element("code", name),
        outcome,
        *(f"{count:,}" for count in (*counts, elements.not_examined)),
        "-" if worst_ratio is None else format_number(worst_ratio, 3),
        format_number(verdict.smallest_detectable_error, 2),
    )


def render_judged(caption: str, elements: Sequence[Judged]) -> Markup:
    """Render elements or directions, with the numbers that their outcome follows from."""
    heads = ("where", "route", "judged", "finite difference", "error bound", "allowed", "times allowed", "outcome")
    rows = [
        (
            f"direction {number}" if element.index is None else format_element("", element.index) or "[]",
            element.route,
            format_number(element.judged, 10),
            format_number(element.reference, 10),
            format_number(element.error_bound, 2),
            format_number(element.allowed, 2),
            format_number(element.ratio, 3),
            make_element("span", element.outcome, class_=element.outcome),
        )
        for number, element in enumerate(elements[:_MAX_ROWS])
    ]
    return render_table(caption, heads, rows)


def render_kinks(kinks_found: Sequence[Kink]) -> Markup:
    """Render the elements at which there is no derivative."""
    rows = [
        (format_element("", kink.index) or "[]", format_number(kink.left, 10), format_number(kink.right, 10))
        for kink in kinks_found[:_MAX_ROWS]
    ]
    caption = "Kinks, where either one-sided derivative is accepted"
    return render_table(caption, ("where", "from the left", "from the right"), rows)


def render_remainder(taylor: Mapping[str, Any]) -> Markup:
    """Render the remainder of a black box along its worst direction."""
    slope, intercept, factor = (format_number(float(taylor[part]), 3) for part in ("slope", "intercept", "factor"))
    text = (
        f"Along direction {taylor['direction']} it grows as the step to the power of {slope} (2 of a right gradient, 1 "
        f"of a wrong one); the derivative is {factor} times the candidate's, which is off by {intercept} of itself."
    )
    rows = [
        (format_number(float(step), 4), format_number(float(remainder), 4))
        for step, remainder in zip(taylor["steps"], taylor["remainders"], strict=True)
    ]
    return join_markup(make_element("p", text), render_table("Taylor remainder", ("step", "remainder"), rows))


def render_discrepancies(
    names: Sequence[str], discrepancies_by_name: Mapping[str, Mapping[str, Discrepancy]]
) -> Markup:
    """Render a row for each tensor and pair of routes."""
    rows = [
        (
            make_element("code", name),
            pair.replace("_vs_", " \N{EN DASH} ").replace("_", " "),
            *(format_number(getattr(discrepancy, metric), 3) for metric in METRIC_NAMES),
            format_element("", discrepancy.worst_index) or "[]",
        )
        for name in names
        for pair, discrepancy in discrepancies_by_name[name].items()
    ]
    return render_table("Distances of all pairs of routes", ("name", "pair", *METRIC_NAMES, "worst at"), rows)


def render_model(nodes: Sequence[Mapping[str, Any]]) -> Markup:
    """Render a row for each node."""
    rows = [
        (
            make_element("code", node["name"]),
            node["op"],
            json.dumps(node["inputs"]),
            ", ".join(f"{name}={value}" for name, value in node.items() if name not in ("name", "op", "inputs")),
        )
        for node in nodes
    ]
    return render_table("Every node, with its defaults spelled out", ("node", "op", "inputs", "attributes"), rows)
