"""`GET /openapi.json`: made from the routes, the types and the registry of ops, so that it cannot fall behind them."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, current_app
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from werkzeug.routing import Rule

from schemas.problem import MEDIA_TYPE, Problem
from service.http.answers import json_answer
from service.http.body import JSON
from service.http.operation import HEADLESS, KEYLESS, Form, Operation, documented, operation_of

blueprint = Blueprint("openapi", __name__)

_KEPT = "gradcheckd.openapi"
_BEARER = "key"
_TEMPLATE = "#/components/schemas/{model}"


class _PlainNames(GenerateJsonSchema):
    """Leave the parameters of a generic model out of its name."""

    def normalize_name(self, name: str) -> str:
        """Name of a definition."""
        return super().normalize_name(name.split("[")[0])


@blueprint.get("/openapi.json")
@documented(Operation("Describe this interface", answer=dict[str, Any]))
def get_openapi() -> Response:
    """Answer with the OpenAPI 3.1 document."""
    kept = current_app.extensions
    if _KEPT not in kept:
        kept[_KEPT] = _document(list(current_app.url_map.iter_rules()))
    return json_answer(kept[_KEPT])


def _document(rules: list[Rule]) -> dict[str, Any]:
    views = current_app.view_functions
    operations = [
        (rule, operation) for rule in rules if (operation := operation_of(views[rule.endpoint])) and operation.listed
    ]
    references, components = _schemas([operation for _, operation in operations])
    paths: dict[str, dict[str, Any]] = {}
    for rule, operation in operations:
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        for method in sorted(methods):
            described = _described(operation, references, f"{method.lower()}_{rule.endpoint.replace('.', '_')}")
            paths.setdefault(rule.rule, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gradcheckd",
            "version": "1",
            "description": "A second opinion for gradients: analytic, autograd and finite difference, with a verdict.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": components, "securitySchemes": {_BEARER: {"type": "http", "scheme": "bearer"}}},
        # Whoever runs it may ask for keys, and need not.
        "security": [{}, {_BEARER: []}],
    }


def _schemas(operations: list[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Reference of each type, and the definitions that they refer to."""
    answers: list[Any] = [Problem, *(each for operation in operations for each in operation.answers)]
    bodies: list[Any] = [operation.body for operation in operations if operation.body is not None]
    adapters: dict[Any, tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = {}
    for each in answers:
        adapters[id(each)] = id(each), "serialization", TypeAdapter(each)
    for each in bodies:
        adapters[id(each)] = id(each), "validation", TypeAdapter(each)
    schemas, definitions = TypeAdapter.json_schemas(
        adapters.values(), ref_template=_TEMPLATE, schema_generator=_PlainNames
    )
    return {key: schema for (key, _), schema in schemas.items()}, definitions.get("$defs", {})


def _described(operation: Operation, references: dict[Any, Any], identifier: str) -> dict[str, Any]:
    # Of one that has a body, what its own list says of 400 stands in place of that.
    listed = (HEADLESS, *(() if operation.open else (KEYLESS,)), *operation.problems)
    problems = {
        str(status): {"description": text, "content": {MEDIA_TYPE: {"schema": references[id(Problem)]}}}
        for status, text in listed
    }
    answer = {operation.media_type: {"schema": references[id(operation.answer)]}}
    answer |= _content(operation.answer_forms, references)
    described: dict[str, Any] = {
        "operationId": identifier,
        "summary": operation.summary,
        "responses": {"200": {"description": "The answer.", "content": answer}} | problems,
    }
    if operation.open:
        described["security"] = []
    if operation.body is not None:
        content: dict[str, Any] = {"schema": references[id(operation.body)]}
        if operation.examples is not None:
            content["examples"] = operation.examples()
        forms = {JSON: content, **_content(operation.body_forms, references)}
        described["requestBody"] = {"required": True, "content": forms}
    return described


def _content(forms: Mapping[str, Form], references: dict[Any, Any]) -> dict[str, Any]:
    """What is said of forms beside JSON, by media type."""
    found: dict[str, Any] = {}
    for media_type, form in forms.items():
        schema: dict[str, Any] = {"type": "string", "description": form.description}
        if form.binary:
            schema["format"] = "binary"
        if form.lines is not None:
            schema["contentSchema"] = references[id(form.lines)]
        found[media_type] = {"schema": schema}
    return found
