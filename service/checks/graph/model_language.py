"""The model language: ops as wire types, and models on the wire as graphs."""

import dataclasses
import inspect
import math
import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, Union, cast, get_type_hints

import numpy as np
import orjson
from pydantic import Field, TypeAdapter, create_model

from schemas.bugs import BugsRequest
from schemas.check import CheckRequest, NodeBase
from schemas.curve import CurveRequest
from schemas.model_text import TextNodes
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from schemas.report import ModelsAnswer, OpEntry, OpOutput, OpsAnswer
from schemas.tensor import Tensor
from service.checks.common.request_validation import validate_request
from service.checks.graph.request_cache import find_valid_request, keep_valid_request, make_fields_key
from service.checks.graph.text_form import expand_model_text, write_graph_text
from service.numerics.core.bounded_cache import BoundedCache
from service.numerics.core.precision import DTYPES, ComputeDtype
from service.numerics.model.empty_tensors import remove_empty_tensors
from service.numerics.model.graph import Graph, InvalidModelError, ModelError, Node, Operand
from service.numerics.model.presets import PRESETS, Preset
from service.numerics.ops import OP_REGISTRY, Op
from service.numerics.ops.composite import SeveralOutputsOp
from service.numerics.ops.op import OP_FORMS, Slot


def _build_node_type(op: type[Op]) -> type[NodeBase]:
    """Build the wire type of an op's node: its attributes, name and inputs."""
    hints = get_type_hints(op, include_extras=True)
    attributes: dict[str, Any] = {
        attribute.name: (hints[attribute.name], ... if attribute.default is dataclasses.MISSING else attribute.default)
        for attribute in _list_attributes(op)
    }
    attributes["op"] = (Literal[op.name], ...)
    return create_model(op.name, __base__=NodeBase, __doc__=inspect.getdoc(op), **attributes)


def _list_attributes(op: type[Op]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cast("Any", op))


NODE_TYPES: dict[str, type[NodeBase]] = {name: _build_node_type(op) for name, op in OP_REGISTRY.items()}

AnyNode = Annotated[Union[tuple(NODE_TYPES.values())], Field(discriminator="op")]  # noqa: UP007

CheckRequestSchema = CheckRequest[AnyNode]
CurveRequestSchema = CurveRequest[AnyNode]
BugsRequestSchema = BugsRequest[AnyNode]


def parse_check_request(body: object) -> CheckRequest[NodeBase]:
    """Validate the request of a check.

    Raises
    ------
    InvalidRequestError
        With every error of its form.
    """
    return _validate_model_request(body, CheckRequestSchema)


def parse_curve_request(body: object) -> CurveRequest[NodeBase]:
    """Validate the request of a curve, as `parsed` does that of a check."""
    return _validate_model_request(body, CurveRequestSchema)


def parse_bugs_request(body: object) -> BugsRequest[NodeBase]:
    """Validate the request for bugs, as `parsed` does that of a check."""
    return _validate_model_request(body, BugsRequestSchema)


def _validate_model_request(body: object, schema: type[CheckRequest[Any]]) -> Any:
    """Validate a request with a model in any of its forms."""
    body = expand_model_text(body)
    key = make_fields_key(body)
    known_request = find_valid_request(cast("dict[str, Any]", body), key, schema)
    if known_request is not None:
        return known_request
    model: object = cast("dict[str, Any]", body).get("model") if isinstance(body, dict) else None
    if not isinstance(model, TextNodes):
        request = validate_request(cast("object", body), schema)
        keep_valid_request(request, key)
        return request
    try:
        request = validate_request(cast("object", body), schema)
    except InvalidRequestError as error:
        raise InvalidRequestError(model.move_errors(error.errors)) from None
    cast("CheckRequest[NodeBase]", request).remember_text(model)
    return request


@cache
def _parse_preset_nodes(name: str) -> tuple[NodeBase, ...]:
    adapter: TypeAdapter[NodeBase] = TypeAdapter(cast("Any", AnyNode))
    return tuple(adapter.validate_python(node) for node in PRESETS[name].nodes)


def build_graph(request: CheckRequest[NodeBase]) -> Graph:
    """Build the graph of a request.

    Raises
    ------
    InvalidRequestError
        If names or shapes do not fit.
    """
    try:
        return _build_graph(request, _get_nodes(request))
    except InvalidRequestError as error:
        raise InvalidRequestError(_move_to_model(error.errors, request)) from None


def _move_to_model(errors: Sequence[PlacedError], request: CheckRequest[NodeBase]) -> Sequence[PlacedError]:
    """Move errors at `/model/nodes/0` to where the request has its nodes: in a bare list, or in a text."""
    if not isinstance(request.model, list):
        return errors
    listed = [PlacedError(pointer=re.sub("^/model/nodes", "/model", e["pointer"]), detail=e["detail"]) for e in errors]
    return listed if request.text_nodes is None else request.text_nodes.move_errors(listed)


def _build_graph(request: CheckRequest[NodeBase], listed_nodes: Sequence[NodeBase]) -> Graph:
    tensors = request.tensors | request.weights
    key = _make_structure_key(request, listed_nodes)
    nodes = (
        _build_nodes(request, listed_nodes)
        if key is None
        else _NODES.get_or_make(key, lambda: _build_nodes(request, listed_nodes))
    )
    kinds = _find_leaf_kinds(request, nodes)
    try:
        graph = (
            _connect_nodes(request, nodes, kinds)
            if key is None
            else _GRAPHS.get_or_make(
                (key, tuple((name, tensor.array.shape) for name, tensor in tensors.items()), tuple(kinds.items())),
                lambda: _connect_nodes(request, nodes, kinds),
            )
        )
        graph.check_values({name: tensor.array for name, tensor in tensors.items()})
    except InvalidModelError as errors:
        raise to_request_error(errors, request) from None
    _check_preset_shapes(graph, request)
    return graph


_MAX_CACHED_MODELS = 8
_MAX_CACHED_NODES, _MAX_CACHED_CHARACTERS = 512, 2**16
"""Nodes of a model that is kept, and characters of what it was built from: it takes some kilobytes for each node."""
_NODES: BoundedCache[tuple[Node, ...]] = BoundedCache(_MAX_CACHED_MODELS)
_GRAPHS: BoundedCache[Graph] = BoundedCache(_MAX_CACHED_MODELS)


def _make_structure_key(request: CheckRequest[NodeBase], nodes: Sequence[NodeBase]) -> Hashable | None:
    """Return all that the nodes of a graph follow from, or None for a model too large to be kept."""
    if len(nodes) > _MAX_CACHED_NODES:
        return None
    text = repr([(type(node).__name__, node.__dict__) for node in nodes])
    return None if len(text) > _MAX_CACHED_CHARACTERS else (request.dtype, text)


def _build_nodes(request: CheckRequest[NodeBase], listed_nodes: Sequence[NodeBase]) -> tuple[Node, ...]:
    dtype = DTYPES[request.dtype]
    return tuple(_build_node(node, position, dtype) for position, node in enumerate(listed_nodes))


def _connect_nodes(request: CheckRequest[NodeBase], nodes: Sequence[Node], kinds: Mapping[str, str]) -> Graph:
    """Return the graph of some nodes at the leaves of a request, given those that are no floats."""
    dtype, leaves = DTYPES[request.dtype], request.tensors | request.weights
    graph = Graph(nodes, {name: tensor.array.shape for name, tensor in leaves.items()}, kinds).resolve_shape_defaults()
    return remove_empty_tensors(graph.round_constants(dtype.precision.round_number) if dtype.is_narrow else graph)


def _check_preset_shapes(graph: Graph, request: CheckRequest[NodeBase]) -> None:
    """Refuse tensors that a preset would broadcast where it takes one element each.

    Raises
    ------
    InvalidRequestError
        With both shapes.
    """
    if not isinstance(request.model, str):
        return
    if errors := [
        error_at(
            f"must have one element for each of node {quote_name(node)}, shape {list(graph.all_shapes[node])}; its "
            f"shape is {list(graph.all_shapes[name])}",
            "weights" if name in request.weights else "tensors",
            name,
        )
        for name, node in PRESETS[request.model].shaped_like.items()
        if graph.all_shapes[name] != graph.all_shapes[node]
    ]:
        raise InvalidRequestError(errors)


def to_request_error(errors: InvalidModelError, request: CheckRequest[NodeBase]) -> InvalidRequestError:
    """Locate the errors of a model in its request."""
    listed_nodes, leaves = _get_nodes(request), request.tensors.keys() | request.weights.keys()
    placed_errors = [_place_error(error, request, listed_nodes, leaves) for error in errors.errors]
    return InvalidRequestError(_move_to_model(placed_errors, request))


_SLOT_KIND_BY_DATATYPE_KIND = {"float": "float", "integer": "index", "boolean": "bool"}


def _find_leaf_kinds(request: CheckRequest[NodeBase], nodes: Sequence[Node]) -> dict[str, str]:
    """Return the kinds of the leaves that are no floats, as declared or as used."""
    wanted_kinds = _find_wanted_kinds(nodes)
    kinds = {
        name: _SLOT_KIND_BY_DATATYPE_KIND[tensor.datatype.kind]
        if tensor.datatype is not None
        else _infer_bare_kind(tensor, wanted_kinds[name])
        for name, tensor in request.tensors.items()
    }
    return {name: kind for name, kind in kinds.items() if kind != "float"}


def _find_wanted_kinds(nodes: Sequence[Node]) -> Mapping[str, set[tuple[str, ...]]]:
    """Return the kinds of the slots that use each name."""
    wanted_kinds: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for node in nodes:
        for operand, slot in zip(node.operands, node.operand_slots, strict=True):
            if isinstance(operand, str):
                wanted_kinds[operand].add(slot.kinds)
    return wanted_kinds


def _infer_bare_kind(tensor: Tensor, wanted_kinds: set[tuple[str, ...]]) -> str:
    if not tensor.is_integral or tensor.array.dtype.kind != "i":
        return "float"
    if any(kinds[0] == "index" for kinds in wanted_kinds):
        return "index"
    truths = wanted_kinds == {("bool",)} and ((tensor.array == 0) | (tensor.array == 1)).all()
    return "bool" if truths else "float"


def _get_nodes(request: CheckRequest[NodeBase]) -> Sequence[NodeBase]:
    if not isinstance(request.model, str):
        return request.model if isinstance(request.model, list) else request.model.nodes
    if request.model not in PRESETS:
        known = ", ".join(PRESETS)
        raise InvalidRequestError(
            [
                error_at(
                    f"no preset is named {quote_name(request.model)}; there are: {known}; a text has a node a line, "
                    "such as loss = sum(x)",
                    "model",
                )
            ]
        )
    return _parse_preset_nodes(request.model)


def _build_node(node: NodeBase, position: int, dtype: ComputeDtype) -> Node:
    op_type = OP_REGISTRY[cast("Any", node).op]
    attributes = {attribute.name: getattr(node, attribute.name) for attribute in _list_attributes(op_type)}
    _drop_dtype(attributes, op_type, position, dtype)
    op = op_type(**attributes)
    graph_node = Node(
        node.name,
        op.resolve_dtype_defaults(float(np.finfo(dtype.storage_dtype).eps)),
        _parse_operands(node, op_type, position),
    )
    if not dtype.is_narrow:
        return graph_node
    for constant in graph_node.round_constants(dtype.precision.round_number).operands:
        if isinstance(constant, float) and not math.isfinite(constant):
            detail = f"a number too large for dtype {dtype.name}"
            raise InvalidRequestError([error_at(detail, "model", "nodes", position, "inputs")])
    return graph_node


def _drop_dtype(attributes: dict[str, Any], op: type[Op], position: int, dtype: ComputeDtype) -> None:
    """Drop the dtype that a node names, or refuse one that is not the model's."""
    if attributes.get("dtype") not in (None, dtype.name):
        detail = (
            f"{op.name} computes in {dtype.name}, the dtype of the request, as every node does: leave this out, or set"
            f" dtype of the request to {attributes['dtype']}"
        )
        raise InvalidRequestError([error_at(detail, "model", "nodes", position, "dtype")])
    if "dtype" in attributes:
        attributes["dtype"] = None


def _parse_operands(node: NodeBase, op: type[Op], position: int) -> tuple[Operand, ...]:
    """Return the operands in slot order, from either form of `inputs`."""
    expected_text = f"{op.name} takes {', '.join(map(_describe_slot, op.slots))}"
    path = ("model", "nodes", position, "inputs")
    inputs = {
        name: operands
        for name, operands in _group_by_slot(node.inputs, op.slots, expected_text, path).items()
        if operands != [None]
    }
    if nulls := [name for name, operands in inputs.items() if None in operands]:
        raise InvalidRequestError([error_at(f"{expected_text}; null is none of {', '.join(nulls)}", *path)])
    if missing := [slot.name for slot in op.slots if not slot.optional and not inputs.get(slot.name)]:
        raise InvalidRequestError([error_at(f"{expected_text}; {', '.join(missing)} is missing", *path)])
    parsed_operands: list[Operand] = []
    for slot in op.slots:
        operands = inputs.get(slot.name, [None])
        if len(operands) != 1 and not slot.variadic:
            raise InvalidRequestError([error_at(f"{expected_text}; {slot.name} is one tensor", *path)])
        parsed_operands.extend(operands)
    return tuple(parsed_operands)


def _describe_slot(slot: Slot) -> str:
    return slot.name + (" (optional)" if slot.optional else " (one or more)" if slot.variadic else "")


def _group_by_slot(
    inputs: Any, slots: tuple[Slot, ...], expected_text: str, path: tuple[str | int, ...]
) -> dict[str, list[Operand]]:
    """Return the operands by the name of their slot."""
    names = [slot.name for slot in slots]
    if isinstance(inputs, dict):
        by_name = cast("dict[str, Any]", inputs)
        if unknown_slots := [name for name in by_name if name not in names]:
            raise InvalidRequestError([error_at(f"{expected_text}; not this", *path, name) for name in unknown_slots])
        return {name: _as_list(operand) for name, operand in by_name.items()}
    listed_operands = cast("list[Any]", inputs)
    if slots[-1].variadic and len(listed_operands) >= len(slots):
        last_operands = [
            operand for slot_operands in listed_operands[len(slots) - 1 :] for operand in _as_list(slot_operands)
        ]
        listed_operands = [*listed_operands[: len(slots) - 1], last_operands]
    if len(listed_operands) > len(slots):
        raise InvalidRequestError([error_at(f"{expected_text}; {len(listed_operands)} inputs were given", *path)])
    return {name: _as_list(operand) for name, operand in zip(names, listed_operands, strict=False)}


def _as_list(operand: Any) -> list[Operand]:
    return cast("list[Operand]", operand) if isinstance(operand, list) else [operand]


def _place_error(
    error: ModelError, request: CheckRequest[NodeBase], nodes: Sequence[NodeBase], leaves: Collection[str]
) -> PlacedError:
    """Locate an error of the graph: at the client's model, or else at the tensor."""
    path: tuple[str | int, ...]
    if error.leaf is not None and error.leaf in leaves:
        path = ("weights" if error.leaf in request.weights else "tensors", error.leaf)
    elif not isinstance(request.model, str):
        path = ("model", "nodes") if error.node is None else ("model", "nodes", error.node)
    else:
        path = _find_path_beside_preset(error, PRESETS[request.model], request, nodes)
    return error_at(f"{error}{_describe_model(request)}", *path)


def _describe_model(request: CheckRequest[NodeBase]) -> str:
    """Name the preset that an error speaks of, if the client wrote no nodes."""
    if not isinstance(request.model, str):
        return ""
    default_note = "" if "model" in request.model_fields_set else ", which is meant where no `model` is given"
    return f" (in the preset {request.model}{default_note})"


def _find_path_beside_preset(
    error: ModelError, preset: Preset, request: CheckRequest[NodeBase], nodes: Sequence[NodeBase]
) -> tuple[str, ...]:
    if error.leaf is not None:
        return ("weights" if error.leaf in preset.weights else "tensors", error.leaf)
    tensors = request.tensors | request.weights
    leaves_behind = [] if error.node is None else _find_leaves_behind(nodes, error.node, tensors)
    # Where a shape has the dimensions of the example it is less likely at fault than where it has not.
    example = {**preset.tensors, **preset.weights}
    odd = [name for name in leaves_behind if tensors[name].array.ndim != Tensor.decode(example[name]).array.ndim]
    for name in (odd or leaves_behind)[:1]:
        return ("weights" if name in request.weights else "tensors", name)
    return ("model",)


def _find_leaves_behind(nodes: Sequence[NodeBase], position: int, leaves: Collection[str]) -> list[str]:
    """Return the leaves that a preset's node depends on, its own inputs first.

    Its last input comes before the others.
    """
    by_name = {node.name: node for node in nodes}
    pending, leaves_behind = [nodes[position].name], list[str]()
    while pending:
        read = [name for value in by_name[pending.pop(0)].inputs for name in _as_list(value) if isinstance(name, str)]
        leaves_behind.extend(name for name in reversed(read) if name in leaves and name not in leaves_behind)
        pending.extend(name for name in read if name in by_name and name not in pending)
    return leaves_behind


def count_graph_bytes(graph: Graph) -> int:
    """Return the bytes of a graph as it is written, as nodes and as text."""
    return (_count_bytes_once if len(graph.nodes) <= _MAX_CACHED_NODES else _count_bytes)(graph)


def _count_bytes(graph: Graph) -> int:
    return len(orjson.dumps(graph_to_dict(graph))) + len(orjson.dumps(write_cached_text(graph)))


_count_bytes_once = lru_cache(_MAX_CACHED_MODELS)(_count_bytes)
_write_text_once = lru_cache(_MAX_CACHED_MODELS)(write_graph_text)


def write_cached_text(graph: Graph) -> str:
    """Write a graph as text; the text of a small graph is kept."""
    return (_write_text_once if len(graph.nodes) <= _MAX_CACHED_NODES else write_graph_text)(graph)


def graph_to_dict(graph: Graph) -> list[dict[str, Any]]:
    """Write a graph as in a request, every default spelled out; the nodes of a small graph are kept."""
    if len(graph.nodes) > _MAX_CACHED_NODES:
        return _write_nodes(graph)
    # A caller may change its copies.
    return [{**node, "inputs": node["inputs"].copy()} for node in _write_nodes_once(graph)]


def _write_nodes(graph: Graph) -> list[dict[str, Any]]:
    return [
        {
            "name": node.name,
            "op": node.op.name,
            "inputs": _encode_inputs(node),
            **{attribute.name: getattr(node.op, attribute.name) for attribute in _list_attributes(type(node.op))},
        }
        for node in graph.listed_nodes
    ]


_write_nodes_once = lru_cache(_MAX_CACHED_MODELS)(_write_nodes)


def _encode_inputs(node: Node) -> list[str | float] | dict[str, str | float]:
    operands = [operand for operand in node.operands if operand is not None]
    if None not in node.operands[: len(operands)]:
        return operands
    return {
        slot.name: operand
        for slot, operand in zip(node.operand_slots, node.operands, strict=True)
        if operand is not None
    }


@cache
def list_ops() -> OpsAnswer:
    """List the ops, for `GET /v1/ops`."""
    return {"ops": [_build_op_entry(op) for _, op in sorted(OP_REGISTRY.items())]}


def _build_op_entry(op: type[Op]) -> OpEntry:
    schema = NODE_TYPES[op.name].model_json_schema()
    attributes = {attribute.name for attribute in _list_attributes(op)}
    return {
        "name": op.name,
        "inputs": [
            {"name": slot.name, "optional": slot.optional, "several": slot.variadic, "of": list(slot.kinds)}
            for slot in op.slots
        ],
        "outputs": _list_op_outputs(op),
        "attributes": {
            "type": "object",
            "properties": {
                name: property_schema for name, property_schema in schema["properties"].items() if name in attributes
            },
            "required": [name for name in schema["required"] if name in attributes],
            "additionalProperties": False,
        },
        "inner_casts": list(op.inner_casts),
        "backward": inspect.getdoc(op) or "",
        "bugs": [{"name": name, "explanation": text} for name, text in _list_bugs(op)],
    }


def _list_bugs(op: type[Op]) -> list[tuple[str, str]]:
    """Return the name and the explanation of each bug of all forms of an op, once."""
    forms = (op, *(form for (name, _), form in OP_FORMS.items() if name == op.name))
    return [*dict.fromkeys((bug.bug_name, bug.explanation) for form in forms for bug in form.bugs.values())]


def _list_op_outputs(op: type[Op]) -> list[OpOutput]:
    if not issubclass(op, SeveralOutputsOp):
        return [{"name": None, "of": op.output_kind}]
    return [{"name": name, "of": op.output_kinds.get(name, "float")} for name in op.output_names or ("*",)]


@cache
def list_models() -> ModelsAnswer:
    """List the presets, for `GET /v1/models`."""
    return {
        "models": [
            {
                "name": preset.name,
                "description": preset.description,
                "request": preset.example_request,
                "text": write_graph_text(build_graph(parse_check_request(preset.example_request))),
            }
            for preset in PRESETS.values()
        ]
    }
