"""Writing of updates at constant indices."""

import math

import numpy as np

from schemas.datatype import Array
from service.checks.importing.folding import check_result_size
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axis, register_operator
from service.checks.importing.operators.index import find_flat_positions, select_elements
from service.checks.importing.operators.shape import reshape
from service.checks.importing.operators.windows import get_list
from service.checks.importing.values import Value

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
"""Reductions of the service by those of ONNX."""


@register_operator("Scatter", "ScatterElements")
def _import_scatter_elements(call: NodeCall) -> Results:
    data, indices, updates = call.get(0), call.get_constant(1, "indices"), call.get(2)
    if indices is None or indices.shape != updates.shape or indices.ndim != len(data.shape):
        raise OperatorUseError("needs constant indices of the shape of its updates")
    axis = normalize_axis(call.attributes.get("axis", 0), len(data.shape))
    reduction = call.attributes.get("reduction", "none")
    if reduction in _REDUCTIONS and indices.size:
        index = call.make_constant(_wrap(indices, data.shape[axis]), "index")
        return call.emit("scatter_reduce", [data, index, updates], dim=axis, reduce=_REDUCTIONS[reduction])
    grids: list[Array] = [np.asarray(grid) for grid in np.indices(indices.shape)]
    grids[axis] = indices
    positions = find_flat_positions(data.shape, np.stack(grids, -1)).reshape(-1)
    return scatter(call, data, updates, positions, reduction)


def _wrap(indices: Array, length: int) -> Array:
    """Return indices counted from 0."""
    if indices.min() < -length or indices.max() >= length:
        raise OperatorUseError(f"has indices outside its axis of length {length}")
    return np.where(indices < 0, indices + length, indices).astype(np.int64)


@register_operator("ScatterND")
def _import_scatter_nd(call: NodeCall) -> Results:
    data, indices, updates = call.get(0), call.get_constant(1, "indices"), call.get(2)
    if indices is None or indices.ndim == 0:
        raise OperatorUseError("needs indices with one axis or more")
    positions = find_flat_positions(data.shape, indices).reshape(-1)
    if positions.size != math.prod(updates.shape):
        raise OperatorUseError(f"has updates of shape {list(updates.shape)}, which do not fit its indices")
    return scatter(call, data, updates, positions, call.attributes.get("reduction", "none"))


def scatter(call: NodeCall, data: Value, updates: Value, positions: Array, reduction: str) -> Value:
    """Return a tensor with updates at flat positions, one for each update.

    Without a reduction the last of several updates of one element stays, since ONNX leaves that open.
    """
    size, shape = math.prod(data.shape), list(data.shape)
    if reduction != "none" and reduction not in _REDUCTIONS:
        raise OperatorUseError(f"has the reduction {reduction!r:.40}, which is not taken")
    if not positions.size:
        return data
    if reduction == "none" and len(np.unique(positions)) < positions.size:
        chosen = np.arange(size)
        chosen[positions] = size + np.arange(positions.size)
        return select_elements(call, [data, updates], chosen, shape)
    flat, index = reshape(call, data, [size]), call.make_constant(positions.astype(np.int64), "index")
    moved = reshape(call, updates, [positions.size])
    if reduction == "none":
        return reshape(call, call.emit("scatter", [flat, index, moved], dim=0), shape)
    result = call.emit("scatter_reduce", [flat, index, moved], dim=0, reduce=_REDUCTIONS[reduction])
    return reshape(call, result, shape)


@register_operator("TensorScatter")
def _import_tensor_scatter(call: NodeCall) -> Results:
    """Write updates into a cache, along an axis from an index of each sample on."""
    data, updates, starts = call.get(0), call.get(1), call.get_integers(2, "write indices")
    axis = call.get_axis("axis", len(data.shape), -2)
    length, batch = data.shape[axis], data.shape[0]
    starts = [0] * batch if starts is None else starts
    fits = len(data.shape) == len(updates.shape) and all(
        k == axis or n == m for k, (n, m) in enumerate(zip(data.shape, updates.shape, strict=True))
    )
    if not fits or axis == 0 or len(starts) != batch:
        raise OperatorUseError("needs updates of the shape of its cache in all axes but one, and an index a sample")
    grids: list[Array] = [np.asarray(grid) for grid in np.indices(updates.shape)]
    grids[axis] = grids[axis] + np.array(starts).reshape(-1, *[1] * (len(data.shape) - 1))
    if call.attributes.get("mode", "linear") == "circular":
        grids[axis] = grids[axis] % length
    positions = find_flat_positions(data.shape, np.stack(grids, -1)).reshape(-1)
    return scatter(call, data, updates, positions, "none")


@register_operator("Col2Im")
def _import_col2im(call: NodeCall) -> Results:
    value = call.get(0)
    image, block = (call.get_integers(position, name) for position, name in ((1, "image_shape"), (2, "block_shape")))
    if not image or not block or len(image) != len(block) or len(value.shape) != 3 or min(block) < 1:
        raise OperatorUseError("needs an input of three axes, and an image and a block of as many axes")
    rank = len(image)
    strides, dilations = (get_list(call, name, rank, 1) for name in ("strides", "dilations"))
    pads = get_list(call, "pads", 2 * rank, 0)
    check_result_size(call, image)
    # The positions in the padded image of each element of each block, (block, blocks).
    along: list[Array] = []
    for axis in range(rank):
        room = image[axis] + pads[axis] + pads[axis + rank] - dilations[axis] * (block[axis] - 1) - 1
        starts = np.arange(room // strides[axis] + 1) * strides[axis] - pads[axis]
        along.append(np.arange(block[axis])[:, None] * dilations[axis] + starts)
    grids: list[Array] = []
    for axis, positions in enumerate(along):
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = positions.shape
        grids.append(positions.reshape(shape))
    places = np.stack(np.broadcast_arrays(*grids), -1).reshape(-1, rank)
    size, channels = math.prod(block), value.shape[1] // math.prod(block)
    if value.shape[1] != channels * size or len(places) != size * value.shape[2]:
        raise OperatorUseError(f"has {value.shape[2]} blocks, which do not fit its image")
    inside = ((places >= 0) & (places < np.array(image))).all(1)
    targets = np.ravel_multi_index(tuple(places[inside].T), image)
    planes = value.shape[0] * channels
    offsets = np.arange(planes)[:, None]
    chosen = (offsets * len(places) + np.flatnonzero(inside)).reshape(-1)
    updates = select_elements(call, [value], chosen, [chosen.size])
    zeros = call.make_constant(np.zeros((value.shape[0], channels, *image)), "zeros")
    return scatter(call, zeros, updates, (offsets * math.prod(image) + targets).reshape(-1), "add")
