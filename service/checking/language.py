"""The model language: what the registry of ops looks like on the wire, and how a model on the wire becomes a graph."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError, create_model

from schemas.check import CheckRequest, NodeBase
from schemas.problem import InvalidRequestError, PlacedError, from_validation, placed, shown
from schemas.report import ModelsAnswer, OpEntry, OpsAnswer
from service.numerics.graph import Graph, InvalidModelError, ModelError, Node, Operand
from service.numerics.models import PRESETS, Preset
from service.numerics.ops import REGISTRY, Op
from service.numerics.tiles import Shape


def _node_type(op: type[Op]) -> type[NodeBase]:
    """Wire form of an op's node: the attributes of the op beside name and inputs."""
    hints = get_type_hints(op, include_extras=True)
    attributes: dict[str, Any] = {
        each.name: (hints[each.name], ... if each.default is dataclasses.MISSING else each.default)
        for each in _attributes(op)
    }
    attributes["op"] = (Literal[op.name], ...)
    return create_model(op.name, __base__=NodeBase, __doc__=inspect.getdoc(op), **attributes)


def _attributes(op: type[Op]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cast("Any", op))


NODE_TYPES: dict[str, type[NodeBase]] = {name: _node_type(op) for name, op in REGISTRY.items()}

AnyNode = Annotated[Union[tuple(NODE_TYPES.values())], Field(discriminator="op")]  # noqa: UP007

Request = CheckRequest[AnyNode]


def parsed(body: object) -> CheckRequest[NodeBase]:
    """Validate a request.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with its form.
    """
    try:
        return cast("CheckRequest[NodeBase]", Request.model_validate(body))
    except ValidationError as error:
        raise InvalidRequestError(from_validation(error, body, CheckRequest.model_fields)) from None


@cache
def _preset_nodes(name: str) -> tuple[NodeBase, ...]:
    adapter: TypeAdapter[NodeBase] = TypeAdapter(cast("Any", AnyNode))
    return tuple(adapter.validate_python(node) for node in PRESETS[name].nodes)


def graph_of(request: CheckRequest[NodeBase]) -> Graph:
    """Build the graph of a request.

    Raises
    ------
    InvalidRequestError
        Where names or shapes do not fit.
    """
    nodes = _nodes_of(request)
    leaves = {name: tensor.array.shape for name, tensor in (request.tensors | request.weights).items()}
    try:
        return Graph([_built(node, position) for position, node in enumerate(nodes)], leaves)
    except InvalidModelError as errors:
        raise InvalidRequestError([_placed(error, request, nodes, leaves) for error in errors.errors]) from None


def _nodes_of(request: CheckRequest[NodeBase]) -> Sequence[NodeBase]:
    if not isinstance(request.model, str):
        return request.model.nodes
    if request.model not in PRESETS:
        known = ", ".join(PRESETS)
        raise InvalidRequestError([placed(f"no preset is named {shown(request.model)}; there are: {known}", "model")])
    return _preset_nodes(request.model)


def _built(node: NodeBase, position: int) -> Node:
    op_type = REGISTRY[cast("Any", node).op]
    op = op_type(**{each.name: getattr(node, each.name) for each in _attributes(op_type)})
    return Node(node.name, op, _operands(node, op_type, position))


def _operands(node: NodeBase, op: type[Op], position: int) -> tuple[Operand, ...]:
    """Operands in slot order, from either form of `inputs`."""
    slots = [slot.name for slot in op.slots]
    takes = f"{op.name} takes {', '.join(op.inputs)}".replace("?", " (optional)")
    where = ("model", "nodes", position, "inputs")
    given: dict[str, Operand]
    inputs: Any = node.inputs
    if isinstance(inputs, dict):
        given = cast("dict[str, Operand]", inputs)
        if unknown := [name for name in given if name not in slots]:
            raise InvalidRequestError([placed(f"{takes}; not this", *where, name) for name in unknown])
    else:
        listed = cast("list[Operand]", inputs)
        if len(listed) > len(slots):
            raise InvalidRequestError([placed(f"{takes}; {len(listed)} inputs were given", *where)])
        given = dict(zip(slots, listed, strict=False))
    if missing := [slot.name for slot in op.slots if not slot.optional and slot.name not in given]:
        raise InvalidRequestError([placed(f"{takes}; {', '.join(missing)} is missing", *where)])
    return tuple(given.get(slot) for slot in slots)


def _placed(
    error: ModelError, request: CheckRequest[NodeBase], nodes: Sequence[NodeBase], leaves: Mapping[str, Shape]
) -> PlacedError:
    """Place an error of the graph: at the model where the client wrote it, else at the tensor that does not fit it."""
    path: tuple[str | int, ...]
    if error.leaf is not None and error.leaf in leaves:
        path = ("weights" if error.leaf in request.weights else "tensors", error.leaf)
    elif not isinstance(request.model, str):
        path = ("model", "nodes") if error.node is None else ("model", "nodes", error.node)
    else:
        path = _path_beside_preset(error, PRESETS[request.model], request, nodes)
    return placed(str(error), *path)


def _path_beside_preset(
    error: ModelError, preset: Preset, request: CheckRequest[NodeBase], nodes: Sequence[NodeBase]
) -> tuple[str, ...]:
    if error.leaf is not None:
        return ("weights" if error.leaf in preset.weights else "tensors", error.leaf)
    read: list[str] = [] if error.node is None else cast("list[str]", nodes[error.node].inputs)
    for name in reversed(read):
        if name in request.weights or name in request.tensors:
            return ("weights" if name in request.weights else "tensors", name)
    return ("model",)


def resolved(graph: Graph) -> list[dict[str, Any]]:
    """Write a graph as in a request, every default spelled out."""
    return [
        {
            "name": node.name,
            "op": node.op.name,
            "inputs": _wire_inputs(node),
            **{each.name: getattr(node.op, each.name) for each in _attributes(type(node.op))},
        }
        for node in graph.listed
    ]


def _wire_inputs(node: Node) -> list[str | float] | dict[str, str | float]:
    given = {
        slot.name: operand for slot, operand in zip(node.op.slots, node.operands, strict=True) if operand is not None
    }
    in_a_row = None not in node.operands[: len(given)]
    return list(given.values()) if in_a_row else given


@cache
def ops() -> OpsAnswer:
    """List the ops, for `GET /v1/ops`."""
    return {"ops": [_op_entry(op) for _, op in sorted(REGISTRY.items())]}


def _op_entry(op: type[Op]) -> OpEntry:
    schema = NODE_TYPES[op.name].model_json_schema()
    attributes = {each.name for each in _attributes(op)}
    return {
        "name": op.name,
        "inputs": [{"name": slot.name, "optional": slot.optional} for slot in op.slots],
        "attributes": {
            "type": "object",
            "properties": {name: each for name, each in schema["properties"].items() if name in attributes},
            "required": [name for name in schema["required"] if name in attributes],
            "additionalProperties": False,
        },
        "backward": inspect.getdoc(op) or "",
    }


@cache
def models() -> ModelsAnswer:
    """List the presets, for `GET /v1/models`."""
    return {
        "models": [
            {"name": preset.name, "description": preset.description, "request": preset.request}
            for preset in PRESETS.values()
        ]
    }
