"""`POST /v1/check`."""

from functools import partial

from flask import Blueprint, Request, Response, request
from werkzeug.exceptions import NotAcceptable

from schemas.binary import SAFETENSORS, encode
from schemas.problem import shown
from schemas.progress import Event
from schemas.report import CheckReport
from schemas.tensor import Encoding
from service.check import Limits, check
from service.checking import language
from service.checking.deadline import clock_of
from service.checking.fitting import SMALLER
from service.checking.small import is_small
from service.http.answers import RENDERINGS, held_answer, report_bytes, vary_by_accept
from service.http.body import JSON, Body, body_of, negotiate, parameter_of
from service.http.catalogue import examples
from service.http.held import HeldAnswer, answering
from service.http.limits import limits
from service.http.observed import Record, observed
from service.http.operation import BODY_FORMS, PROBLEMS_OF_WORK, TEXT_FORMS, Form, Operation, documented
from service.http.running import CancelledError
from service.http.slots import admitted
from service.http.streaming import NDJSON, Rendering, streamed
from service.http.timing import timed
from service.numerics.gradients.finite_difference import Progress

blueprint = Blueprint("check", __name__)
blueprint.after_request(vary_by_accept)

_FORMS = {
    **TEXT_FORMS,
    NDJSON: Form(
        "The progress, a JSON object each line, and on the last the report or a problem. With "
        f'`{NDJSON}; report="text/plain"`, or "text/markdown", that line has the report for reading too, as `text`.',
        lines=Event,
    ),
    SAFETENSORS: Form(
        "Tensors gradients/w1/analytic, ..., and in the metadata entry `report` the rest of the report as JSON text. "
        f'With `{SAFETENSORS}; report="text/plain"`, or "text/markdown", the entry `text` has it for reading too.',
        binary=True,
    ),
}


@blueprint.post("/v1/check")
@documented(
    Operation(
        "Check a gradient by three independent routes",
        answer=CheckReport,
        body=language.Request,
        problems=PROBLEMS_OF_WORK,
        examples=examples,
        body_forms=BODY_FORMS,
        answer_forms=_FORMS,
    )
)
def post_check() -> Response:
    """Answer with a report; a failed gradient is a successful check."""
    form = negotiate(request, JSON, *_FORMS)
    rendering = _rendering(request, form)
    with answering() as held, body_of(request, JSON, *BODY_FORMS) as body:
        small = partial(_is_small, body, limits())
        run = partial(_checked, observed(), body, limits(), None if form in RENDERINGS else held)
        if form == NDJSON:
            with timed(while_there=False):
                return streamed(run, admitted(small), held, rendering)
        # What writing takes is a part of what a check may take: it ends before another one begins.
        with timed(), admitted(small):
            return held_answer(_written(run(encoding=_encoding(form)), form, rendering), form, held)


def _is_small(body: Body, limits: Limits) -> bool:
    return is_small(body.looked_at(), limits)


def _encoding(form: str) -> Encoding | None:
    # What is for reading tells of large tensors the shape alone.
    return "binary" if form == SAFETENSORS or form in RENDERINGS else None


def _written(report: CheckReport, form: str, rendering: Rendering | None) -> bytes:
    if form == SAFETENSORS:
        return encode(report, rendering(report) if rendering else None)
    return report_bytes(report, form)


def _rendering(request: Request, form: str) -> Rendering | None:
    """How the report is to be written for reading beside the form that it is asked for in, where that is asked too.

    Raises
    ------
    NotAcceptable
        In a way in which it is not.
    """
    wanted = parameter_of(request, form, "report") if form in (NDJSON, SAFETENSORS) else None
    if wanted is None:
        return None
    if wanted not in RENDERINGS:
        raise NotAcceptable(f"A report for reading is {' or '.join(RENDERINGS)}; {shown(wanted)} is asked for.")
    return RENDERINGS[wanted]


def _checked(
    record: Record,
    body: Body,
    limits: Limits,
    held: HeldAnswer | None,
    progress: Progress | None = None,
    encoding: Encoding | None = None,
) -> CheckReport:
    try:
        with clock_of(limits.seconds).refusing(SMALLER, "with_respect_to"):
            report = check(body.parsed(), limits, record.counting(progress), encoding, held and held.settle)
    except CancelledError:
        record.cancelled()
        raise
    record.checked(report)
    return report
