"""`GET /v1/ops`, `GET /v1/models`."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response

from schemas.report import ModelsAnswer, OpsAnswer
from service.checking import language
from service.http.answers import json_answer
from service.http.operation import Operation, documented

blueprint = Blueprint("catalogue", __name__)


def examples(change: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> dict[str, Any]:
    """The presets' requests, or what is made of each, as OpenAPI has examples."""
    return {each["name"]: {"value": change(each["request"])} for each in language.models()["models"]}


@blueprint.get("/v1/ops")
@documented(Operation("List the ops of the model language", answer=OpsAnswer))
def get_ops() -> Response:
    """Answer with every op, its inputs, its attributes and the derivation of its backward pass."""
    return json_answer(language.ops())


@blueprint.get("/v1/models")
@documented(Operation("List the preset models", answer=ModelsAnswer))
def get_models() -> Response:
    """Answer with every preset and a request that can be posted as it is."""
    return json_answer(language.models())
