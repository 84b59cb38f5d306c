"""Conversions of operators that only arrange elements, and that have an op of their own."""

from collections.abc import Sequence
from typing import Any

import torch

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    get_value,
    is_graph_tensor,
    map_operator,
    register_converter,
)

_MAX_PARTS = 1024
"""Outputs of one node at most."""

map_operator("flatten.using_ints", "flatten", "self", start_dim="start_dim", end_dim="end_dim")
map_operator("flip", "flip", "self", dims="dims")
map_operator("permute", "permute", "self", dims="dims")
map_operator("permute_copy", "permute", "self", dims="dims")
map_operator("transpose.int", "transpose", "self", dim0="dim0", dim1="dim1")
map_operator("unsqueeze", "unsqueeze", "self", dim="dim")
map_operator("select.int", "select", "self", dim="dim", index="index")
map_operator("movedim", "movedim", "self", source="source", destination="destination")
map_operator("pixel_shuffle", "pixel_shuffle", "self", upscale_factor="upscale_factor")
map_operator("pixel_unshuffle", "pixel_unshuffle", "self", downscale_factor="downscale_factor")
for _name in ("channel_shuffle", "native_channel_shuffle"):
    map_operator(_name, "channel_shuffle", "self", groups="groups")
for _name in ("tril", "triu"):
    map_operator(_name, _name, "self", diagonal="diagonal")
for _name in ("diagonal", "diagonal_copy", "diag_embed"):
    map_operator(_name, _name.removesuffix("_copy"), "self", offset="offset", dim1="dim1", dim2="dim2")


@register_converter("clone", "alias", "contiguous", "lift_fresh_copy", "alias_copy")
def _convert_copy(call: OperatorCall) -> Converted:
    return call.name_input(call["self"])


@register_converter("_to_copy", "to", choices={"self": "mask"})
def _convert_cast(call: OperatorCall) -> Converted:
    """Convert a cast: none between floats in a graph of real numbers; floats are true if they are not 0."""
    if call.get("dtype") is torch.bool:
        return call.add_node("ne", call["self"], 0.0)
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


@register_converter("t", "numpy_T")
def _convert_transposition(call: OperatorCall) -> Converted:
    ndim = len(get_shape(call["self"]))
    return call.add_node("permute", call["self"], dims=list(range(ndim))[::-1])


@register_converter("mT", "mH", "adjoint")
def _convert_matrix_transposition(call: OperatorCall) -> Converted:
    return call.add_node("transpose", call["self"], dim0=-2, dim1=-1)


@register_converter("swapaxes", "swapdims")
def _convert_swap(call: OperatorCall) -> Converted:
    first, second = (call.get(f"axis{number}", call.get(f"dim{number}")) for number in (0, 1))
    return call.add_node("transpose", call["self"], dim0=first, dim1=second)


@register_converter("roll")
def _convert_roll(call: OperatorCall) -> Converted:
    """Convert a roll along axes, or of all elements in a row."""
    if not get_shape(call["self"]):
        return call.name_input(call["self"])
    return call.add_node("roll", call["self"], shifts=list(call["shifts"]), dims=list(call.get("dims", ())) or None)


@register_converter("repeat")
def _convert_tiling(call: OperatorCall) -> Converted:
    """Convert repetitions along axes; a single number along none is itself."""
    if not call["repeats"]:
        return call.name_input(call["self"])
    return call.add_node("repeat", call["self"], repeats=list(call["repeats"]))


@register_converter("repeat_interleave.self_int")
def _convert_repetition(call: OperatorCall) -> Converted:
    return call.add_node("repeat_interleave", call["self"], repeats=call["repeats"], dim=call.get("dim"))


@register_converter("slice.Tensor")
def _convert_slice(call: OperatorCall) -> Converted:
    """Convert a slice; one of the whole axis is the tensor itself."""
    shape, dim = get_shape(call["self"]), int(call.get("dim", 0))
    step: int = call.get("step", 1)
    if list(call.result.shape) == shape and step == 1:
        return call.name_input(call["self"])
    start: int = call.get("start", 0)
    start = min(max(start + shape[dim] if start < 0 else start, 0), shape[dim])
    if step == 1:
        return call.add_node("narrow", call["self"], dim=dim, start=start, length=call.result.shape[dim])
    end = start + (call.result.shape[dim] - 1) * step + 1
    return call.add_node("slice", call["self"], dim=dim, start=start, end=end, step=step)


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


@register_converter("pad")
def _convert_any_padding(call: OperatorCall) -> Converted:
    value = call.get("value") if call["mode"] == "constant" else None
    return call.add_node("pad", call["self"], pad=list(call["pad"]), mode=call["mode"], value=value)


@register_converter("constant_pad_nd")
def _convert_padding(call: OperatorCall) -> Converted:
    return call.add_node("pad", call["self"], pad=list(call["pad"]), value=float(call.get("value", 0.0)))


@register_converter(*(f"{name}_pad{axes}d" for name in ("reflection", "replication") for axes in (1, 2, 3)))
def _convert_edge_padding(call: OperatorCall) -> Converted:
    mode = "reflect" if "reflection" in call.operator_name else "replicate"
    return call.add_node("pad", call["self"], pad=list(call["padding"]), mode=mode)


@register_converter("narrow", "narrow_copy")
def _convert_narrow(call: OperatorCall) -> Converted:
    dim: int = call["dim"]
    start = int(get_value(call["start"])) % max(1, get_shape(call["self"])[dim])
    return call.add_node("narrow", call["self"], dim=dim, start=start, length=call["length"])


@register_converter("split", "split_with_sizes", "chunk", "unsafe_chunk", "unsafe_split", "tensor_split")
def _convert_split(call: OperatorCall) -> Converted:
    """Convert a split to one node; parts without elements are left out of it."""
    dim: int = call.get("dim", 0)
    lengths = [part.shape[dim] for part in call.result]
    if len(lengths) > _MAX_PARTS:
        raise UnsupportedError(f"more than {_MAX_PARTS} parts")
    kept = [length for length in lengths if length]
    outputs = [f"{number}" for number in range(len(kept))]
    names = iter(call.add_outputs_node("split", outputs, call["self"], split_size_or_sections=kept, dim=dim))
    return [next(names) if length else None for length in lengths]


@register_converter("unbind", "unbind_copy")
def _convert_unbind(call: OperatorCall) -> Converted:
    if len(call.result) > _MAX_PARTS:
        raise UnsupportedError(f"more than {_MAX_PARTS} parts")
    outputs = [f"{number}" for number in range(len(call.result))]
    return call.add_outputs_node("unbind", outputs, call["self"], dim=call.get("dim", 0))
