"""`GET /openapi.json`, made from the routes, the types and the registry of ops."""

import re
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, current_app
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from werkzeug.routing import Rule

from schemas.problem_details import MEDIA_TYPE, ProblemDetails
from service.http.body.request_body import JSON
from service.http.operations import (
    AUTHENTICATION_PROBLEM,
    MALFORMED_HEAD_PROBLEM,
    BodyFormat,
    Operation,
    describe_operation,
    get_operation,
)
from service.http.response.responses import make_json_response

blueprint = Blueprint("openapi", __name__)

_DOCUMENT_KEY = "gradcheckd.openapi"
_SECURITY_SCHEME = "key"
_REFERENCE_TEMPLATE = "#/components/schemas/{model}"


class _PlainNames(GenerateJsonSchema):
    """A generator of schemas that names generic models without their parameters."""

    def normalize_name(self, name: str) -> str:
        """Return the name of a definition."""
        return super().normalize_name(name.split("[")[0])


@blueprint.get("/openapi.json")
@describe_operation(Operation("Describe this interface", answer_type=dict[str, Any]))
def get_openapi() -> Response:
    """Answer with the OpenAPI 3.1 document."""
    extensions = current_app.extensions
    if _DOCUMENT_KEY not in extensions:
        extensions[_DOCUMENT_KEY] = _build_document(list(current_app.url_map.iter_rules()))
    return make_json_response(extensions[_DOCUMENT_KEY])


def _build_document(rules: list[Rule]) -> dict[str, Any]:
    views = current_app.view_functions
    operations = [
        (rule, operation)
        for rule in rules
        if (operation := get_operation(views[rule.endpoint])) and operation.is_listed
    ]
    references, components = _build_schemas([operation for _, operation in operations])
    paths: dict[str, dict[str, Any]] = {}
    for rule, operation in operations:
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        for method in sorted(methods):
            identifier = operation.identifier or f"{method.lower()}_{rule.endpoint.replace('.', '_')}"
            operation_object = _operation_to_dict(operation, references, identifier)
            paths.setdefault(_write_path(rule), {})[method.lower()] = operation_object
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gradcheckd",
            "version": "1",
            "description": "A second opinion for gradients: analytic, autograd and finite difference, with a verdict.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {_SECURITY_SCHEME: {"type": "http", "scheme": "bearer"}},
        },
        # An operator may set keys, and need not.
        "security": [{}, {_SECURITY_SCHEME: []}],
    }


def _build_schemas(operations: list[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return the reference of each type by its id, and the definitions of all types."""
    answers: list[Any] = [ProblemDetails, *(answer for operation in operations for answer in operation.answer_types)]
    bodies: list[Any] = [load() for operation in operations if (load := operation.load_body_type) is not None]
    adapters: dict[Any, tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = {}
    for answer in answers:
        adapters[id(answer)] = id(answer), "serialization", TypeAdapter(answer)
    for body in bodies:
        adapters[id(body)] = id(body), "validation", TypeAdapter(body)
    schemas, definitions = TypeAdapter.json_schemas(
        adapters.values(), ref_template=_REFERENCE_TEMPLATE, schema_generator=_PlainNames
    )
    return {key: schema for (key, _), schema in schemas.items()}, definitions.get("$defs", {})


def _operation_to_dict(operation: Operation, references: dict[Any, Any], identifier: str) -> dict[str, Any]:
    # An operation with a body describes 400 itself, in place of the malformed head.
    listed_problems = (
        MALFORMED_HEAD_PROBLEM,
        *(() if operation.is_open else (AUTHENTICATION_PROBLEM,)),
        *operation.problems,
    )
    problems = {
        str(status): {"description": text, "content": {MEDIA_TYPE: {"schema": references[id(ProblemDetails)]}}}
        for status, text in listed_problems
    }
    answer = {operation.media_type: {"schema": references[id(operation.answer_type)]}}
    answer |= _formats_to_dict(operation.answer_formats, references)
    operation_object: dict[str, Any] = {
        "operationId": identifier,
        "summary": operation.summary,
        "responses": {"200": {"description": "The answer.", "content": answer}} | problems,
    }
    if operation.is_open:
        operation_object["security"] = []
    if operation.accepted is not None:
        accepted = {JSON: {"schema": references[id(operation.accepted.answer_type)]}}
        operation_object["responses"]["202"] = {"description": operation.accepted.description, "content": accepted}
    if parameters := _list_parameters(operation):
        operation_object["parameters"] = parameters
    if operation.load_body_type is None:
        if operation.body_formats:
            forms = _formats_to_dict(operation.body_formats, references)
            operation_object["requestBody"] = {"required": True, "content": forms}
    else:
        content: dict[str, Any] = {"schema": references[id(operation.load_body_type())]}
        if operation.examples is not None:
            content["examples"] = operation.examples()
        forms = {JSON: content, **_formats_to_dict(operation.body_formats, references)}
        operation_object["requestBody"] = {"required": True, "content": forms}
    return operation_object


def _write_path(rule: Rule) -> str:
    """Return the address of a rule with its variable parts as OpenAPI writes them."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def _list_parameters(operation: Operation) -> list[dict[str, Any]]:
    """Return the descriptions of the parameters of an operation, those of the address first."""
    parts = [_describe_parameter(name, "path", text) for name, text in operation.path_parameters.items()]
    queries = [
        _describe_parameter(query.name, "query", query.description, query.kind) for query in operation.query_parameters
    ]
    headers = [_describe_parameter(header.name, "header", header.description) for header in operation.header_parameters]
    return [*parts, *queries, *headers]


def _describe_parameter(name: str, place: str, description: str, kind: str = "string") -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": kind},
    }


def _formats_to_dict(formats: Mapping[str, BodyFormat], references: dict[Any, Any]) -> dict[str, Any]:
    """Return the descriptions of forms beside JSON, by media type."""
    content: dict[str, Any] = {}
    for media_type, form in formats.items():
        schema: dict[str, Any] = {"type": "string", "description": form.description}
        if form.is_binary:
            schema["format"] = "binary"
        if form.line_type is not None:
            schema["contentSchema"] = references[id(form.line_type)]
        content[media_type] = {"schema": schema}
    return content
