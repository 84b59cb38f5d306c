"""A model as text, a node a line: `h = linear(x, w, b)`. The service reads it as it is written here."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*", re.ASCII)
_VALUES = ("True", "False", "None")
_NODE_FIELDS = ("name", "op", "inputs")


def has_numbers(nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether numbers stand among listed inputs: in a text, they need the names of their parameters."""
    return any(not isinstance(operand, str | list) for node in nodes for operand in node["inputs"])


def write_nodes(nodes: Sequence[Mapping[str, Any]], ops: Sequence[Mapping[str, Any]] = ()) -> str:
    """Write the nodes of a request as text.

    Parameters
    ----------
    nodes
        Nodes of a request.
    ops
        Entries of `GET /v1/ops`, needed where numbers stand among listed inputs.

    Raises
    ------
    KeyError, TypeError, AttributeError
        The nodes are not of the form of a request.
    """
    slots = {entry["name"]: entry["inputs"] for entry in ops}
    return "\n".join(
        f"{_write_operand(node['name'])} = {node['op']}({', '.join(_write_arguments(node, slots.get(node['op'])))})"
        for node in nodes
    )


def _write_arguments(node: Mapping[str, Any], slots: Sequence[Mapping[str, Any]] | None) -> Iterator[str]:
    inputs: Any = node["inputs"]
    if slots is not None and not isinstance(inputs, Mapping) and has_numbers([node]):
        inputs = _name_inputs(inputs, slots)
    if isinstance(inputs, Mapping):
        named_inputs = cast("Mapping[str, Any]", inputs)
        yield from (f"{name}={_write_operand(value)}" for name, value in named_inputs.items())
    else:
        yield from map(_write_operand, inputs)
    yield from (f"{name}={_write_value(value)}" for name, value in node.items() if name not in _NODE_FIELDS)


def _name_inputs(inputs: Sequence[Any], slots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return listed inputs by name; the last slot may take all that are left."""
    names = [slot["name"] for slot in slots]
    if slots[-1]["several"] and len(inputs) > len(slots):
        inputs = [*inputs[: len(slots) - 1], list(inputs[len(slots) - 1 :])]
    return dict(zip(names, inputs, strict=False))


def _write_operand(operand: Any) -> str:
    """Write a name, in backquotes unless it is a word of ASCII, or several with points between them; or a number."""
    if isinstance(operand, list):
        return f"[{', '.join(map(_write_operand, cast('list[Any]', operand)))}]"
    if not isinstance(operand, str):
        return repr(operand)
    if _PLAIN_NAME.fullmatch(operand) and operand not in _VALUES:
        return operand
    return "`" + json.dumps(operand, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("`", "\\`") + "`"


def _write_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_write_value, cast('list[Any]', value)))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
