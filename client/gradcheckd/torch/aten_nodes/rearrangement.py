"""Conversions of operators whose result holds elements of their inputs, by an index that the operator itself finds.

Such an operator is applied to the numbers of the elements, 0, 1, 2 and so on, in place of the elements. Its result says
where each element of the true result comes from, so that the node is an `index_select` of the flat inputs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    get_value,
    is_graph_tensor,
    register_converter,
)

_MANY = 2**53
"""float64 numbers elements exactly up to here."""


@register_converter(
    *("rot90", "unfold", "unfold_copy", "as_strided", "as_strided_copy", "fliplr", "flipud", "copy"),
    *("as_strided_scatter", "masked_select"),
)
def _convert_rearrangement(call: OperatorCall) -> Converted:
    return rearrange(call)


@register_converter("take")
def _convert_take(call: OperatorCall) -> Converted:
    index = call["index"] % max(1, get_value(call["self"]).numel())
    if not index.ndim:
        return rearrange(call)
    return call.add_node("take", call["self"], call.add_constant(index, "index"))


@register_converter("index.Tensor", "_unsafe_index.Tensor")
def _convert_index(call: OperatorCall) -> Converted:
    """Convert an index by tensors; by a single line of numbers it is an `index_select`."""
    indices: list[Any] = call["indices"]
    given = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    for _, index in given:
        if is_graph_tensor(index):
            raise UnsupportedError("an index depends on judged tensors")
    (dim, index), *others = given
    if others or index.ndim != 1 or index.dtype is torch.bool:
        return rearrange(call)
    length = get_shape(call["self"])[dim]
    return call.add_node("index_select", call["self"], call.add_constant(index % length, "index"), dim=dim)


@register_converter("scatter.value")
def _convert_scatter_of_number(call: OperatorCall) -> Converted:
    """Convert to a filled mask, which is the same scatter of ones into zeros."""
    target = torch.zeros(get_shape(call["self"]), dtype=torch.float64)
    mask = target.scatter(call["dim"], call["index"].cpu(), 1.0) > 0
    return _fill(call, mask)


@register_converter("index_fill")
def _convert_index_fill(call: OperatorCall) -> Converted:
    target = torch.zeros(get_shape(call["self"]), dtype=torch.float64)
    mask = target.index_fill(call["dim"], call["index"].cpu(), 1.0) > 0
    return _fill(call, mask)


def _fill(call: OperatorCall, mask: Tensor) -> str:
    return call.add_node("masked_fill", call["self"], call.builder.add_tensor(f"{call.name}.mask", mask), call["value"])


@register_converter("im2col")
def _convert_windows(call: OperatorCall) -> Converted:
    options = {name: list(call[name]) for name in ("kernel_size", "dilation", "padding", "stride")}
    return call.add_node("unfold", call["self"], **options)


@register_converter("col2im")
def _convert_fold(call: OperatorCall) -> Converted:
    options = {name: list(call[name]) for name in ("output_size", "kernel_size", "dilation", "padding", "stride")}
    return call.add_node("fold", call["self"], **options)


def rearrange(call: OperatorCall) -> str:
    """Return the node of an operator whose result holds elements of its inputs.

    Raises
    ------
    UnsupportedError
        The result holds other elements.
    """
    sources = {name: value for name, value in call.arguments.items() if _is_source(value)}
    numbers: dict[str, Tensor] = {}
    start = 0
    for name, value in sources.items():
        count = get_value(value).numel()
        numbers[name] = torch.arange(start, start + count, dtype=torch.float64).reshape(get_shape(value))
        start += count
    index = call.apply(numbers)
    if start > _MANY or bool((index != index.round()).any()):
        raise UnsupportedError("its result is no selection of elements")
    flat = [_flatten(call, value) for value in sources.values()]
    return _select(call, flat[0] if len(flat) == 1 else call.add_node("cat", *flat, dim=0), index.long())


def _is_source(value: Any) -> bool:
    return is_graph_tensor(value) or (isinstance(value, Tensor) and value.is_floating_point())


def _flatten(call: OperatorCall, value: Any) -> str:
    if is_graph_tensor(value):
        return call.add_node("flatten", value)
    return call.builder.add_tensor(f"{call.name}.source", value.detach().double().reshape(-1))


def _select(call: OperatorCall, flat: Any, index: Tensor) -> str:
    selected = call.add_node("index_select", flat, call.add_constant(index.reshape(-1), "index"), dim=0)
    shape: Sequence[int] = list(index.shape)
    return selected if len(shape) == 1 else call.add_node("reshape", selected, shape=shape)
