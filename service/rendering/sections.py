"""A report in the order in which a reader wants it. A section is added here, and stands in every form."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from schemas.plan import JudgeReport
from schemas.report import CheckReport, Metrics
from service.rendering import number_format
from service.rendering.blackbox_sections import build_judgement_sections
from service.rendering.document import Column, DisplayName, Heading, Listing, Paragraph, Section, Table
from service.rendering.tensor_sections import build_gradient_sections, build_intermediate_sections
from service.rendering.verdict_sections import MAX_NAMES, build_detail_sections, build_verdict_section, sort_by_outcome

MAX_NODES = 200


def build_sections(report: CheckReport | JudgeReport) -> Iterator[Section]:
    """Build the sections of a check or of a judgement by losses."""
    if "noise" in report:
        yield from build_judgement_sections(report)
    else:
        yield from build_check_sections(report)


def build_check_sections(report: CheckReport) -> Iterator[Section]:
    """Build the sections of a check."""
    for build in _SECTION_BUILDERS:
        yield from build(report)


def _build_summary(report: CheckReport) -> Iterator[Section]:
    yield Section(Heading(), [Paragraph(report["summary"])])


def _build_loss(report: CheckReport) -> Iterator[Section]:
    # Every digit: what the two routes make of it is compared by eye.
    routes = ", ".join(f"{number} ({route})" for route, number in report["loss"].items())
    yield Section(Heading(), [Paragraph(routes, Heading("loss"))])


def _build_discrepancies(report: CheckReport) -> Iterator[Section]:
    columns = (
        Column("name", is_text=True), Column("pair", is_text=True), Column("max_abs"), Column("max_rel"), Column("rms"),
        Column("relative_l2"), Column("cosine"), Column("max_ulp"), Column("worst at", is_text=True),
    )  # fmt: skip
    names = sort_by_outcome(report)
    rows = [row for name in names[:MAX_NAMES] for row in _build_pair_rows(name, report)]
    blocks = [Table(columns, rows), *_describe_omitted(len(names) - MAX_NAMES)]
    yield Section(Heading("Discrepancies"), blocks, is_long=True)


def _build_pair_rows(name: str, report: CheckReport) -> Iterator[tuple[str, ...]]:
    pairs = cast("Mapping[str, Metrics]", report["discrepancies"][name])
    for position, (pair, found) in enumerate(pairs.items()):
        yield (
            "" if position else DisplayName(name),
            pair.replace("_vs_", " - ").replace("finite_difference", "difference"),
            number_format.format_magnitude(found["max_abs"]),
            number_format.format_magnitude(found["max_rel"]),
            number_format.format_magnitude(found["rms"]),
            number_format.format_magnitude(found["relative_l2"]),
            number_format.format_cosine(found["cosine"]),
            number_format.format_ratio(found["max_ulp"]),
            number_format.format_index(found["worst_index"]),
        )


def _describe_omitted(count: int) -> Iterator[Paragraph]:
    if count > 0:
        yield Paragraph(f"{number_format.format_count(count, 'name')} more in the JSON report.")


def _build_cost(report: CheckReport) -> Iterator[Section]:
    cost = report["cost"]
    stages = cast("Mapping[str, float]", cost["stages"])
    parts = ", ".join(f"{stage.replace('_', ' ')} {_format_milliseconds(seconds)}" for stage, seconds in stages.items())
    whole = f"{number_format.format_count(cost['loss_evaluations'], 'loss evaluation')} in {_format_milliseconds(cost['seconds'])} ms"
    yield Section(Heading(), [Paragraph(f"{whole}: {parts}", Heading("cost"))])


def _format_milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 0.1 else f"{1000 * seconds:.0f}"


def _build_model(report: CheckReport) -> Iterator[Section]:
    nodes = report["model"]["nodes"]
    lines = [_format_node(each) for each in nodes[:MAX_NODES]]
    if len(nodes) > MAX_NODES:
        lines.append(f"... and {len(nodes) - MAX_NODES} more")
    yield Section(Heading("Model"), [Listing(lines)], is_long=True)


def _format_node(node: Mapping[str, Any]) -> str:
    """A node as a call: `L1 = flatten(C1, start_dim=0, end_dim=-1)`."""
    named = {name: each for name, each in node.items() if name not in ("name", "op", "inputs")}
    inputs = cast("list[Any] | dict[str, Any]", node["inputs"])
    if isinstance(inputs, dict):
        inputs, named = [], inputs | named
    given = [*map(_format_operand, inputs), *(f"{name}={_format_operand(each)}" for name, each in named.items())]
    return f"{DisplayName(node['name'])} = {node['op']}({', '.join(given)})"


def _format_operand(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_format_operand, cast('list[Any]', value)))}]"
    return DisplayName(value) if isinstance(value, str) else str(value)


_SECTION_BUILDERS: tuple[Callable[[CheckReport], Iterable[Section]], ...] = (
    _build_summary, _build_loss, build_verdict_section, build_detail_sections, _build_discrepancies, build_gradient_sections, build_intermediate_sections, _build_cost, _build_model,
)  # fmt: skip
