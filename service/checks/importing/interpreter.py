"""The walk through a file: each node becomes numbers, nodes of the service, or the body of a function."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import onnx

from schemas.problem_details import quote_name
from service.checks.common.limits import Limits
from service.checks.importing import folding
from service.checks.importing.control_flow import CONTROL_OPERATORS, GraphRunner
from service.checks.importing.functions import find_function, make_function_inputs
from service.checks.importing.graph_writer import GraphWriter
from service.checks.importing.import_errors import (
    ErrorList,
    LimitError,
    ModelFileError,
    OperatorUseError,
    UnsupportedOperatorError,
)
from service.checks.importing.model_file import DEFAULT_DOMAINS, ModelFile, find_function_opset
from service.checks.importing.naming import make_value_name, name_anonymous_initialisers
from service.checks.importing.operator_registry import Handler, NodeCall, as_list, find_handler
from service.checks.importing.scope import NodePlace, Slot, ValueScope
from service.checks.importing.stored_tensors import read_tensor
from service.checks.importing.values import MISSING, Known, Missing, Origin, Symbol, Value
from service.numerics.core.interrupts import check_interrupt

_MAX_FUNCTION_DEPTH = 16
_STEPS_PER_NODE = 100
"""Nodes of the file, those of functions and of repetitions included, for each node that a model may have."""
_FOLDED_PER_ELEMENT = 8
"""Elements of all constants that are computed, for each element that a model may have."""


class Interpreter:
    """The walk through one file.

    Parameters
    ----------
    file
        File with its functions.
    writer
        Receiver of the nodes.
    """

    def __init__(self, file: ModelFile, writer: GraphWriter) -> None:
        self.file, self.writer = file, writer
        self.errors = ErrorList()
        self._steps = 0
        self._folded = 0

    @property
    def limits(self) -> Limits:
        """Return the limits of the request."""
        return self.writer.limits

    def run_nodes(self, nodes: Sequence[onnx.NodeProto], outputs: Iterable[str], place: NodePlace) -> None:
        """Run the nodes that some outputs need, in their order; errors are collected."""
        for position in list_needed_nodes(nodes, outputs):
            node = nodes[position]
            self._run_node(node, place if place.is_inner else replace(place, path=(*place.path, "node", position)))

    def _run_node(self, node: onnx.NodeProto, place: NodePlace) -> None:
        check_interrupt()
        self._steps += 1
        if self._steps > _STEPS_PER_NODE * self.limits.nodes:
            raise LimitError(f"the model would take more than {_STEPS_PER_NODE * self.limits.nodes} nodes of the file")
        try:
            results = self._compute(node, place)
            if len(results) < len(node.output):
                raise OperatorUseError(f"has {len(node.output)} outputs; {len(results)} are taken")
            for name, value in zip(node.output, results, strict=False):
                if name:
                    place.scope.define(name, _name_value(value, name))
        except LimitError as error:
            error.node = error.node or f"{node.op_type} {quote_name(_get_node_name(node))}"
            raise
        except ModelFileError as error:
            self._record_error(error, node, place)
            for name in filter(None, node.output):
                place.scope.values.setdefault(name, MISSING)

    def _record_error(self, error: ModelFileError, node: onnx.NodeProto, place: NodePlace) -> None:
        inside = f", inside the function {place.functions[-1][1]}" if place.functions else ""
        name = _get_node_name(node)
        if isinstance(error, UnsupportedOperatorError):
            self.errors.add(UnsupportedOperatorError(error.operator, f"{error.reason}{inside}"), place.path, name)
        else:
            text = f"{node.op_type} {quote_name(name)} {error}" if isinstance(error, OperatorUseError) else str(error)
            self.errors.add(ModelFileError(f"{text}{inside}"), place.path)

    def _compute(self, node: onnx.NodeProto, place: NodePlace) -> Sequence[Slot]:
        """Return the values of the outputs of a node."""
        inputs = [place.scope.find(name) if name else None for name in node.input]
        for value in inputs:
            if isinstance(value, Missing) and value.reason:
                raise OperatorUseError(f"reads {value.reason}; that is not taken")
        attributes = self.read_attributes(node.attribute, place)
        function = self.file.functions.get((node.domain, node.op_type))
        if function is not None:
            return self._run_function(function, inputs, attributes, node, place)
        if node.domain not in DEFAULT_DOMAINS:
            raise UnsupportedOperatorError(
                f"{node.domain}.{node.op_type}",
                "is of another domain than that of ONNX, and the file has no function of that name: export without "
                "fused operators, or with that function",
            )
        attributes = _add_defaults(node.op_type, place.opset, attributes)
        if node.op_type in CONTROL_OPERATORS:
            if _any_missing(inputs):
                return [MISSING] * len(node.output)
            values = cast("list[Value | None]", list(inputs))
            self.writer.base_name = _make_base_name(node, place)
            call = NodeCall(node.op_type, values, attributes, len(node.output), place.opset, self.writer)
            first_node = self.writer.node_count
            results = _call_control(self, call, place)
            self._name_results(node, results, first_node, place)
            return results
        return self._compute_operator(node, inputs, attributes, place)

    def _compute_operator(
        self, node: onnx.NodeProto, inputs: Sequence[Slot], attributes: Mapping[str, Any], place: NodePlace
    ) -> Sequence[Slot]:
        handler, folder = find_handler(node.op_type, place.opset), folding.find_folder(node.op_type)
        if _any_missing(inputs):
            if handler is None and folder is None and find_function(node, place.opset, None) is None:
                raise UnsupportedOperatorError(node.op_type, _describe_unknown(node.op_type))
            return [MISSING] * len(node.output)
        values = cast("list[Value | None]", list(inputs))
        call = NodeCall(node.op_type, values, attributes, len(node.output), place.opset, self.writer)
        if folder is not None and _is_foldable(values):
            return self._fold(call, folder)
        if handler is not None:
            first_node = self.writer.node_count
            self.writer.base_name = _make_base_name(node, place)
            results = _call_handler(handler, call)
            self._name_results(node, results, first_node, place)
            return results
        if folder is not None and all(isinstance(value, Known) and value.origin != "drawn" for value in values):
            # Initialisers of floats are weights, but here, as in a Range, they are constants.
            return self._fold(call, folder)
        function = find_function(node, place.opset, make_function_inputs(values))
        if function is None:
            reason = (
                "computes no floats, and its inputs are no constants" if folder else _describe_unknown(node.op_type)
            )
            raise UnsupportedOperatorError(node.op_type, reason)
        return self._run_function(function, inputs, attributes, node, place)

    def _fold(self, call: NodeCall, folder: folding.Folder) -> Sequence[Value]:
        """Compute constants by NumPy."""
        known = [value for value in call.inputs if isinstance(value, Known)]
        for value in known:
            value.redraw = None
        arrays = [value.array if isinstance(value, Known) else None for value in call.inputs]
        try:
            with np.errstate(all="ignore"):
                results = folder(call, arrays)
        except (ValueError, IndexError, TypeError, OverflowError, AttributeError, KeyError) as error:
            raise OperatorUseError(f"cannot be computed of its constants: {str(error)[:200]}") from None
        self._folded += sum(result.size for result in results)
        if self._folded > _FOLDED_PER_ELEMENT * self.limits.elements:
            raise LimitError("the constants of the model would have too many elements")
        drawn = next((value for value in known if value.origin == "drawn"), None)
        name = "constant" if drawn is None else drawn.name
        return [Known(np.asarray(array), name, origin="drawn" if drawn else "constant") for array in results]

    def _run_function(
        self,
        function: onnx.FunctionProto,
        inputs: Sequence[Slot],
        attributes: Mapping[str, Any],
        node: onnx.NodeProto,
        place: NodePlace,
    ) -> Sequence[Slot]:
        key = function.domain, function.name
        if key in place.functions:
            raise OperatorUseError(f"uses the function {quote_name(function.name)}, which uses itself")
        if len(place.functions) >= _MAX_FUNCTION_DEPTH:
            raise OperatorUseError(f"lies in more than {_MAX_FUNCTION_DEPTH} functions")
        if len(inputs) > len(function.input):
            raise OperatorUseError(f"has {len(inputs)} inputs; the function takes {len(function.input)}")
        padded = [*inputs, *[None] * (len(function.input) - len(inputs))]
        scope = ValueScope(dict(zip(function.input, padded, strict=True)), produced=list_outputs(function.node))
        defaults = self.read_attributes(function.attribute_proto, place)
        opset = find_function_opset(function, place.opset)
        inner = NodePlace(
            scope,
            opset,
            place.path,
            (*place.functions, key),
            {**defaults, **attributes},
            is_inner=True,
            call_name=_make_base_name(node, place),
        )
        first_node = self.writer.node_count
        wanted = [formal for formal, name in zip(function.output, node.output, strict=False) if name]
        self.run_nodes(function.node, wanted, inner)
        results = [scope.find(name) if name in wanted else None for name in function.output]
        self._name_results(node, results, first_node, place)
        return results

    def _name_results(self, node: onnx.NodeProto, results: Iterable[Slot], first_node: int, place: NodePlace) -> None:
        """Name the results of the nodes since a position after the outputs of a node of the file."""
        for name, value in zip(node.output, results, strict=False):
            if name and isinstance(value, Symbol):
                self.writer.rename(value, place.make_name(make_value_name(node, name)), first_node)

    def read_attributes(self, attributes: Iterable[onnx.AttributeProto], place: NodePlace) -> dict[str, Any]:
        """Return attributes by name; those that refer to a function's own have its values."""
        found: dict[str, Any] = {}
        for attribute in attributes:
            if attribute.ref_attr_name:
                if attribute.ref_attr_name in place.attributes:
                    found[attribute.name] = place.attributes[attribute.ref_attr_name]
            else:
                found[attribute.name] = self._read_attribute(attribute)
        return found

    def _read_attribute(self, attribute: onnx.AttributeProto) -> Any:
        kinds = onnx.AttributeProto
        if attribute.type == kinds.TENSOR:
            return read_tensor(attribute.t, self.limits, attribute.name)[0]
        if attribute.type == kinds.STRING:
            return attribute.s.decode("utf-8", "replace")
        if attribute.type == kinds.STRINGS:
            return [text.decode("utf-8", "replace") for text in attribute.strings]
        scalars = {kinds.FLOAT: "f", kinds.INT: "i", kinds.GRAPH: "g"}
        if attribute.type in scalars:
            return getattr(attribute, scalars[attribute.type])
        lists = {kinds.FLOATS: "floats", kinds.INTS: "ints"}
        if attribute.type in lists:
            return list(getattr(attribute, lists[attribute.type]))
        raise OperatorUseError(f"has the attribute {quote_name(attribute.name)} of a type that is not taken")

    def run_graph(self, graph: onnx.GraphProto, inputs: Sequence[Slot], place: NodePlace) -> list[Slot]:
        """Run a graph inside a node, and return its outputs."""
        if len(inputs) != len(graph.input):
            raise OperatorUseError(f"has a graph with {len(graph.input)} inputs, which gets {len(inputs)}")
        scope = ValueScope(parent=place.scope)
        self.define_initialisers(graph, scope, origin="constant")
        for formal, value in zip(graph.input, inputs, strict=True):
            scope.define(formal.name, value)
        scope.produced = list_outputs(graph.node)
        names = [output.name for output in graph.output]
        self.run_nodes(graph.node, names, replace(place, scope=scope, is_inner=True))
        return [scope.find(name) for name in names]

    def define_initialisers(
        self, graph: onnx.GraphProto, scope: ValueScope, origin: Origin, needed: Collection[str] | None = None
    ) -> None:
        """Define the initialisers of a graph: floats are weights, or constants in a graph inside a node.

        Minus infinity makes a constant mask of them. Those that nobody needs are not read. Errors are collected.
        """
        for position, sparse in enumerate(graph.sparse_initializer[:1]):
            text = f"the tensor {quote_name(sparse.values.name)} is sparse (sparse_initializer); save it as a dense one"
            self.errors.add(ModelFileError(text), ("graph", "sparse_initializer", position))
        names = name_anonymous_initialisers(graph)
        for position, tensor in enumerate(graph.initializer):
            if needed is not None and tensor.name not in needed:
                continue
            try:
                array, datatype = read_tensor(tensor, self.limits, tensor.name)
                kind = origin if array.dtype.kind == "f" and not np.isneginf(array).any() else "constant"
                scope.define(tensor.name, Known(array, names.get(tensor.name, tensor.name), datatype, kind))
            except ModelFileError as error:
                self.errors.add(error, ("graph", "initializer", position))
                scope.values.setdefault(tensor.name, MISSING)


def _get_node_name(node: onnx.NodeProto) -> str:
    return node.name or next(iter(node.output), "")


def _call_handler(handler: Handler, call: NodeCall) -> list[Slot]:
    try:
        return as_list(handler(call))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # The attributes of a file may have any type and any length.
        raise OperatorUseError("has attributes, inputs and outputs that do not fit one another") from None


def _call_control(runner: GraphRunner, call: NodeCall, place: NodePlace) -> Sequence[Slot]:
    try:
        return CONTROL_OPERATORS[call.operator](runner, call, place)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise OperatorUseError("has attributes, inputs and outputs that do not fit one another") from None


def _any_missing(values: Sequence[Slot]) -> bool:
    return any(isinstance(value, Missing) for value in values)


def _is_foldable(values: Sequence[Value | None]) -> bool:
    """Return whether all inputs are numbers that no derivative is taken by."""
    return all(
        value is None or (isinstance(value, Known) and not (value.is_float and value.origin != "constant"))
        for value in values
    )


def _describe_unknown(operator: str) -> str:
    if operator not in {schema.name for schema in onnx.defs.get_all_schemas()}:
        return "is no operator of ONNX"
    return "is not among the operators that are taken"


def _add_defaults(operator: str, opset: int, attributes: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults that ONNX declares for the attributes of an operator."""
    try:
        schema = onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return attributes
    for name, attribute in schema.attributes.items():
        if name not in attributes and attribute.default_value.type:
            attributes[name] = _decode(onnx.helper.get_attribute_value(attribute.default_value))
    return attributes


def _decode(value: Any) -> Any:
    """Return the value of an attribute with text in place of bytes."""
    if isinstance(value, list):
        return [_decode(part) for part in cast("list[Any]", value)]
    return value.decode() if isinstance(value, bytes) else value


def _name_value(value: Slot, name: str) -> Slot:
    """Return a value; a constant without a name of its own gets one."""
    if isinstance(value, Known) and value.name in ("", "constant"):
        value.name = name
    return value


def _make_base_name(node: onnx.NodeProto, place: NodePlace) -> str:
    return place.make_name(make_value_name(node, next(filter(None, node.output), node.op_type)))


def list_needed_nodes(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[int]:
    """Return the positions of the nodes that some outputs need, in the order of the file."""
    wanted, needed = set(outputs), list[int]()
    for position in range(len(nodes) - 1, -1, -1):
        if wanted.intersection(nodes[position].output):
            needed.append(position)
            wanted.update(list_read_names(nodes[position]))
    return needed[::-1]


def list_outputs(nodes: Iterable[onnx.NodeProto]) -> frozenset[str]:
    """Return the names of all outputs of some nodes."""
    return frozenset(name for node in nodes for name in node.output)


def list_read_names(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node reads, those that graphs inside it read included."""
    names, pending = set[str](), [node]
    while pending:
        current = pending.pop()
        names.update(filter(None, current.input))
        for attribute in current.attribute:
            if attribute.HasField("g"):
                pending.extend(attribute.g.node)
                names.update(output.name for output in attribute.g.output)
    return names
