"""A report in the order in which a reader wants it. A section is added here, and stands in every form.

Outcome; the bug or the pattern, once; the table of tensors; the worst elements of each tensor that does not pass; the
model. A pass is its summary and its cost. Details add all pairs of gradients and the gradients themselves.
"""

import math
from collections.abc import Iterator, Mapping
from typing import cast

from schemas.plan import JudgeReport
from schemas.report import CheckReport, Metrics
from service.rendering import number_format
from service.rendering.blackbox_sections import build_judgement_sections
from service.rendering.detail_sections import build_detail_sections, build_joint_section
from service.rendering.document import Column, DisplayName, Heading, Listing, Paragraph, Section, Table
from service.rendering.finding_sections import build_finding_section
from service.rendering.tensor_sections import build_gradient_sections, build_intermediate_sections
from service.rendering.terminal_text import escape_text
from service.rendering.verdict_sections import MAX_NAMES, build_verdict_section, sort_by_outcome

MAX_NODES = 200
_SAME_LOSS_TOLERANCE = 1e-9


def build_sections(report: CheckReport | JudgeReport, *, has_details: bool = False) -> Iterator[Section]:
    """Build the sections of a check or of a judgement by losses."""
    if "noise" in report:
        yield from build_judgement_sections(report, has_details=has_details)
    else:
        yield from build_check_sections(report, has_details=has_details)


def build_check_sections(report: CheckReport, *, has_details: bool = False) -> Iterator[Section]:
    """Build the sections of a check."""
    summary = report["summary"].removeprefix(f"{report['outcome']}: ")
    closing_section = _describe_loss_and_cost(report, has_details=has_details)
    is_short = report["outcome"] == "pass" and not has_details
    yield Section(Heading(), [Paragraph(summary), closing_section] if is_short else [Paragraph(summary)])
    if not is_short:
        yield from build_finding_section(report)
        yield build_verdict_section(report)
        yield from build_detail_sections(report, has_details=has_details)
    if has_details:
        yield from build_joint_section(report)
        yield _build_discrepancies(report)
        yield from build_gradient_sections(report)
    yield from build_intermediate_sections(report)
    if not is_short:
        yield _build_model(report)
        yield Section(Heading(), [closing_section])


def _describe_loss_and_cost(report: CheckReport, *, has_details: bool) -> Paragraph:
    cost = report["cost"]
    evaluations = number_format.format_count(cost["loss_evaluations"], "loss evaluation")
    losses = _format_losses(report, has_details=has_details)
    text = f"{losses}; {evaluations}{_describe_choice(report)} in {_format_milliseconds(cost['seconds'])} ms"
    if has_details:
        stages = cast("Mapping[str, float]", cost["stages"])
        parts = (f"{stage.replace('_', ' ')} {_format_milliseconds(seconds)}" for stage, seconds in stages.items())
        text += f": {', '.join(parts)}"
    return Paragraph(text, Heading("loss"))


def _describe_choice(report: CheckReport) -> str:
    """Describe the choice of the method auto."""
    if "finite_difference" not in report:
        return ""
    count = report["finite_difference"].get("projections")
    choice = "all elements" if count is None else number_format.format_count(count, "random direction")
    return f", by auto of {choice},"


def _format_losses(report: CheckReport, *, has_details: bool) -> str:
    """Format the loss of both routes in every digit; in short one of them, where they are the same but for rounding."""
    losses = report["loss"]
    if losses["analytic"] == losses["autograd"]:
        return f"{losses['analytic']} (analytic and autograd)"
    analytic, autograd = float(losses["analytic"]), float(losses["autograd"])
    if not has_details and math.isclose(analytic, autograd, rel_tol=_SAME_LOSS_TOLERANCE):
        return f"{losses['analytic']} (analytic)"
    return ", ".join(f"{number} ({route})" for route, number in losses.items())


def _format_milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 0.1 else f"{1000 * seconds:.0f}"


def _build_discrepancies(report: CheckReport) -> Section:
    columns = (
        Column("name", is_text=True), Column("pair", is_text=True), Column("max_abs"), Column("max_rel"),
        Column("rms", drop_rank=4), Column("relative_l2"), Column("cosine", drop_rank=1),
        Column("max_ulp", drop_rank=3), Column("worst at", is_text=True, drop_rank=2),
    )  # fmt: skip
    names = sort_by_outcome(report)
    rows = [row for name in names[:MAX_NAMES] for row in _build_pair_rows(name, report)]
    blocks = [Table(columns, rows), *_describe_omitted_rows(len(names) - MAX_NAMES)]
    return Section(Heading("Discrepancies"), blocks, is_long=True)


def _build_pair_rows(name: str, report: CheckReport) -> Iterator[tuple[str, ...]]:
    pairs = cast("Mapping[str, Metrics]", report["discrepancies"][name])
    for position, (pair, metrics) in enumerate(pairs.items()):
        yield (
            "" if position else DisplayName(name),
            pair.replace("_vs_", " - ").replace("finite_difference", "difference"),
            number_format.format_magnitude(metrics["max_abs"]),
            number_format.format_magnitude(metrics["max_rel"]),
            number_format.format_magnitude(metrics["rms"]),
            number_format.format_magnitude(metrics["relative_l2"]),
            number_format.format_cosine(metrics["cosine"]),
            number_format.format_ratio(metrics["max_ulp"]),
            number_format.format_index(metrics["worst_index"]),
        )


def _describe_omitted_rows(count: int) -> Iterator[Paragraph]:
    if count > 0:
        yield Paragraph(f"{number_format.format_count(count, 'more tensor')} in the JSON report.")


def _build_model(report: CheckReport) -> Section:
    """List the text of the model; characters that a terminal would obey are escapes, which the text may have."""
    lines = report["model_text"].split("\n")
    listed_lines = [escape_text(line) for line in lines[:MAX_NODES]]
    if len(lines) > MAX_NODES:
        listed_lines.append(f"# ... and {len(lines) - MAX_NODES} more")
    return Section(Heading("Model"), [Listing(listed_lines)], is_long=True)
