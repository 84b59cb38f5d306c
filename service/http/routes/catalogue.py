"""`GET /v1/ops`, `GET /v1/models`."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response

from schemas.report import ModelsAnswer, OpsAnswer
from service.checks.graph import model_language
from service.http.operations import Operation, describe_operation
from service.http.response.responses import make_json_response

blueprint = Blueprint("catalogue", __name__)


def build_examples(change: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> dict[str, Any]:
    """The presets' requests, or what is made of each, as OpenAPI has examples."""
    return {each["name"]: {"value": change(each["request"])} for each in model_language.list_models()["models"]}


@blueprint.get("/v1/ops")
@describe_operation(Operation("List the ops of the model language", answer_type=OpsAnswer))
def get_ops() -> Response:
    """Answer with every op, its inputs, its attributes and the derivation of its backward pass."""
    return make_json_response(model_language.list_ops())


@blueprint.get("/v1/models")
@describe_operation(Operation("List the preset models", answer_type=ModelsAnswer))
def get_models() -> Response:
    """Answer with every preset and a request that can be posted as it is."""
    return make_json_response(model_language.list_models())
