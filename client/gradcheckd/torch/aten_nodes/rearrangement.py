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
from gradcheckd.torch.aten_nodes.scattering import accumulate, find_places

_MANY = 2**53
"""float64 numbers elements exactly up to here."""


@register_converter(
    *("repeat", "roll", "rot90", "unfold", "diagonal", "as_strided", "take", "reflection_pad1d", "reflection_pad2d"),
    *("reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d", "pixel_shuffle"),
    *("pixel_unshuffle", "channel_shuffle", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "fliplr", "flipud"),
    *("movedim", "swapaxes", "diagonal_copy", "as_strided_copy", "unfold_copy", "slice_scatter"),
    *("select_scatter", "diagonal_scatter", "as_strided_scatter", "masked_scatter", "copy", "take_along_dim"),
    "masked_select",
    "repeat_interleave.self_int",
)
def _convert_rearrangement(call: OperatorCall) -> Converted:
    return rearrange(call)


@register_converter("scatter.src", "index_copy")
def _convert_scatter(call: OperatorCall) -> Converted:
    index = call["index"].cpu()
    if call.operator_name == "aten.index_copy":
        counts = index.reshape(-1).bincount()
    else:
        ones = torch.ones(index.shape, dtype=torch.int64)
        counts = torch.zeros(get_shape(call["self"]), dtype=torch.int64).scatter_add(call["dim"], index, ones)
    return _rearrange_distinct(call, counts)


def _rearrange_distinct(call: OperatorCall, counts: Tensor) -> str:
    if counts.numel() and int(counts.max()) > 1:
        raise UnsupportedError("one place gets several values, so that the order of writing decides")
    return rearrange(call)


@register_converter("slice.Tensor")
def _convert_slice(call: OperatorCall) -> Converted:
    """Convert a slice: none of it, the part of one axis, or by an index where it has a step."""
    shape = get_shape(call["self"])
    dim: int = call.get("dim", 0)
    if list(call.result.shape) == shape:
        return call.name_input(call["self"])
    if call.get("step", 1) != 1:
        return rearrange(call)
    start: int = call.get("start", 0)
    start = min(max(start + shape[dim] if start < 0 else start, 0), shape[dim])
    return call.add_node("narrow", call["self"], dim=dim, start=start, length=call.result.shape[dim])


@register_converter("index.Tensor", "_unsafe_index.Tensor")
def _convert_index(call: OperatorCall) -> Converted:
    """Convert an index by tensors; by a single line of numbers it is an `index_select`."""
    indices: list[Any] = call["indices"]
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


@register_converter("index_put", "_unsafe_index_put")
def _convert_index_put(call: OperatorCall) -> Converted:
    if call.get("accumulate", False):
        return accumulate(call)
    places = find_places(call)
    return _rearrange_distinct(call, places.reshape(-1).bincount())


@register_converter("scatter.value")
def _convert_scatter_of_number(call: OperatorCall) -> Converted:
    """Convert to a `where`: the mask is the same scatter of ones into zeros."""
    target = torch.zeros(get_shape(call["self"]), dtype=torch.float64)
    mask = target.scatter(call["dim"], call["index"].cpu(), 1.0) > 0
    return call.add_node("where", call.add_constant(mask, "mask"), call["value"], call["self"])


@register_converter("index_fill.int_Scalar")
def _convert_index_fill(call: OperatorCall) -> Converted:
    target = torch.zeros(get_shape(call["self"]), dtype=torch.float64)
    mask = target.index_fill(call["dim"], call["index"].cpu(), 1.0) > 0
    return call.add_node("where", call.add_constant(mask, "mask"), call["value"], call["self"])


@register_converter("tril", "triu")
def _convert_triangle(call: OperatorCall) -> Converted:
    ones = torch.ones(get_shape(call["self"])[-2:], dtype=torch.bool)
    keep = (ones.tril if call.operator_name == "aten.tril" else ones.triu)(call.get("diagonal", 0))
    return call.add_node("where", call.add_constant(keep, "mask"), call["self"], 0.0)


@register_converter("diag_embed", "im2col")
def _convert_spread(call: OperatorCall) -> Converted:
    """Convert by an index into the elements and one zero behind them."""
    numbers = torch.arange(1, get_value(call["self"]).numel() + 1, dtype=torch.float64)
    index = call.apply({"self": numbers.reshape(get_shape(call["self"]))}).long()
    zero = call.builder.add_tensor(f"{call.name}.zero", torch.zeros(1, dtype=torch.float64))
    flat = call.add_node("cat", zero, call.add_node("flatten", call["self"]), dim=0)
    return _select(call, flat, index)


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
