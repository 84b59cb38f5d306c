"""Shapes: reshaping, joining, cutting, repeating and padding."""

import math
from typing import Any, cast

import numpy as np

from schemas.datatype import Array
from service.checks.importing.folding import (
    check_result_size,
    find_slices,
    find_split_lengths,
    find_squeezed_shape,
    find_unsqueezed_shape,
    get_axes,
    resolve_shape,
)
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axes, register_operator
from service.checks.importing.values import MASKED_SCORE, Value


def reshape(call: NodeCall, value: Value, shape: list[int]) -> Value:
    """Return a value in another shape; the value itself where that is its own."""
    return value if list(value.shape) == shape else call.emit("reshape", [value], shape=shape)


@register_operator("Reshape")
def _import_reshape(call: NodeCall) -> Results:
    sizes = call.get_integers(1, "shape")
    if sizes is None:
        raise OperatorUseError("lacks its shape")
    value = call.get(0)
    return reshape(call, value, resolve_shape(value.shape, sizes, bool(call.attributes.get("allowzero"))))


@register_operator("Flatten")
def _import_flatten(call: NodeCall) -> Results:
    value = call.get(0)
    axis = call.attributes["axis"]
    axis = axis + len(value.shape) if axis < 0 else axis
    return reshape(call, value, [math.prod(value.shape[:axis]), math.prod(value.shape[axis:])])


@register_operator("Unsqueeze")
def _import_unsqueeze(call: NodeCall) -> Results:
    axes = get_axes(call) or []
    return reshape(call, call.get(0), find_unsqueezed_shape(call.get(0).shape, axes))


@register_operator("Squeeze")
def _import_squeeze(call: NodeCall) -> Results:
    return reshape(call, call.get(0), find_squeezed_shape(call.get(0).shape, get_axes(call)))


@register_operator("Transpose")
def _import_transpose(call: NodeCall) -> Results:
    value = call.get(0)
    rank = len(value.shape)
    dims = call.attributes.get("perm") or list(range(rank))[::-1]
    return call.emit("permute", [value], dims=list(dims)) if rank > 1 else value


@register_operator("Expand")
def _import_expand(call: NodeCall) -> Results:
    value, sizes = call.get(0), call.get_integers(1, "shape")
    try:
        shape = list(np.broadcast_shapes(value.shape, tuple(sizes or ())))
    except ValueError:
        raise OperatorUseError(f"has the shape {sizes}, which does not fit an input {list(value.shape)}") from None
    return expand(call, value, shape)


def expand(call: NodeCall, value: Value, shape: list[int]) -> Value:
    """Return a value repeated to a shape."""
    return value if list(value.shape) == shape else call.emit("expand", [value], size=shape)


@register_operator("Concat")
def _import_concat(call: NodeCall) -> Results:
    values = call.get_all()
    # A tensor without elements adds nothing, though its other axes may be of any length.
    parts = [value for value in values if math.prod(value.shape)] or values
    return call.emit("cat", [parts], dim=call.get_axis("axis", len(values[0].shape)))


@register_operator("Split")
def _import_split(call: NodeCall) -> Results:
    value = call.get(0)
    axis = call.get_axis("axis", len(value.shape), 0)
    results, start = list[Value](), 0
    for length in find_split_lengths(call, value.shape[axis]):
        results.append(narrow(call, value, axis, start, length))
        start += length
    return results


def narrow(call: NodeCall, value: Value, axis: int, start: int, length: int) -> Value:
    """Return a part of a value along an axis; the value itself where that is all of it."""
    if length == value.shape[axis]:
        return value
    return call.emit("narrow", [value], dim=axis, start=start, length=length)


@register_operator("Slice")
def _import_slice(call: NodeCall) -> Results:
    value = call.get(0)
    for axis, part in enumerate(find_slices(call, value.shape)):
        positions = range(value.shape[axis])[part]
        if positions.step == 1:
            value = narrow(call, value, axis, positions.start, len(positions))
        elif list(positions) == list(range(value.shape[axis]))[::-1]:
            value = call.emit("flip", [value], dims=[axis])
        else:
            value = take(call, value, axis, np.array(positions, dtype=np.int64))
    return value


def take(call: NodeCall, value: Value, axis: int, indices: Array) -> Value:
    """Return the parts of a value at constant indices along an axis."""
    return call.emit("index_select", [value, call.make_constant(indices.astype(np.int64), "index")], dim=axis)


@register_operator("Tile")
def _import_tile(call: NodeCall) -> Results:
    value, repeats = call.get(0), call.get_integers(1, "repeats")
    if repeats is None or len(repeats) != len(value.shape) or min(repeats, default=1) < 1:
        raise OperatorUseError("needs a positive number of repeats for each axis")
    check_result_size(call, [length * count for length, count in zip(value.shape, repeats, strict=True)])
    return call.emit("repeat", [value], repeats=repeats) if max(repeats, default=1) > 1 else value


@register_operator("Pad")
def _import_pad(call: NodeCall) -> Results:
    value, mode = call.get(0), call.attributes["mode"]
    rank = len(value.shape)
    pads = call.attributes["pads"] if call.opset < 11 else call.get_integers(1, "pads")
    fill = call.attributes["value"] if call.opset < 11 else call.get_number(2, "constant_value")
    axes = call.get_integers(3, "axes") if call.opset >= 18 else None
    axes = list(range(rank)) if axes is None else normalize_axes(axes, rank)
    if pads is None or len(pads) != 2 * len(axes):
        raise OperatorUseError("needs two pads for each axis")
    widths = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    check_result_size(call, [max(0, length + sum(widths.get(axis, (0, 0)))) for axis, length in enumerate(value.shape)])
    if mode == "constant":
        if fill == -np.inf:
            # Behind scores; a softmax has exponentials of 0 there.
            call.writer.has_low_scores, fill = True, MASKED_SCORE
        return pad(call, value, widths, float(fill or 0.0))
    if _fits_pad_mode(value.shape, widths, mode):
        return pad(call, value, widths, mode=_PAD_MODES[mode])
    for axis, width in widths.items():
        value = _pad_by_index(call, value, axis, width, mode)
    return value


def _fits_pad_mode(shape: tuple[int, ...], widths: dict[int, tuple[int, int]], mode: str) -> bool:
    """Return whether PyTorch pads these axes by elements of the tensor."""
    padded = [axis for axis, width in widths.items() if any(width)]
    if not padded or mode not in _PAD_MODES:
        return False
    first = min(padded)
    limits = {"reflect": -1, "wrap": 0}
    return (
        first in (1, 2)
        and len(shape) - first <= _MOST_PADDED_AXES
        and all(
            min(widths[axis]) >= 0 and (mode not in limits or max(widths[axis]) <= shape[axis] + limits[mode])
            for axis in padded
        )
    )


def pad(
    call: NodeCall, value: Value, widths: dict[int, tuple[int, int]], fill: float = 0.0, mode: str = "constant"
) -> Value:
    """Return a value with a number, or with its own elements, before and behind axes; negative widths cut it."""
    if not any(any(width) for width in widths.values()):
        return value
    first = min(axis for axis, width in widths.items() if any(width))
    flat = [width for axis in range(len(value.shape) - 1, first - 1, -1) for width in widths.get(axis, (0, 0))]
    attributes = {"value": fill} if mode == "constant" else {"mode": mode}
    return call.emit("pad", [value], pad=flat, **attributes)


_PAD_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
"""Modes of padding by elements of the tensor, and PyTorch's names of them."""
_MOST_PADDED_AXES = 3


def _pad_by_index(call: NodeCall, value: Value, axis: int, width: tuple[int, int], mode: str) -> Value:
    """Return a value with copies of its own elements before and behind an axis."""
    if mode not in _PAD_MODES:
        raise OperatorUseError(f"has the mode {mode!r:.40}, which is not taken")
    positions: Any = np.arange(value.shape[axis])
    before, behind = width
    positions = positions[max(0, -before) : len(positions) - max(0, -behind)]
    padded: Array = np.pad(positions, (max(0, before), max(0, behind)), mode=cast("Any", mode))
    return value if list(padded) == list(range(value.shape[axis])) else take(call, value, axis, padded)


@register_operator("DepthToSpace")
def _import_depth_to_space(call: NodeCall) -> Results:
    value, size = call.get(0), call.attributes["blocksize"]
    if len(value.shape) != 4 or size < 1 or value.shape[1] % (size * size):
        raise OperatorUseError(f"takes an input (N, C, H, W) with C divisible by {size * size}")
    batch, channels, rows, columns = value.shape
    depth = channels // (size * size)
    if call.attributes.get("mode", "DCR") == "DCR":
        shape, dims = [batch, size, size, depth, rows, columns], [0, 3, 4, 1, 5, 2]
    else:
        shape, dims = [batch, depth, size, size, rows, columns], [0, 1, 4, 2, 5, 3]
    moved = call.emit("permute", [call.emit("reshape", [value], shape=shape)], dims=dims)
    return call.emit("reshape", [moved], shape=[batch, depth, rows * size, columns * size])


@register_operator("SpaceToDepth")
def _import_space_to_depth(call: NodeCall) -> Results:
    value, size = call.get(0), call.attributes["blocksize"]
    if len(value.shape) != 4 or size < 1 or value.shape[2] % size or value.shape[3] % size:
        raise OperatorUseError(f"takes an input (N, C, H, W) with H and W divisible by {size}")
    batch, channels, rows, columns = value.shape
    split = call.emit("reshape", [value], shape=[batch, channels, rows // size, size, columns // size, size])
    is_depth_first = call.attributes.get("mode", "DCR") == "DCR"
    moved = call.emit("permute", [split], dims=[0, 3, 5, 1, 2, 4] if is_depth_first else [0, 1, 3, 5, 2, 4])
    return call.emit("reshape", [moved], shape=[batch, channels * size * size, rows // size, columns // size])


@register_operator("Trilu")
def _import_trilu(call: NodeCall) -> Results:
    value = call.get(0)
    offset = int(call.get_number(1, "offset") or 0)
    return call.emit("triu" if call.attributes["upper"] else "tril", [value], diagonal=offset)
