"""`GET /v1/bugs`, `POST /v1/bugs`."""

from flask import Blueprint, Response, request

from schemas.bugs import BugsAnswer, CatalogueOfBugs
from schemas.json_writer import write_json
from service.checks.bugs import list_bugs, simulate_bugs
from service.checks.graph import model_language
from service.http.body.request_body import JSON, negotiate_media_type, receive_body
from service.http.middleware.compute_deadline import limit_compute_time
from service.http.middleware.concurrency import acquire_compute
from service.http.middleware.memory_quota import reserve_answer
from service.http.middleware.request_limits import current_limits
from service.http.operations import COMPUTE_PROBLEMS, TENSOR_BODY_FORMATS, Operation, describe_operation
from service.http.response.responses import make_json_response, make_reserved_response
from service.http.routes.catalogue import build_examples

blueprint = Blueprint("bugs", __name__)


@blueprint.get("/v1/bugs")
@describe_operation(Operation("List the bugs that a check names", answer_type=CatalogueOfBugs))
def get_bugs() -> Response:
    """Answer with every bug of the catalogue, and what it looks like."""
    return make_json_response(list_bugs())


@blueprint.post("/v1/bugs")
@describe_operation(
    Operation(
        "List the bugs that a model can have, or plant one",
        answer_type=BugsAnswer,
        body_type=model_language.BugsRequestSchema,
        problems=COMPUTE_PROBLEMS,
        examples=build_examples,
        body_formats=TENSOR_BODY_FORMATS,
    )
)
def post_bugs() -> Response:
    """Answer with the bugs, and with the gradients that one of them makes if it is named."""
    negotiate_media_type(request, JSON)
    with (
        reserve_answer() as held,
        receive_body(request, JSON, *TENSOR_BODY_FORMATS) as body,
        limit_compute_time(),
        acquire_compute(),
    ):
        return make_reserved_response(write_json(simulate_bugs(body.parse(), current_limits())), JSON, held)
