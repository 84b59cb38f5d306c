"""The record of a kind of check.

HTTP makes the route, its description, limits, log and text report from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from schemas.safetensors_body import SECTIONS
from schemas.tensor import Encoding
from service.checks.common.limits import Limits
from service.numerics.core.difference import DifferenceProgress
from service.rendering.document import SectionBuilder

ResultT = TypeVar("ResultT")
AnswerForm = Literal["json", "text", "binary"]


@dataclass(frozen=True)
class RunOptions:
    """The circumstances of one run.

    Attributes
    ----------
    limits
        Limits of the request.
    progress
        Receiver of the progress of the finite differences; may raise to stop them. None by default.
    form
        Form in which the answer is sent. Text abridges large tensors.
    reserve_answer_bytes
        Receiver of the largest size of the answer, in bytes, before anything is computed; may raise to refuse it. None
        if the size of the answer is small in any case.
    """

    limits: Limits
    progress: DifferenceProgress | None = None
    form: AnswerForm = "json"
    reserve_answer_bytes: Callable[[int], None] | None = None


@dataclass(frozen=True)
class BinaryBody:
    """The safetensors form of a request: its description, and the fields that hold tensors."""

    description: str
    tensor_fields: tuple[str, ...] = SECTIONS


@dataclass(frozen=True)
class BinaryAnswer(Generic[ResultT]):
    """The safetensors form of an answer: its description, and the function that writes it.

    The function takes the result, and the report as text or None.
    """

    description: str
    write: Callable[[ResultT, str | None], bytes]


@dataclass(frozen=True)
class AnswerFacts:
    """Facts of an answer for the log and the metrics.

    Attributes
    ----------
    log_fields
        Fields of the line in the log.
    loss_evaluations
        Evaluations of the loss by the service; None for those that the progress told.
    stage_seconds
        Seconds by stage, for the log, the metrics and `Server-Timing`.
    """

    log_fields: Mapping[str, str | int] = field(default_factory=dict[str, str | int])
    loss_evaluations: int | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict[str, float])


def _return_document(result: Any) -> Mapping[str, Any]:
    return result


def _collect_no_facts(result: Any) -> AnswerFacts:
    return AnswerFacts()


@dataclass(frozen=True)
class CheckKind(Generic[ResultT]):
    """A kind of check.

    Attributes
    ----------
    name
        Name of the kind, and of its route.
    path
        Path of its POST route.
    summary
        One line for the description of the interface.
    load_request_type
        Function that returns the type of the request in JSON; it may import the modules of the type.
    answer_type
        Type of the answer in JSON.
    run
        Function that answers a request, parsed from JSON, with a result.
    build_examples
        Function that makes example requests by name, as OpenAPI has them.
    binary_body
        Safetensors form of the request.
    to_document
        Function that makes the JSON document of a result; the result itself by default.
    binary_answer
        Safetensors form of the answer; none by default.
    build_sections
        Function that makes the sections of the text report, with or without details; no text by default.
    collect_facts
        Function that collects the facts of a result for the log.
    streams_progress
        True if the answer may be a stream of progress and report; False by default.
    is_counted
        True if the metric of checks counts the outcome, a field of the log; False by default.
    is_small
        Function that tells whether a request, None for a large body, may take a place for small checks; none may by
        default.
    timeout_path
        Path into the request of the field to reduce if the time is over.
    operation_id
        Identifier in the description of the interface; `post_NAME` by default.
    needs_torch
        True if the kind computes with torch, on which the thread of a caller acts; False by default.
    encode_job_result
        Function that makes the JSON document of a result with "binary" tensors, given their encoding. None, the
        default, for a kind that never runs as a job.
    estimate_job_work
        Function that validates the request of a job, and returns its multiply-adds, by estimate; it raises as `run`
        does before it computes. None, the default, for a kind that never runs as a job.
    """

    name: str
    path: str
    summary: str
    load_request_type: Callable[[], Any]
    answer_type: Any
    run: Callable[[object, RunOptions], ResultT]
    build_examples: Callable[[], dict[str, Any]]
    binary_body: BinaryBody
    to_document: Callable[[ResultT], Mapping[str, Any]] = _return_document
    binary_answer: BinaryAnswer[ResultT] | None = None
    build_sections: SectionBuilder[ResultT] | None = None
    collect_facts: Callable[[ResultT], AnswerFacts] = _collect_no_facts
    streams_progress: bool = False
    is_counted: bool = False
    is_small: Callable[[object | None, Limits], bool] | None = None
    timeout_path: tuple[str, ...] = ()
    operation_id: str = ""
    needs_torch: bool = False
    encode_job_result: Callable[[Mapping[str, Any], Encoding], Any] | None = None
    estimate_job_work: Callable[[object, Limits], int] | None = None
