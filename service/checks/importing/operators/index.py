"""Selection by indices that are known at the import, or drawn for an input of integers."""

import math

import numpy as np

from schemas.datatype import Array
from service.checks.importing.folding import check_result_size
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axis, register_operator
from service.checks.importing.operators.shape import narrow, pad, reshape
from service.checks.importing.values import Known, Symbol, Value


@register_operator("Gather")
def _import_gather(call: NodeCall) -> Results:
    data = call.get(0)
    axis = call.get_axis("axis", len(data.shape), 0)
    indices = call.get_any_indices(1, data.shape[axis] if data.shape else 1)
    if axis == 0 and len(data.shape) == 2 and indices.shape:
        return call.emit("embedding", [indices, data])
    if isinstance(indices, Symbol):
        if len(indices.shape) != 1:
            raise OperatorUseError("needs computed indices of one axis, or rows of a matrix")
        return call.emit("index_select", [data, indices], dim=axis)
    if indices.origin == "constant" and not indices.shape and data.shape:
        return call.emit("select", [data], dim=axis, index=int(indices.array))
    flat = Known(indices.array.reshape(-1), indices.name, origin=indices.origin)
    chosen = call.emit("index_select", [data, flat], dim=axis)
    return reshape(call, chosen, [*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]])


@register_operator("GatherElements")
def _import_gather_elements(call: NodeCall) -> Results:
    data = call.get(0)
    axis = call.get_axis("axis", len(data.shape), 0)
    return call.emit("gather", [data, call.get_any_indices(1, data.shape[axis])], dim=axis)


@register_operator("GatherND")
def _import_gather_nd(call: NodeCall) -> Results:
    data, indices, batch = call.get(0), call.get_constant(1, "indices"), call.attributes.get("batch_dims", 0)
    if indices is None or indices.ndim == 0:
        raise OperatorUseError("needs indices with one axis or more")
    positions = find_flat_positions(data.shape, indices, batch)
    rest = data.shape[batch + indices.shape[-1] :]
    return select_elements(call, [data], positions, [*indices.shape[:-1], *rest])


def find_flat_positions(shape: tuple[int, ...], indices: Array, batch: int = 0) -> Array:
    """Return the flat positions that indices of several axes choose, for all elements of the axes behind these.

    Parameters
    ----------
    shape
        Shape of the indexed tensor.
    indices
        Indices, (..., k), of the k axes behind the first `batch` ones, which both have.
    batch
        Number of leading axes that the tensor and the indices share.

    Raises
    ------
    OperatorUseError
        An index lies outside its axis.
    """
    depth = indices.shape[-1]
    lengths = np.array(shape[batch : batch + depth], dtype=np.int64)
    if len(lengths) != depth or (np.abs(indices + 0.5) > lengths).any():
        raise OperatorUseError("has indices outside the tensor")
    wrapped = np.where(indices < 0, indices + lengths, indices)
    inner = math.prod(shape[batch + depth :])
    strides = np.array([inner * math.prod(shape[batch + k + 1 : batch + depth]) for k in range(depth)], dtype=np.int64)
    base = (wrapped * strides).sum(-1)
    grids = np.arange(math.prod(shape[:batch])).reshape(*shape[:batch], *[1] * (base.ndim - batch))
    return (base + grids * math.prod(shape[batch:]))[..., None] + np.arange(inner)


def select_elements(call: NodeCall, sources: list[Value], positions: Array, shape: list[int]) -> Value:
    """Return the elements at flat positions in some tensors, one behind the other, in a shape."""
    check_result_size(call, shape)
    flat = [reshape(call, source, [math.prod(source.shape)]) for source in sources]
    joined = call.emit("cat", [flat], dim=0) if len(flat) > 1 else flat[0]
    index = call.make_constant(positions.reshape(-1).astype(np.int64), "index")
    return reshape(call, call.emit("index_select", [joined, index], dim=0), shape)


@register_operator("Compress")
def _import_compress(call: NodeCall) -> Results:
    data, condition, axis = call.get(0), call.get_constant(1, "condition"), call.attributes.get("axis")
    if condition is None:
        raise OperatorUseError("lacks its condition")
    kept = np.flatnonzero(condition)
    if axis is None:
        return select_elements(call, [data], kept, [len(kept)])
    return call.emit(
        "index_select", [data, call.make_constant(kept, "index")], dim=normalize_axis(axis, len(data.shape))
    )


@register_operator("OneHot")
def _import_one_hot(call: NodeCall) -> Results:
    depth, values = call.get_number(1, "depth"), call.get(2)
    indices = call.get_constant(0, "indices")
    if indices is None or depth is None or values.shape != (2,) or not values.is_float:
        raise OperatorUseError("needs indices, a depth and two values")
    check_result_size(call, (*indices.shape, int(depth)))
    wrapped = np.where(indices < 0, indices + depth, indices)
    hits = np.expand_dims(wrapped, -1) == np.arange(int(depth))
    axis = normalize_axis(call.attributes.get("axis", -1), indices.ndim + 1)
    return select_elements(call, [values], np.moveaxis(hits, -1, axis), list(np.moveaxis(hits, -1, axis).shape))


@register_operator("ReverseSequence")
def _import_reverse_sequence(call: NodeCall) -> Results:
    value, lengths = call.get(0), call.get_integers(1, "sequence lengths")
    batch_axis, time_axis = call.attributes["batch_axis"], call.attributes["time_axis"]
    if lengths is None or {batch_axis, time_axis} != {0, 1} or len(lengths) != value.shape[batch_axis]:
        raise OperatorUseError("needs the axes 0 and 1, and a length for each sample")
    steps = value.shape[int(time_axis)]
    times: Array = np.array([[n - 1 - t if t < n else t for t in range(steps)] for n in lengths])
    samples: Array = np.broadcast_to(np.arange(len(lengths))[:, None], times.shape)
    pairs: Array = np.stack([samples, times], -1) if batch_axis == 0 else np.stack([times.T, samples.T], -1)
    return select_elements(call, [value], find_flat_positions(value.shape, pairs), list(value.shape))


@register_operator("CenterCropPad")
def _import_center_crop_pad(call: NodeCall) -> Results:
    value, sizes = call.get(0), call.get_integers(1, "shape")
    axes = call.attributes.get("axes") or list(range(len(value.shape)))
    if sizes is None or len(sizes) != len(axes):
        raise OperatorUseError("needs a length for each axis")
    for axis, size in zip([normalize_axis(axis, len(value.shape)) for axis in axes], sizes, strict=True):
        excess = value.shape[axis] - size
        if excess > 0:
            value = narrow(call, value, axis, excess // 2, size)
        else:
            value = pad(call, value, {axis: (-excess // 2, -excess - -excess // 2)})
    return value
