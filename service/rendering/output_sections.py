"""The parts of a judgement of outputs: their names, rows of products, dot tests and numerical derivatives."""

from collections.abc import Iterator

import numpy as np

from schemas.outputs import JudgedProduct, NumericalDerivative
from schemas.plan import JudgeReport
from service.rendering import number_format
from service.rendering.document import Column, DisplayName, Heading, Paragraph, Section, Table
from service.rendering.tensor_sections import build_derivative_tables, get_shape, to_array
from service.rendering.verdict_sections import MAX_NAMES, format_detectable_error

_ALL_TENSORS = "all tensors"


def split_name(name: str) -> tuple[str, str]:
    """Return the output and the tensor of a verdict; of Jacobian-vector products, words for all tensors."""
    output, slash, tensor = name.partition("/")
    return DisplayName(output), DisplayName(tensor) if slash else _ALL_TENSORS


def build_product_row(verdict: JudgedProduct) -> tuple[str, ...]:
    """Build the cells of a Jacobian or of Jacobian-vector products, which have elements and no directions."""
    elements = verdict["elements"]
    counts = (elements["pass"], elements["fail"], elements["inconclusive"])
    return (
        verdict["outcome"],
        str(elements["total"]),
        "-",
        *map(str, counts),
        number_format.format_ratio(verdict["worst"][0]["ratio"]) if verdict["worst"] else "-",
        format_detectable_error(verdict["smallest_detectable_error"]),
    )


def build_dot_test_section(report: JudgeReport, *, has_details: bool = False) -> Iterator[Section]:
    """Build the table of the dot tests that do not pass; with details, of all of them."""
    tests = [test for test in report.get("dot_tests", []) if has_details or test["outcome"] != "pass"]
    columns = (
        Column("output", is_text=True), Column("tensor", is_text=True), Column("direction"), Column("by vjp"),
        Column("by jvp"), Column("allowed difference"), Column("outcome", is_text=True),
    )  # fmt: skip
    rows = [
        (
            *split_name(test["name"]),
            str(test["direction"]),
            number_format.format_value(test["vjp"]),
            number_format.format_value(test["jvp"]),
            number_format.format_magnitude(test["allowed"]),
            test["outcome"],
        )
        for test in tests[:MAX_NAMES]
    ]
    if rows:
        yield Section(
            Heading("Dot tests"), [Table(columns, rows), *_describe_omitted(len(tests) - MAX_NAMES, "dot test")]
        )


def build_derivative_section(report: JudgeReport, *, has_details: bool = False) -> Iterator[Section]:
    """Build the table of the numerical derivatives: their sizes and bounds; with details, small ones themselves."""
    derivatives = report.get("derivatives", {})
    columns = (
        Column("name", is_text=True), Column("shape", is_text=True), Column("examined"),
        Column("largest derivative"), Column("largest error bound"),
    )  # fmt: skip
    rows = [(DisplayName(name), *_build_derivative_row(derivatives[name])) for name in list(derivatives)[:MAX_NAMES]]
    if rows:
        blocks = [Table(columns, rows), *_describe_omitted(len(derivatives) - MAX_NAMES, "derivative")]
        yield Section(Heading("Numerical derivatives"), blocks)
        if has_details:
            yield from build_derivative_tables(report)


def _build_derivative_row(derivative: NumericalDerivative) -> tuple[str, ...]:
    values, bounds = to_array(derivative["value"]), to_array(derivative["error_bound"])
    known = np.isfinite(bounds)
    largest = [float(np.abs(array[known]).max()) if known.any() else float("nan") for array in (values, bounds)]
    return (
        str(list(get_shape(derivative["value"]))),
        f"{np.count_nonzero(known)} of {known.size}",
        "-" if not known.any() else number_format.format_value(largest[0]),
        "-" if not known.any() else number_format.format_rounded_up(largest[1]),
    )


def _describe_omitted(count: int, noun: str) -> Iterator[Paragraph]:
    if count > 0:
        yield Paragraph(f"{number_format.format_count(count, f'more {noun}')} in the JSON report.")
