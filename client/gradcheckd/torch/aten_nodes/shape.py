"""Conversions of operators that only arrange elements, and that have an op of their own."""

from collections.abc import Sequence
from typing import Any

from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    get_value,
    is_graph_tensor,
    map_operator,
    register_converter,
)

map_operator("flatten.using_ints", "flatten", "self", start_dim="start_dim", end_dim="end_dim")
map_operator("flip", "flip", "self", dims="dims")
map_operator("permute", "permute", "self", dims="dims")
map_operator("permute_copy", "permute", "self", dims="dims")
map_operator("transpose.int", "transpose", "self", dim0="dim0", dim1="dim1")
map_operator("unsqueeze", "unsqueeze", "self", dim="dim")


@register_converter("clone", "alias", "contiguous", "_to_copy", "to", "lift_fresh_copy", "alias_copy")
def _convert_copy(call: OperatorCall) -> Converted:
    """Convert a copy; casts between floats are none in the graph, which is one of real numbers."""
    return call.name_input(call["self"])


@register_converter("dropout", "native_dropout", "alpha_dropout", "feature_dropout")
def _convert_dropout(call: OperatorCall) -> Converted:
    """Convert dropout that drops nothing; that which draws is refused before."""
    source = call.get("self", call.get("input"))
    name = call.name_input(source)
    return [name, None] if call.operator_name == "aten.native_dropout" else name


@register_converter("view", "_unsafe_view", "reshape", "view_copy", "_reshape_copy", "unflatten")
def _convert_view(call: OperatorCall) -> Converted:
    return call.add_node("reshape", call["self"], shape=list(call.result.shape))


@register_converter("t", "numpy_T", "mT")
def _convert_transposition(call: OperatorCall) -> Converted:
    ndim = len(get_shape(call["self"]))
    return call.add_node("permute", call["self"], dims=list(range(ndim))[::-1])


@register_converter("squeeze")
def _convert_squeeze(call: OperatorCall) -> Converted:
    return call.add_node("reshape", call["self"], shape=list(call.result.shape))


@register_converter("expand", "expand_as")
def _convert_expand(call: OperatorCall) -> Converted:
    if list(call.result.shape) == get_shape(call["self"]):
        return call.name_input(call["self"])
    return call.add_node("expand", call["self"], size=list(call.result.shape))


@register_converter("cat", "concat")
def _convert_cat(call: OperatorCall) -> Converted:
    """Convert a concatenation; parts without elements are left out."""
    parts = [part for part in call["tensors"] if get_value(part).numel()]
    if len(parts) == 1:
        return call.name_input(parts[0])
    return call.add_node("cat", *_widen_scalars(call, parts), dim=call.get("dim", 0))


@register_converter("stack")
def _convert_stack(call: OperatorCall) -> Converted:
    return call.add_node("stack", *_widen_scalars(call, call["tensors"]), dim=call.get("dim", 0))


def _widen_scalars(call: OperatorCall, parts: Sequence[Any]) -> list[Any]:
    """Return the parts, of which none is given as a bare number."""
    return [
        call.builder.add_tensor(f"{call.name}.part", part.detach().double())
        if not is_graph_tensor(part) and not part.ndim
        else part
        for part in parts
    ]


@register_converter("constant_pad_nd")
def _convert_padding(call: OperatorCall) -> Converted:
    return call.add_node("pad", call["self"], pad=list(call["pad"]), value=float(call.get("value", 0.0)))


@register_converter("select.int")
def _convert_select(call: OperatorCall) -> Converted:
    shape, dim = get_shape(call["self"]), int(call["dim"])
    start: int = call["index"] % shape[dim]
    part = call.add_node("narrow", call["self"], dim=dim, start=start, length=1)
    return call.add_node("squeeze", part, dim=dim)


@register_converter("narrow", "narrow_copy")
def _convert_narrow(call: OperatorCall) -> Converted:
    dim: int = call["dim"]
    start = int(get_value(call["start"])) % max(1, get_shape(call["self"])[dim])
    return call.add_node("narrow", call["self"], dim=dim, start=start, length=call["length"])


@register_converter("split", "split_with_sizes", "chunk", "unsafe_chunk", "unsafe_split", "tensor_split")
def _convert_split(call: OperatorCall) -> Converted:
    axis: int = call.get("dim", 0)
    return _split(call, [part.shape[axis] for part in call.result])


def _split(call: OperatorCall, lengths: Sequence[int]) -> list[str | None]:
    names: list[str | None] = []
    start = 0
    for length in lengths:
        options = {"dim": call.get("dim", 0), "start": start, "length": length}
        names.append(call.add_node("narrow", call["self"], **options) if length else None)
        start += length
    return names


@register_converter("unbind")
def _convert_unbind(call: OperatorCall) -> Converted:
    dim = call.get("dim", 0)
    parts = _split(call, [1] * len(call.result))
    return [call.add_node("squeeze", part, dim=dim) for part in parts]
