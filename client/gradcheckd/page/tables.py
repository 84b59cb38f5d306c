"""Tables of the page."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradcheckd.findings import Discrepancy, Judged, Kink, Verdict
from gradcheckd.page.figures import place, told
from gradcheckd.page.markup import Markup, element, joined

_SHOWN = 20
_METRICS = ("max_abs", "max_rel", "rms", "relative_l2", "cosine", "max_ulp")


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table, that can be moved sideways where there is no room for it; the first cell of a row is its head.

    Its caption is for who hears it: who sees it has the heading above.
    """
    head = element("thead", element("tr", *(element("th", each, scope="col") for each in heads)))
    lines = [
        element("tr", element("th", first, scope="row"), *(element("td", each) for each in rest))
        for first, *rest in rows
    ]
    title = element("caption", element("span", caption, class_="hidden"))
    whole = element("table", title, head, element("tbody", *lines), class_="plain")
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def folded(title: str, content: Markup) -> Markup:
    """What few readers want at once."""
    return element("details", element("summary", title), content)


def verdicts(names: Sequence[str], found: Mapping[str, Verdict]) -> Markup:
    """A row for each name."""
    heads = ("name", "outcome", "pass", "fail", "inconclusive", "not examined", "worst ratio", "detects")
    return joined(
        table("Verdicts", heads, [_verdict(name, found[name]) for name in names]),
        element(
            "p",
            "pass, fail, inconclusive: of elements, or of random directions; worst ratio: the worst distance from the "
            "finite difference, over what is allowed; detects: the smallest relative error that would have been found.",
            class_="quiet",
        ),
    )


def _verdict(name: str, verdict: Verdict) -> Sequence[str]:
    elements = verdict.elements
    counts = [elements.passed, elements.failed, elements.inconclusive]
    along = [each.outcome for each in verdict.directions if each.index is None]
    if along:
        # No element was judged by itself.
        counts = [along.count("pass"), along.count("fail"), along.count("inconclusive")]
    ratios = [each.ratio for each in (*verdict.worst, *verdict.directions)]
    # What is no number is worse than any.
    worst = max(ratios, key=lambda ratio: (ratio != ratio, ratio), default=None)
    outcome = element("span", verdict.outcome, class_=verdict.outcome)
    return (
        element("code", name),
        outcome,
        *(f"{each:,}" for each in (*counts, elements.not_examined)),
        "-" if worst is None else told(worst, 3),
        told(verdict.smallest_detectable_error, 2),
    )


def judged(caption: str, found: Sequence[Judged]) -> Markup:
    """Elements or directions, with all that their outcome follows from."""
    heads = ("where", "route", "judged", "finite difference", "error bound", "allowed", "times allowed", "outcome")
    rows = [
        (
            f"direction {number}" if each.index is None else place("", each.index) or "[]",
            each.route,
            told(each.judged, 10),
            told(each.reference, 10),
            told(each.error_bound, 2),
            told(each.allowed, 2),
            told(each.ratio, 3),
            element("span", each.outcome, class_=each.outcome),
        )
        for number, each in enumerate(found[:_SHOWN])
    ]
    return table(caption, heads, rows)


def kinks(found: Sequence[Kink]) -> Markup:
    """Elements at which there is no derivative."""
    rows = [(place("", each.index) or "[]", told(each.left, 10), told(each.right, 10)) for each in found[:_SHOWN]]
    caption = "Kinks, where either one-sided derivative is accepted"
    return table(caption, ("where", "from the left", "from the right"), rows)


def remainder(taylor: Mapping[str, Any]) -> Markup:
    """The remainder of a black box along its worst direction."""
    slope, intercept, factor = (told(float(taylor[each]), 3) for each in ("slope", "intercept", "factor"))
    said = (
        f"Along direction {taylor['direction']} it grows as the step to the power of {slope} (2 of a right gradient, 1 "
        f"of a wrong one); the derivative is {factor} times the candidate's, which is off by {intercept} of itself."
    )
    rows = [
        (told(float(step), 4), told(float(each), 4))
        for step, each in zip(taylor["steps"], taylor["remainders"], strict=True)
    ]
    return joined(element("p", said), table("Taylor remainder", ("step", "remainder"), rows))


def discrepancies(names: Sequence[str], found: Mapping[str, Mapping[str, Discrepancy]]) -> Markup:
    """A row for each name and pair of routes."""
    rows = [
        (
            element("code", name),
            pair.replace("_vs_", " \N{EN DASH} ").replace("_", " "),
            *(told(getattr(each, metric), 3) for metric in _METRICS),
            place("", each.worst_index) or "[]",
        )
        for name in names
        for pair, each in found[name].items()
    ]
    return table("Distances of all pairs of routes", ("name", "pair", *_METRICS, "worst at"), rows)


def model(nodes: Sequence[Mapping[str, Any]]) -> Markup:
    """A row for each node."""
    rows = [
        (
            element("code", node["name"]),
            node["op"],
            json.dumps(node["inputs"]),
            ", ".join(f"{name}={value}" for name, value in node.items() if name not in ("name", "op", "inputs")),
        )
        for node in nodes
    ]
    return table("Every node, with its defaults spelled out", ("node", "op", "inputs", "attributes"), rows)
