"""`POST /v1/check`."""

from functools import partial

from flask import Blueprint, Response, request

from schemas.binary import SAFETENSORS
from schemas.progress import Event
from schemas.report import CheckReport
from schemas.tensor import Encoding
from service.check import Limits, check
from service.checking import language
from service.http.answers import binary_answer, json_answer, text_answer, vary_by_accept
from service.http.body import JSON, Body, body_of, negotiate
from service.http.catalogue import examples
from service.http.limits import limits
from service.http.observed import Record, observed
from service.http.operation import BODY_FORMS, PROBLEMS_OF_WORK, Form, Operation, documented
from service.http.running import CancelledError
from service.http.slots import admitted
from service.http.streaming import NDJSON, streamed
from service.numerics.gradients.finite_difference import Progress
from service.rendering import markdown, text

blueprint = Blueprint("check", __name__)
blueprint.after_request(vary_by_accept)

_RENDERINGS = {"text/plain": text, "text/markdown": markdown}
_FORMS = {
    "text/plain": Form("The report for reading, below 120 columns."),
    "text/markdown": Form("The report for reading."),
    NDJSON: Form("The progress, a JSON object each line, and on the last the report or a problem.", lines=Event),
    SAFETENSORS: Form(
        "Tensors gradients/w1/analytic, ..., and in the metadata entry `report` the rest of the report as JSON text.",
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
    with body_of(request, JSON, *BODY_FORMS) as body:
        run = partial(_checked, observed(), body, limits())
        if form == NDJSON:
            return streamed(run, admitted())
        with admitted():
            report = run(encoding="binary") if form == SAFETENSORS else run()
    if form == SAFETENSORS:
        return binary_answer(report)
    return json_answer(report) if form == JSON else text_answer(_RENDERINGS[form](report), form)


def _checked(
    record: Record, body: Body, limits: Limits, progress: Progress | None = None, encoding: Encoding | None = None
) -> CheckReport:
    try:
        report = check(body.parsed(), limits, record.counting(progress), encoding)
    except CancelledError:
        record.cancelled()
        raise
    record.checked(report)
    return report
