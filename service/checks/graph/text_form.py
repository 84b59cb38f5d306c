"""Models as text: arguments become inputs and attributes, and a graph is written as text.

`schemas/model_text.py` has the grammar. The nodes of a text go the way of a list of nodes from here on. Errors at them
are moved to their lines and columns.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import takewhile
from typing import Any, cast

from schemas.model_text import (
    MAX_TEXT_LENGTH,
    Argument,
    Call,
    InvalidTextError,
    NameReference,
    Place,
    TextNodes,
    is_model_text,
    parse_model_text,
    write_name,
    write_operand,
    write_value,
)
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY, Op
from service.numerics.ops.op import Slot

_NODE_FIELDS = ("name", "op", "inputs")


def expand_model_text(body: object) -> object:
    """Return a request with the text of its model replaced by its nodes; any other request as it is.

    Raises
    ------
    InvalidRequestError
        An error for each line that cannot be read.
    """
    if not isinstance(body, dict) or not is_model_text(cast("dict[str, Any]", body).get("model")):
        return cast("object", body)
    fields = cast("dict[str, Any]", body)
    return {**fields, "model": parse_text_nodes(fields["model"])}


def parse_text_nodes(text: str) -> TextNodes:
    """Parse a text to the nodes of a request.

    Raises
    ------
    InvalidRequestError
        An error for each line that cannot be read.
    """
    try:
        calls = parse_model_text(text)
    except InvalidTextError as error:
        raise InvalidRequestError([error_at(message, "model") for message in error.messages]) from None
    nodes, places, errors = list[dict[str, Any]](), list[Mapping[str, Place]](), list[PlacedError]()
    for call in calls:
        binder = _CallBinder(call)
        nodes.append(binder.node)
        places.append(binder.places)
        errors += binder.errors
    if errors:
        raise InvalidRequestError(errors)
    return TextNodes(nodes, places)


def count_text_lines(body: object) -> int:
    """Return the number of lines of a request's text; a longer text than any is counted by its length."""
    model = cast("dict[str, Any]", body).get("model") if isinstance(body, dict) else None
    return model.count("\n") + 1 if isinstance(model, str) and len(model) <= MAX_TEXT_LENGTH else 0


@cache
def list_positional_parameters(op: type[Op]) -> tuple[str, ...]:
    """Return the parameters that may be given without their names, in PyTorch's order.

    Those behind `reduction` may not: PyTorch has its `size_average` in between.
    """
    if op.positional:
        return op.positional
    names = [*(slot.name for slot in op.slots), *(name for name in _list_attribute_names(op) if name != "dtype")]
    return tuple(names[: names.index("reduction")] if "reduction" in names else names)


def _list_attribute_names(op: type[Op]) -> list[str]:
    return [attribute.name for attribute in dataclasses.fields(cast("Any", op))]


class _CallBinder:
    """The node of a call, the places of its parts, and the errors of its arguments."""

    def __init__(self, call: Call) -> None:
        self.errors: list[PlacedError] = []
        self.places: dict[str, Place] = {"name": call.name_place, "op": call.op_place}
        self._inputs: dict[str, Any] = {}
        self._attributes: dict[str, Any] = {}
        self._call = call
        op = OP_REGISTRY.get(call.op)
        if op is not None:
            self._op = op
            self._slots = {slot.name: slot for slot in op.slots}
            self._bind_arguments()
        # Of an unknown op, the validation of the nodes says so.
        self.node = {"name": call.name, "op": call.op, "inputs": self._inputs, **self._attributes}

    def _bind_arguments(self) -> None:
        position, has_keyword = 0, False
        names = list_positional_parameters(self._op)
        for argument in self._call.arguments:
            if argument.keyword is not None:
                has_keyword = True
                self._bind(argument.keyword, argument)
            elif has_keyword:
                self._fail(argument, "an argument without a name stands behind one with a name; put it first")
            else:
                position = self._bind_positional(argument, names, position)

    def _bind_positional(self, argument: Argument, names: Sequence[str], position: int) -> int:
        """Bind an argument, and return the position of the next one."""
        is_name = isinstance(argument.value, NameReference)
        previous = self._slots.get(names[position - 1]) if position else None
        if is_name and previous is not None and previous.variadic and previous.name in self._inputs:
            self._inputs[previous.name].append(_to_operand(argument.value))
            return position
        if is_name:
            # No attribute is a name: it is the next input, as in `layer_norm(x, weight, normalized_shape=4)`.
            position = next((i for i in range(position, len(names)) if names[i] in self._slots), position)
        if position == len(names):
            given_names = f"takes {', '.join(names)} without names" if names else "takes no arguments without names"
            self._fail(argument, f"{self._op.name} {given_names}; give this one as `parameter=value`")
        else:
            self._bind(names[position], argument)
        return position + 1 if position < len(names) else position

    def _bind(self, name: str, argument: Argument) -> None:
        if name in self._inputs or name in self._attributes:
            self._fail(argument, f"{name} is given twice")
        elif name in _NODE_FIELDS:
            self._fail(argument, f"unknown parameter {name!r} of {self._op.name}")
        elif name in self._slots and not self._is_attribute_too(name, argument):
            self._bind_input(self._slots[name], argument)
        else:
            self._bind_attribute(name, argument)
        self.places.setdefault(name, argument.place)

    def _is_attribute_too(self, name: str, argument: Argument) -> bool:
        """Tell whether an argument is the attribute of a parameter that takes a tensor or a number, as an exponent."""
        return name in _list_attribute_names(self._op) and _find_reference(argument.value) is None

    def _bind_input(self, slot: Slot, argument: Argument) -> None:
        value: Any = argument.value
        if slot.variadic and not isinstance(value, list):
            value = [value]
        entries = cast("list[Any]", value if isinstance(value, list) else [value])
        if isinstance(value, list) and not slot.variadic:
            self._fail(argument, f"{slot.name} of {self._op.name} is one tensor, not a list")
        elif any(isinstance(entry, list | bool) for entry in entries):
            self._fail(argument, f"{slot.name} of {self._op.name} takes the name of a tensor, or a number")
        elif texts := [entry for entry in entries if isinstance(entry, str)]:
            self._fail(argument, f"write the name of a tensor without quotes: {write_name(texts[0][:200])}")
        elif value is not None:
            self._inputs[slot.name] = _to_operand(value)

    def _bind_attribute(self, name: str, argument: Argument) -> None:
        if reference := _find_reference(argument.value):
            quoted = write_value(reference.name[:200])
            self._fail(
                argument,
                f"{name} of {self._op.name} takes no tensor; a text stands in quotes, as {quoted}"
                if name in _list_attribute_names(self._op)
                else f"{self._op.name} has no input {quote_name(name)}; it takes {', '.join(self._slots)}",
            )
        else:
            self._attributes[name] = argument.value

    def _fail(self, argument: Argument, message: str) -> None:
        self.errors.append(error_at(f"{argument.place.describe()}: {message}", "model"))


def _to_operand(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_operand(entry) for entry in cast("list[Any]", value)]
    return value.name if isinstance(value, NameReference) else value


def _find_reference(value: Any) -> NameReference | None:
    if isinstance(value, list):
        return next(filter(None, map(_find_reference, cast("list[Any]", value))), None)
    return value if isinstance(value, NameReference) else None


def write_graph_text(graph: Graph) -> str:
    """Write a graph as text, a node a line, without the attributes that have their defaults."""
    return "\n".join(
        f"{write_name(node.name)} = {node.op.name}({', '.join(_write_arguments(node, graph))})"
        for node in graph.listed_nodes
    )


def _write_arguments(node: Node, graph: Graph) -> Iterator[str]:
    """Write the arguments: without names up to the last input, as long as none is left out, then with names."""
    op = type(node.op)
    operands = {name: operand for name, operand in _group_operands(node).items() if operand is not None}
    fields = {field.name: field for field in dataclasses.fields(cast("Any", op))}
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    names = list_positional_parameters(op)
    last_input = max((position for position, name in enumerate(names) if name in operands), default=-1)
    in_order = tuple(takewhile(lambda name: name in operands or name in required, names[: last_input + 1]))
    for name in in_order:
        yield write_operand(operands[name]) if name in operands else write_value(getattr(node.op, name))
    for name, operand in operands.items():
        if name not in in_order:
            yield f"{name}={write_operand(operand)}"
    for name, field in fields.items():
        value = getattr(node.op, name)
        if name not in in_order and not _is_default(node, name, value, field.default, graph):
            yield f"{name}={write_value(value)}"


def _is_default(node: Node, name: str, value: object, default: object, graph: Graph) -> bool:
    """Tell whether a value is the default, in type as well, or follows from it and the shapes: 1 is not True."""
    if default is None and value is not None:
        op: Op = dataclasses.replace(cast("Any", node.op), **{name: None})
        return getattr(op.resolve_shape_defaults(*graph.get_operand_shapes(node)), name) == value
    return isinstance(value, bool) == isinstance(default, bool) and value == default


def _group_operands(node: Node) -> dict[str, Any]:
    """Return the operands by the name of their slot, in the order of the slots."""
    slots = node.op.slots
    if not slots[-1].variadic:
        return {slot.name: operand for slot, operand in zip(slots, node.operands, strict=True)}
    several = [operand for operand in node.operands[len(slots) - 1 :] if operand is not None]
    return dict(zip([slot.name for slot in slots], [*node.operands[: len(slots) - 1], several], strict=True))
