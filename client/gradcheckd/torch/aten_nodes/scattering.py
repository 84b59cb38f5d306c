"""Conversions of sums and replacements at positions."""

import math
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.graph_builder import GraphTensor, UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    get_value,
    is_graph_tensor,
    map_operator,
    register_converter,
)

_REDUCTIONS = {"add": "sum", "multiply": "prod"}
_REPEATED = "one place gets several values, so that the order of writing decides"

map_operator("select_scatter", "select_scatter", "self", "src", dim="dim", index="index")
map_operator("diagonal_scatter", "diagonal_scatter", "self", "src", offset="offset", dim1="dim1", dim2="dim2")


@register_converter("slice_scatter")
def _convert_slice_scatter(call: OperatorCall) -> Converted:
    """Convert a replaced slice; that of a whole axis is the other tensor."""
    shape, dim = get_shape(call["self"]), int(call.get("dim", 0))
    start, end, _ = slice(call.get("start"), call.get("end"), call["step"]).indices(shape[dim])
    if get_shape(call["src"]) == shape:
        return _name_tensor(call, call["src"])
    options = {"dim": dim, "start": start, "end": max(start, end), "step": call["step"]}
    return call.add_node("slice_scatter", call["self"], call["src"], **options)


def _name_tensor(call: OperatorCall, value: Any) -> str:
    if is_graph_tensor(value):
        return call.name_input(value)
    return call.builder.add_tensor(f"{call.name}.source", value.detach().double())


@register_converter("index_add", "index_copy")
def _convert_index_add(call: OperatorCall) -> Converted:
    """Convert a sum, or a replacement, at positions of an axis; a single number has one position."""
    op, shape = call.operator_name.removeprefix("aten."), get_shape(call["self"])
    target, source, index = call["self"], call["source"], call["index"].reshape(-1)
    if op == "index_copy" and index.numel() and int(index.bincount().max()) > 1:
        raise UnsupportedError(_REPEATED)
    if not shape:
        target, source = (_reshape(call, value, [1]) for value in (target, source))
    alpha = call.get("alpha", 1)
    options = {"dim": call["dim"] if shape else 0, "alpha": None if alpha == 1 else alpha}
    result = call.add_node(op, target, _name_index(call, index), source, **options)
    return result if shape else call.add_node("reshape", result, shape=[])


def _name_index(call: OperatorCall, index: Tensor) -> Any:
    return call.builder.add_tensor(f"{call.name}.index", index.cpu().long().contiguous())


def _reshape(call: OperatorCall, value: Any, shape: list[int]) -> Any:
    if list(get_shape(value)) == shape:
        return value
    if is_graph_tensor(value):
        return call.add_node("reshape", value, shape=shape)
    return call.builder.add_tensor(f"{call.name}.source", value.detach().double().reshape(shape))


@register_converter("scatter_add", "scatter.src", "scatter.reduce", "scatter.value_reduce", "scatter_reduce")
def _convert_scatter(call: OperatorCall) -> Converted:
    """Convert a scatter that replaces, adds or reduces; a single number has one position."""
    shape, index = get_shape(call["self"]), call["index"].cpu()
    source = call.get("src", call.get("value"))
    if not isinstance(source, Tensor | GraphTensor):
        source = torch.full(index.shape, float(source), dtype=torch.float64)
    target: Any = call["self"]
    if not shape:
        target, source = (_reshape(call, value, [1]) for value in (target, source))
        index = index.reshape(-1)
    name, options = _choose_scatter(call, index)
    options["dim"] = call["dim"] if shape else 0
    result = call.add_node(name, target, _name_index(call, index), source, **options)
    return result if shape else call.add_node("reshape", result, shape=[])


def _choose_scatter(call: OperatorCall, index: Tensor) -> tuple[str, dict[str, Any]]:
    """Return the op of a scatter, and its options."""
    reduction = call.get("reduce")
    if call.operator_name == "aten.scatter" and reduction is None:
        _refuse_repeats(get_shape(call["self"]) or [1], call["dim"], index)
        return "scatter", {}
    reduction = _REDUCTIONS.get(reduction, reduction)
    if reduction is None or (reduction == "sum" and call.get("include_self", True)):
        return "scatter_add", {}
    include_self = None if call.get("include_self", True) else False
    return "scatter_reduce", {"reduce": reduction, "include_self": include_self}


def _refuse_repeats(shape: list[int], dim: int, index: Tensor) -> None:
    ones = torch.ones(index.shape, dtype=torch.int64)
    counts = torch.zeros(shape, dtype=torch.int64).scatter_add(dim, index, ones)
    if counts.numel() and int(counts.max()) > 1:
        raise UnsupportedError(_REPEATED)


@register_converter("index_reduce")
def _convert_index_reduce(call: OperatorCall) -> Converted:
    """Convert a reduction at positions of an axis to a scatter, whose index has the shape of the source."""
    shape, index = get_shape(call["source"]), call["index"].reshape(-1).cpu()
    if not shape:
        raise UnsupportedError("a single number")
    dim = call["dim"] % len(shape)
    index = index.reshape([-1 if axis == dim else 1 for axis in range(len(shape))]).expand(shape)
    include_self = None if call.get("include_self", True) else False
    options = {"dim": dim, "reduce": call["reduce"], "include_self": include_self}
    return call.add_node("scatter_reduce", call["self"], _name_index(call, index), call["source"], **options)


@register_converter("index_put", "_unsafe_index_put", "_index_put_impl")
def _convert_index_put(call: OperatorCall) -> Converted:
    """Convert values at indices of any axes, by their flat places."""
    shape, places = get_shape(call["self"]), _find_places(call)
    accumulate = bool(call.get("accumulate", False))
    return _put(call, shape, places, _expand(call, call["values"], list(places.shape)), accumulate=accumulate)


@register_converter("put")
def _convert_put(call: OperatorCall) -> Converted:
    """Convert values at flat places."""
    shape = get_shape(call["self"])
    places = call["index"].cpu() % max(1, math.prod(shape))
    return _put(call, shape, places, call["source"], accumulate=bool(call.get("accumulate", False)))


def _put(call: OperatorCall, shape: list[int], places: Tensor, values: Any, *, accumulate: bool) -> str:
    flat = places.reshape(-1)
    if not flat.numel():
        return call.name_input(call["self"])
    if not accumulate and flat.numel() and int(flat.bincount().max()) > 1:
        raise UnsupportedError(_REPEATED)
    target, values = _reshape(call, call["self"], [math.prod(shape)]), _reshape(call, values, [flat.numel()])
    options = {"accumulate": accumulate or None}
    result = call.add_node("index_put", target, values, _name_index(call, flat), **options)
    return result if len(shape) == 1 else call.add_node("reshape", result, shape=shape)


def _find_places(call: OperatorCall) -> Tensor:
    """Return the flat places that the indices of a call mean."""
    shape, indices = get_shape(call["self"]), list[Any](call["indices"])
    target = torch.arange(math.prod(shape), dtype=torch.int64).reshape(shape)
    return target[tuple(slice(None) if index is None else index.cpu() for index in indices)]


def _expand(call: OperatorCall, values: Any, shape: list[int]) -> Any:
    if get_shape(values) == shape:
        return values
    if is_graph_tensor(values):
        return GraphTensor(call.add_node("expand", values, size=shape), values.value.expand(shape))
    return values.expand(shape)


@register_converter("masked_scatter", choices={"mask": "mask"})
def _convert_masked_scatter(call: OperatorCall) -> Converted:
    inputs = [
        call.name_input(_expand(call, call["self"], list(call.result.shape))),
        call.name_choice(call["mask"], "mask"),
        _name_tensor(call, call["source"]),
    ]
    return call.builder.add_node(f"{call.name}.masked_scatter", "masked_scatter", inputs, {})


@register_converter("_embedding_bag", "embedding_bag", "_embedding_bag_forward_only")
def _convert_embedding_bag(call: OperatorCall) -> Converted:
    """Convert sums, means or extremes of rows."""
    if call.get("scale_grad_by_freq", False):
        raise UnsupportedError("scale_grad_by_freq asks for another gradient than that of the function")
    mode = ("sum", "mean", "max")[int(call.get("mode", 0))]
    padding = call.get("padding_idx")
    is_padded = padding is not None and (padding >= 0 or call.operator_name == "aten.embedding_bag")
    inputs = {
        "input": _name_index(call, call["indices"]),
        "weight": call["weight"],
        "offsets": _name_index(call, get_value(call["offsets"])),
        "per_sample_weights": call.get("per_sample_weights"),
    }
    options: dict[str, Any] = {
        "mode": mode,
        "include_last_offset": call.get("include_last_offset") or None,
        "padding_idx": padding if is_padded else None,
    }
    return [call.add_named_node("embedding_bag", inputs, **options), *[None] * (len(call.result) - 1)]
