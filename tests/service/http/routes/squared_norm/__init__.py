"""A kind of check as a folder of its own: does a claimed number equal the squared norm of tensors?"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from schemas.strict_model import Name, StrictModel
from schemas.tensor import Tensor
from service.checks.common.check_kind import AnswerFacts, BinaryBody, CheckKind, RunOptions
from service.checks.common.deadline import current_clock
from service.checks.common.request_validation import validate_request
from service.rendering.document import Heading, Paragraph, Section


class SquaredNormRequest(StrictModel):
    """Tensors, and their squared norm as the client has it."""

    tensors: dict[Name, Tensor] = Field(description="Tensors of numbers, by name.")
    claim: float = Field(description="The squared norm of all tensors together.", examples=[25.0])


class SquaredNormReport(TypedDict):
    """The outcome and the right number."""

    outcome: Literal["pass", "fail"]
    squared_norm: float


def check_squared_norm(body: object, options: RunOptions) -> SquaredNormReport:
    request = validate_request(body, SquaredNormRequest, {("tensors",): options.limits.names})
    norm, clock = 0.0, current_clock(options.limits.seconds)
    with clock.enforce_deadline():
        for count, (name, tensor) in enumerate(request.tensors.items(), start=1):
            with clock.name_stage("the squares were being added"):
                norm += float((tensor.array**2).sum())
            if options.progress is not None:
                options.progress(name, count, len(request.tensors))
    return {"outcome": "pass" if norm == request.claim else "fail", "squared_norm": norm}


def build_sections(report: SquaredNormReport, *, has_details: bool) -> Iterator[Section]:
    yield Section(Heading(), [Paragraph(f"The squared norm is {report['squared_norm']:g}.")])


def collect_facts(report: SquaredNormReport) -> AnswerFacts:
    return AnswerFacts({"outcome": report["outcome"]}, stage_seconds={"squares": 0.25})


def build_examples() -> dict[str, Any]:
    return {"right": {"value": {"tensors": {"v": [3.0, 4.0]}, "claim": 25.0}}}


SQUARED_NORM = CheckKind(
    name="squared_norm",
    path="/v1/squared-norm",
    summary="Check the squared norm of tensors",
    load_request_type=lambda: SquaredNormRequest,
    answer_type=SquaredNormReport,
    run=check_squared_norm,
    build_examples=build_examples,
    binary_body=BinaryBody("Tensors named tensors/v, and in the metadata entry `request` the claim.", ("tensors",)),
    build_sections=build_sections,
    collect_facts=collect_facts,
    streams_progress=True,
    is_small=lambda body, limits: body is not None,
)
