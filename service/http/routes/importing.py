"""`POST /v1/import`: an ONNX file as a request of a check. The parser of such files loads at the first of them."""

from flask import Blueprint, Response, request

from schemas.imports import NOTE_HEADER, ONNX, ImportAnswer
from schemas.json_writer import write_json
from schemas.safetensors_body import SAFETENSORS, encode_request
from service.checks.common.check_kind import AnswerFacts
from service.checks.importing.import_options import parse_options
from service.http.body.request_body import JSON, negotiate_media_type, receive_file
from service.http.middleware.compute_deadline import limit_compute_time
from service.http.middleware.concurrency import acquire_compute
from service.http.middleware.memory_quota import reserve_answer
from service.http.middleware.request_limits import get_current_limits
from service.http.middleware.request_log import get_current_record
from service.http.operations import COMPUTE_PROBLEMS, BodyFormat, Operation, QueryParameter, describe_operation
from service.http.response.responses import add_vary_header, make_reserved_response

blueprint = Blueprint("importing", __name__)
blueprint.after_request(add_vary_header)

_MAX_NOTE_CHARACTERS = 1000
_OPERATION = Operation(
    "Import a model of ONNX as the request of a check",
    answer_type=ImportAnswer,
    problems=COMPUTE_PROBLEMS,
    body_formats={ONNX: BodyFormat("An ONNX file, with all tensors inside and static shapes.", is_binary=True)},
    answer_formats={
        SAFETENSORS: BodyFormat("The request in the safetensors form that /v1/check takes.", is_binary=True)
    },
    query_parameters=(
        QueryParameter(
            "loss",
            "`projection`, the default: a single output of one element is the loss; else each output is multiplied by "
            "random numbers, and the sums are added. Or the name of a value of the model to take in place of its "
            "outputs.",
        ),
        QueryParameter("seed", "Seed of the random values of inputs and cotangents; 0 by default.", "integer"),
    ),
    identifier="post_import",
)


@blueprint.post("/v1/import")
@describe_operation(_OPERATION)
def post_import() -> Response:
    """Answer with the request of a check."""
    media_type = negotiate_media_type(request, JSON, SAFETENSORS)
    options, limits = parse_options(request.args.to_dict()), get_current_limits()
    with reserve_answer() as reservation, receive_file(request, ONNX) as body, limit_compute_time(), acquire_compute():
        from service.checks.importing.import_model import import_model

        model = import_model(body.parse_bytes(), options, limits)
        get_current_record().record_answer(AnswerFacts({"nodes": model.node_count, "names": model.tensor_count}))
        reservation.resize(model.answer_bytes)
        if media_type == SAFETENSORS:
            content = encode_request(model.binary_tensors, model.fields, model.note)
        else:
            content = write_json(model.document)
        response = make_reserved_response(content, media_type, reservation)
    response.headers[NOTE_HEADER] = _to_header(model.note)
    return response


def _to_header(note: str) -> str:
    """Return a note in the characters of a header."""
    return note.encode("ascii", "backslashreplace").decode()[:_MAX_NOTE_CHARACTERS].replace("\n", " ")
