"""A report in the order in which a reader wants it. A section is added here, and stands in every form."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from schemas.plan import JudgeReport
from schemas.report import CheckReport, Metrics
from service.rendering import figures
from service.rendering.document import Column, Heading, Listing, Name, Said, Section, Table
from service.rendering.judgement import judgement
from service.rendering.tensors import gradients, intermediates
from service.rendering.verdicts import MAX_NAMES, at_length, by_outcome, judged

MAX_NODES = 200


def sections(report: CheckReport | JudgeReport) -> Iterator[Section]:
    """All that there is to say, of a check or of a judgement by losses."""
    if "noise" in report:
        yield from judgement(report)
    else:
        for each in _ORDER:
            yield from each(report)


def _summary(report: CheckReport) -> Iterator[Section]:
    yield Section(Heading(), [Said(report["summary"])])


def _loss(report: CheckReport) -> Iterator[Section]:
    # Every digit: what the two routes make of it is compared by eye.
    routes = ", ".join(f"{number} ({route})" for route, number in report["loss"].items())
    yield Section(Heading(), [Said(routes, Heading("loss"))])


def _discrepancies(report: CheckReport) -> Iterator[Section]:
    columns = (
        Column("name", words=True), Column("pair", words=True), Column("max_abs"), Column("max_rel"), Column("rms"),
        Column("relative_l2"), Column("cosine"), Column("max_ulp"), Column("worst at", words=True),
    )  # fmt: skip
    names = by_outcome(report)
    rows = [row for name in names[:MAX_NAMES] for row in _pairs(name, report)]
    blocks = [Table(columns, rows), *_more(len(names) - MAX_NAMES)]
    yield Section(Heading("Discrepancies"), blocks, long=True)


def _pairs(name: str, report: CheckReport) -> Iterator[tuple[str, ...]]:
    pairs = cast("Mapping[str, Metrics]", report["discrepancies"][name])
    for position, (pair, found) in enumerate(pairs.items()):
        yield (
            "" if position else Name(name),
            pair.replace("_vs_", " - ").replace("finite_difference", "difference"),
            figures.size(found["max_abs"]),
            figures.size(found["max_rel"]),
            figures.size(found["rms"]),
            figures.size(found["relative_l2"]),
            figures.cosine(found["cosine"]),
            figures.ratio(found["max_ulp"]),
            figures.index(found["worst_index"]),
        )


def _more(count: int) -> Iterator[Said]:
    if count > 0:
        yield Said(f"{figures.counted(count, 'name')} more in the JSON report.")


def _cost(report: CheckReport) -> Iterator[Section]:
    cost = report["cost"]
    stages = cast("Mapping[str, float]", cost["stages"])
    parts = ", ".join(f"{stage.replace('_', ' ')} {_milliseconds(seconds)}" for stage, seconds in stages.items())
    whole = f"{figures.counted(cost['loss_evaluations'], 'loss evaluation')} in {_milliseconds(cost['seconds'])} ms"
    yield Section(Heading(), [Said(f"{whole}: {parts}", Heading("cost"))])


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 0.1 else f"{1000 * seconds:.0f}"


def _model(report: CheckReport) -> Iterator[Section]:
    nodes = report["model"]["nodes"]
    lines = [_node(each) for each in nodes[:MAX_NODES]]
    if len(nodes) > MAX_NODES:
        lines.append(f"... and {len(nodes) - MAX_NODES} more")
    yield Section(Heading("Model"), [Listing(lines)], long=True)


def _node(node: Mapping[str, Any]) -> str:
    """A node as a call: `L1 = flatten(C1, start_dim=0, end_dim=-1)`."""
    named = {name: each for name, each in node.items() if name not in ("name", "op", "inputs")}
    inputs = cast("list[Any] | dict[str, Any]", node["inputs"])
    if isinstance(inputs, dict):
        inputs, named = [], inputs | named
    given = [*map(_operand, inputs), *(f"{name}={_operand(each)}" for name, each in named.items())]
    return f"{Name(node['name'])} = {node['op']}({', '.join(given)})"


def _operand(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_operand, cast('list[Any]', value)))}]"
    return Name(value) if isinstance(value, str) else str(value)


_ORDER: tuple[Callable[[CheckReport], Iterable[Section]], ...] = (
    _summary, _loss, judged, at_length, _discrepancies, gradients, intermediates, _cost, _model,
)  # fmt: skip
