"""Conversions of comparisons, logic and positions: nodes of integers and truths, through which no gradient flows."""

from typing import Any

import torch

from gradcheckd.torch.aten_nodes.graph_builder import GraphTensor
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    Converter,
    OperatorCall,
    find_converter,
    get_shape,
    is_graph_tensor,
    register_converter,
)

_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_LOGIC = {"bitwise_and": "logical_and", "bitwise_or": "logical_or", "bitwise_xor": "logical_xor"}
MASK_MOVES = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "unsqueeze", "squeeze", "t", "slice"),
        *("select", "flip", "repeat", "roll", "flatten", "unflatten", "diagonal", "narrow", "movedim", "index_select"),
    )
)
"""Operators that arrange the elements of a mask in other places."""
_COPIES = frozenset(
    {"gradcheckd.stop_gradient"}
    | {f"aten.{name}" for name in ("clone", "alias", "contiguous", "lift_fresh_copy", "alias_copy", "detach")}
)
_CASTS = frozenset({"aten._to_copy", "aten.to"})
_HALF = 0.5


@register_converter(*_COMPARISONS, choices={"self": "any", "other": "any"})
def _convert_comparison(call: OperatorCall) -> Converted:
    return _compare(call, call.operator_name.removeprefix("aten."), call["self"], call["other"])


def _compare(call: OperatorCall, op: str, first: Any, second: Any) -> str:
    inputs = [call.name_operand(first), call.name_operand(second)]
    return call.builder.add_node(f"{call.name}.{op}", op, inputs, {})


@register_converter("logical_and", "logical_or", "logical_xor", choices={"self": "mask", "other": "mask"})
def _convert_logic(call: OperatorCall) -> Converted:
    return _combine(call, call.operator_name.removeprefix("aten."))


@register_converter(*(f"{name}.Tensor" for name in _LOGIC), choices={"self": "mask", "other": "mask"})
def _convert_bitwise_logic(call: OperatorCall) -> Converted:
    """Convert the bits of truths; integers are constants."""
    return _combine(call, _LOGIC[call.operator_name.removeprefix("aten.")])


def _combine(call: OperatorCall, op: str) -> str:
    inputs = [_name_truths(call, call[name]) for name in ("self", "other")]
    return call.builder.add_node(f"{call.name}.{op}", op, inputs, {})


@register_converter("logical_not", "bitwise_not", choices={"self": "mask"})
def _convert_not(call: OperatorCall) -> Converted:
    return call.builder.add_node(f"{call.name}.not", "logical_not", [_name_truths(call, call["self"])], {})


def _name_truths(call: OperatorCall, value: Any) -> Any:
    """Return the name of truths; numbers are true if they are not 0."""
    if is_graph_tensor(value) and not value.is_discrete:
        name = _compare(call, "ne", value, 0.0)
        call.builder.mark_discrete(name)
        return name
    return call.name_choice(value if is_graph_tensor(value) else torch.as_tensor(value) != 0, "mask")


@register_converter("argmax", "argmin")
def _convert_extreme_position(call: OperatorCall) -> Converted:
    options = {"dim": call.get("dim"), "keepdim": call.get("keepdim") or None}
    if not get_shape(call["self"]):
        options = {}
    return call.add_node(call.operator_name.removeprefix("aten."), call["self"], **options)


@register_converter("argsort")
def _convert_positions(call: OperatorCall) -> Converted:
    options = {name: call.get(name) for name in ("dim", "descending", "stable")}
    return call.add_node("argsort", call["self"], **options)


def move_mask(call: OperatorCall) -> str:
    """Return the node of a mask in other places: its floats are moved, and those above 1/2 are true."""
    mask: GraphTensor = call["self"]
    floats = GraphTensor(call.name_input(mask), mask.value.double())
    converter: Converter | None = find_converter(call.operator)
    assert converter is not None
    moved = converter(
        OperatorCall(call.operator, call.builder, call.name, call.arguments | {"self": floats}, call.result.double())
    )
    return call.builder.add_node(call.name, "gt", [str(moved), _HALF], {})


def is_handed_on(operator: Any, arguments: dict[str, Any]) -> bool:
    """Tell whether an operator copies integers or truths as they are."""
    packet, value = str(operator.overloadpacket), next(iter(arguments.values()), None)
    if not (isinstance(value, GraphTensor) and value.is_discrete):
        return False
    return packet in _COPIES or (packet in _CASTS and not is_other_kind(value, arguments.get("dtype")))


def is_other_kind(value: GraphTensor, dtype: torch.dtype | None) -> bool:
    """Tell whether a cast makes floats or integers of truths, or floats or truths of integers."""
    if dtype is None:
        return False
    return dtype.is_floating_point or (dtype is torch.bool) != (value.value.dtype is torch.bool)


def compares_rounded_constant(operator: Any, arguments: dict[str, Any]) -> bool:
    """Tell whether an operator compares with a constant that bfloat16 rounds, as a module in low precision may do."""
    if str(operator.overloadpacket).removeprefix("aten.") not in _COMPARISONS:
        return False
    others = [arguments[name] for name in ("self", "other") if not is_graph_tensor(arguments[name])]
    numbers = [torch.as_tensor(other).double() for other in others]
    return any(bool((number.bfloat16().double() != number).any()) for number in numbers)


def is_beyond_numbers(operator: Any, arguments: dict[str, Any]) -> bool:
    """Tell whether an operator compares with NaN or an infinity, so that no finite number changes its result."""
    if str(operator.overloadpacket).removeprefix("aten.") not in _COMPARISONS:
        return False
    others = [arguments[name] for name in ("self", "other") if not is_graph_tensor(arguments[name])]
    return any(bool((~torch.as_tensor(other).isfinite()).any()) for other in others)


def is_cast_to_integers(operator: Any, arguments: dict[str, Any]) -> bool:
    """Tell whether an operator casts to integers, for which there is no op."""
    dtype = arguments.get("dtype")
    if str(operator.overloadpacket) not in _CASTS or not isinstance(dtype, torch.dtype):
        return False
    return not dtype.is_floating_point and not dtype.is_complex and dtype is not torch.bool
