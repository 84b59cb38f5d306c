"""`GET /v1/ops`, `GET /v1/models`, `GET /v1/bugs`. Their contents load at the first request for them."""

from flask import Blueprint, Response

from schemas.bugs import CatalogueOfBugs
from schemas.report import ModelsAnswer, OpsAnswer
from service.http.operations import Operation, describe_operation
from service.http.response.responses import make_json_response

blueprint = Blueprint("catalogue", __name__)


@blueprint.get("/v1/ops")
@describe_operation(Operation("List the ops of the model language", answer_type=OpsAnswer))
def get_ops() -> Response:
    """Answer with every op, its inputs, its attributes and the derivation of its backward pass."""
    from service.checks.graph import model_language

    return make_json_response(model_language.list_ops())


@blueprint.get("/v1/models")
@describe_operation(Operation("List the preset models", answer_type=ModelsAnswer))
def get_models() -> Response:
    """Answer with every preset and a request that can be posted as it is."""
    from service.checks.graph import model_language

    return make_json_response(model_language.list_models())


@blueprint.get("/v1/bugs")
@describe_operation(
    Operation("List the bugs that a check names", answer_type=CatalogueOfBugs, identifier="get_bugs_get_bugs")
)
def get_bugs() -> Response:
    """Answer with every bug of the catalogue and its description."""
    from service.checks.bugs import list_bugs

    return make_json_response(list_bugs())
