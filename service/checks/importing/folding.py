"""Operators on numbers that the file gives, computed at the import: the arithmetic of shapes, masks and constants.

Each function takes a call and the arrays of its inputs, and returns the arrays of its outputs. The size of a result
is known and counted before the result is made.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import onnx

from schemas.datatype import Array, round_to_bfloat16
from service.checks.importing.import_errors import LimitError, OperatorUseError
from service.checks.importing.operator_registry import NodeCall, normalize_axes, normalize_axis
from service.checks.importing.stored_tensors import FLOAT_TYPES, INTEGER_TYPES, get_type_name

Arrays = Sequence[Array | None]
Folder = Callable[[NodeCall, Any], Sequence[Array]]
_FOLDERS: dict[str, Folder] = {}


def _fold(*names: str) -> Callable[[Folder], Folder]:
    def register(folder: Folder) -> Folder:
        for name in names:
            _FOLDERS[name] = folder
        return folder

    return register


def find_folder(operator: str) -> Folder | None:
    """Return the function that computes an operator; None without one."""
    return _FOLDERS.get(operator)


def check_result_size(call: NodeCall, *shapes: Sequence[int]) -> None:
    """Refuse a result that is too large, before it is made.

    Raises
    ------
    LimitError
        With the limit.
    """
    for shape in shapes:
        if len(shape) > call.limits.dimensions or math.prod(shape) > call.limits.elements:
            raise LimitError(
                f"a tensor would have more than {call.limits.elements} elements, or more than "
                f"{call.limits.dimensions} dimensions"
            )


def _broadcast(call: NodeCall, *arrays: Array) -> None:
    try:
        check_result_size(call, np.broadcast_shapes(*(array.shape for array in arrays)))
    except ValueError:
        raise OperatorUseError("has constants whose shapes do not broadcast together") from None


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    if not np.all(b):
        raise OperatorUseError("divides an integer by zero")
    # ONNX divides integers as C does, towards zero.
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide,
    "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal,
    "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    "Pow": lambda a, b: np.power(a.astype(np.float64), b).astype(a.dtype),
}  # fmt: skip
_UNARY: dict[str, Callable[[Array], Array]] = {
    "Neg": np.negative, "Abs": np.abs, "Not": np.logical_not, "Sqrt": np.sqrt, "Exp": np.exp, "Log": np.log,
    "Floor": np.floor, "Ceil": np.ceil, "Round": np.round, "Sign": np.sign, "Sin": np.sin, "Cos": np.cos,
    "Reciprocal": np.reciprocal, "IsNaN": np.isnan, "Tanh": np.tanh,
}  # fmt: skip


@_fold(*_BINARY)
def _fold_binary(call: NodeCall, arrays: Any) -> Sequence[Array]:
    a, b = arrays
    _broadcast(call, a, b)
    return [_BINARY[call.operator](a, b)]


@_fold(*_UNARY)
def _fold_unary(call: NodeCall, arrays: Any) -> Sequence[Array]:
    return [_UNARY[call.operator](arrays[0])]


@_fold("Mod")
def _fold_mod(call: NodeCall, arrays: Any) -> Sequence[Array]:
    a, b = arrays
    _broadcast(call, a, b)
    if a.dtype.kind != "f" and not np.all(b):
        raise OperatorUseError("divides an integer by zero")
    return [np.fmod(a, b) if call.attributes.get("fmod") else np.mod(a, b)]


@_fold("Min", "Max", "Sum")
def _fold_joined(call: NodeCall, arrays: Any) -> Sequence[Array]:
    join = {"Min": np.minimum, "Max": np.maximum, "Sum": np.add}[call.operator]
    result = arrays[0]
    for array in arrays[1:]:
        _broadcast(call, result, array)
        result = join(result, array)
    return [result]


def _choose(condition: Array, chosen: Any, other: Any) -> Array:
    """Return numbers of two arrays by a condition; NumPy's declaration of the result is wider."""
    return cast("Any", np.where)(condition, chosen, other)


@_fold("Where")
def _fold_where(call: NodeCall, arrays: Any) -> Sequence[Array]:
    _broadcast(call, *arrays)
    condition, chosen, other = arrays
    return [_choose(condition, chosen, other)]


@_fold("Clip")
def _fold_clip(call: NodeCall, arrays: Any) -> Sequence[Array]:
    low, high = [*arrays[1:], None, None][:2]
    result = arrays[0] if low is None else np.maximum(arrays[0], low)
    return [result if high is None else np.minimum(result, high)]


@_fold("Concat")
def _fold_concat(call: NodeCall, arrays: Any) -> Sequence[Array]:
    check_result_size(call, [sum(array.size for array in arrays)])
    return [np.concatenate(arrays, axis=call.get_axis("axis", arrays[0].ndim))]


@_fold("Gather")
def _fold_gather(call: NodeCall, arrays: Any) -> Sequence[Array]:
    data, indices = arrays
    axis = call.get_axis("axis", data.ndim, 0)
    check_result_size(call, (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))
    return [np.take(data, indices, axis=axis)]


@_fold("GatherElements")
def _fold_gather_elements(call: NodeCall, arrays: Any) -> Sequence[Array]:
    data, indices = arrays
    return [np.take_along_axis(data, indices, axis=call.get_axis("axis", data.ndim, 0))]


@_fold("Range")
def _fold_range(call: NodeCall, arrays: Any) -> Sequence[Array]:
    start, limit, delta = (array.reshape(()) for array in arrays)
    if delta == 0 or not np.isfinite((float(start), float(limit), float(delta))).all():
        raise OperatorUseError("has a step of 0, or an end that is not finite")
    count = max(0, math.ceil((float(limit) - float(start)) / float(delta)))
    check_result_size(call, [count])
    return [(start + np.arange(count, dtype=start.dtype) * delta).astype(start.dtype)]


@_fold("ConstantOfShape")
def _fold_constant_of_shape(call: NodeCall, arrays: Any) -> Sequence[Array]:
    shape = [int(length) for length in arrays[0].ravel()]
    value = call.attributes.get("value")
    check_result_size(call, shape)
    return [np.full(shape, np.float32(0) if value is None else value.reshape(-1)[0])]


@_fold("EyeLike")
def _fold_eye(call: NodeCall, arrays: Any) -> Sequence[Array]:
    rows, columns = arrays[0].shape
    data_type = call.attributes.get("dtype")
    eye = np.eye(rows, columns, call.attributes.get("k", 0), dtype=arrays[0].dtype)
    return [eye if data_type is None else cast_array(eye, data_type)]


def cast_array(array: Array, data_type: int) -> Array:
    """Return numbers in a type of ONNX; bfloat16 in float32.

    Raises
    ------
    OperatorUseError
        The type is not taken.
    """
    if data_type == onnx.TensorProto.BFLOAT16:
        return round_to_bfloat16(array.astype(np.float64)).astype(np.float32)
    if data_type in FLOAT_TYPES:
        return array.astype(FLOAT_TYPES[data_type][0])
    if data_type in (*INTEGER_TYPES, onnx.TensorProto.BOOL):
        return array.astype(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    raise OperatorUseError(f"makes numbers of the type {get_type_name(data_type)}, which is not taken")


@_fold("Constant")
def _fold_constant(call: NodeCall, arrays: Any) -> Sequence[Array]:
    types = {"value": None, "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64}
    for name, dtype in (types | {"value_ints": np.int64}).items():
        if name in call.attributes:
            return [np.asarray(call.attributes[name], dtype)]
    raise OperatorUseError("holds text or a sparse tensor; that is not taken")


@_fold("Reshape")
def _fold_reshape(call: NodeCall, arrays: Any) -> Sequence[Array]:
    sizes = resolve_shape(arrays[0].shape, arrays[1].ravel().tolist(), bool(call.attributes.get("allowzero")))
    return [arrays[0].reshape(sizes)]


def resolve_shape(shape: Sequence[int], sizes: Sequence[int], allow_zero: bool) -> list[int]:
    """Return the lengths that a Reshape means, 0 for the length of the input and -1 for what is left.

    Raises
    ------
    OperatorUseError
        The lengths do not fit the input.
    """
    copied = [
        shape[axis] if size == 0 and not allow_zero and axis < len(shape) else size for axis, size in enumerate(sizes)
    ]
    known = math.prod(size for size in copied if size != -1)
    if -1 in copied and known:
        copied[copied.index(-1)] = math.prod(shape) // known
    if min(copied, default=0) < 0 or math.prod(copied) != math.prod(shape):
        raise OperatorUseError(f"has the shape {list(sizes)}, which does not fit an input of shape {list(shape)}")
    return copied


@_fold("Flatten")
def _fold_flatten(call: NodeCall, arrays: Any) -> Sequence[Array]:
    axis = call.attributes.get("axis", 1)
    axis = axis + arrays[0].ndim if axis < 0 else axis
    return [arrays[0].reshape(math.prod(arrays[0].shape[:axis]), -1)]


def find_unsqueezed_shape(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Return a shape with new axes of length 1."""
    rank = len(shape) + len(axes)
    new_axes, lengths = normalize_axes(axes, rank), iter(shape)
    return [1 if axis in new_axes else next(lengths) for axis in range(rank)]


def find_squeezed_shape(shape: Sequence[int], axes: Sequence[int] | None) -> list[int]:
    """Return a shape without some axes of length 1, without all of them by default."""
    dropped = (
        [axis for axis, length in enumerate(shape) if length == 1] if axes is None else normalize_axes(axes, len(shape))
    )
    if any(shape[axis] != 1 for axis in dropped):
        raise OperatorUseError(f"drops an axis whose length is not 1: the shape is {list(shape)}, the axes {dropped}")
    return [length for axis, length in enumerate(shape) if axis not in dropped]


def get_axes(call: NodeCall, position: int = 1) -> list[int] | None:
    """Return axes, an attribute of old versions and an input of new ones; None if there are none."""
    axes = call.attributes.get("axes")
    return list(axes) if axes is not None else call.get_integers(position, "axes")


@_fold("Unsqueeze")
def _fold_unsqueeze(call: NodeCall, arrays: Any) -> Sequence[Array]:
    return [arrays[0].reshape(find_unsqueezed_shape(arrays[0].shape, get_axes(call) or []))]


@_fold("Squeeze")
def _fold_squeeze(call: NodeCall, arrays: Any) -> Sequence[Array]:
    return [arrays[0].reshape(find_squeezed_shape(arrays[0].shape, get_axes(call)))]


@_fold("Transpose")
def _fold_transpose(call: NodeCall, arrays: Any) -> Sequence[Array]:
    return [np.transpose(arrays[0], call.attributes.get("perm"))]


@_fold("Expand")
def _fold_expand(call: NodeCall, arrays: Any) -> Sequence[Array]:
    shape = np.broadcast_shapes(arrays[0].shape, tuple(arrays[1].ravel().tolist()))
    check_result_size(call, shape)
    return [np.broadcast_to(arrays[0], shape)]


@_fold("Tile")
def _fold_tile(call: NodeCall, arrays: Any) -> Sequence[Array]:
    repeats = arrays[1].ravel().tolist()
    check_result_size(call, [length * count for length, count in zip(arrays[0].shape, repeats, strict=True)])
    return [np.tile(arrays[0], repeats)]


@_fold("Trilu")
def _fold_trilu(call: NodeCall, arrays: Any) -> Sequence[Array]:
    offset = call.get_number(1, "offset") or 0
    return [(np.triu if call.attributes.get("upper", 1) else np.tril)(arrays[0], int(offset))]


@_fold("CumSum")
def _fold_cumsum(call: NodeCall, arrays: Any) -> Sequence[Array]:
    axis = normalize_axis(int(arrays[1].reshape(())), arrays[0].ndim)
    source = np.flip(arrays[0], axis) if call.attributes.get("reverse") else arrays[0]
    total = np.cumsum(source, axis=axis).astype(source.dtype)
    if call.attributes.get("exclusive"):
        total = total - source
    return [np.flip(total, axis) if call.attributes.get("reverse") else total]


@_fold("Pad")
def _fold_pad(call: NodeCall, arrays: Any) -> Sequence[Array]:
    array, pads = arrays[0], call.get_integers(1, "pads") if call.opset >= 11 else call.attributes["pads"]
    axes = call.get_integers(3, "axes") if call.opset >= 18 else None
    axes = list(range(array.ndim)) if axes is None else normalize_axes(axes, array.ndim)
    if call.attributes.get("mode", "constant") != "constant" or pads is None or len(pads) != 2 * len(axes):
        raise OperatorUseError("needs two pads for each axis, and the mode constant, for constants")
    if min(pads, default=0) < 0:
        raise OperatorUseError("has constants with negative pads; that is not taken")
    widths = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    pairs = [widths.get(axis, (0, 0)) for axis in range(array.ndim)]
    check_result_size(call, [length + sum(pair) for length, pair in zip(array.shape, pairs, strict=True)])
    fill = call.attributes.get("value") if call.opset < 11 else arrays[2] if len(arrays) > 2 else None
    return [np.pad(array, pairs, constant_values=0 if fill is None else np.asarray(fill).reshape(()).item())]


@_fold("NonZero")
def _fold_nonzero(call: NodeCall, arrays: Any) -> Sequence[Array]:
    check_result_size(call, [arrays[0].size * max(1, arrays[0].ndim)])
    return [np.array(np.nonzero(arrays[0]), dtype=np.int64)]


@_fold("OneHot")
def _fold_one_hot(call: NodeCall, arrays: Any) -> Sequence[Array]:
    indices: Array = arrays[0]
    depth: Array = arrays[1]
    values: Array = arrays[2]
    count, rank = int(depth.reshape(())), indices.ndim + 1
    check_result_size(call, (*indices.shape, count))
    wrapped = indices.astype(np.int64)
    hits = np.expand_dims(np.where(wrapped < 0, wrapped + count, wrapped), -1) == np.arange(count)
    hot = _choose(hits, values[1], values[0])
    return [np.moveaxis(hot, -1, normalize_axis(call.attributes.get("axis", -1), rank))]


_REDUCTIONS: dict[str, Any] = {
    "ReduceSum": np.sum, "ReduceProd": np.prod, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceMean": np.mean,
}  # fmt: skip


@_fold(*_REDUCTIONS)
def _fold_reduction(call: NodeCall, arrays: Any) -> Sequence[Array]:
    axes = get_axes(call)
    if not axes and call.attributes.get("noop_with_empty_axes"):
        return [arrays[0]]
    chosen = tuple(normalize_axes(axes, arrays[0].ndim)) if axes else None
    result = _REDUCTIONS[call.operator](arrays[0], axis=chosen, keepdims=bool(call.attributes.get("keepdims", 1)))
    return [np.asarray(result).astype(arrays[0].dtype)]


@_fold("ArgMax", "ArgMin")
def _fold_extremum(call: NodeCall, arrays: Any) -> Sequence[Array]:
    find = np.argmax if call.operator == "ArgMax" else np.argmin
    axis = call.get_axis("axis", arrays[0].ndim, 0)
    is_last, keep = bool(call.attributes.get("select_last_index")), bool(call.attributes.get("keepdims", 1))
    found = np.asarray(find(np.flip(arrays[0], axis) if is_last else arrays[0], axis=axis, keepdims=keep))
    return [arrays[0].shape[axis] - 1 - found if is_last else found]


def find_slices(call: NodeCall, shape: Sequence[int]) -> list[slice]:
    """Return the slices of a Slice, whose bounds are attributes in old versions and inputs in new ones."""
    if call.opset < 10:
        starts, ends, axes = (call.attributes.get(name) for name in ("starts", "ends", "axes"))
        steps = None
    else:
        starts, ends = call.get_integers(1, "starts"), call.get_integers(2, "ends")
        axes, steps = call.get_integers(3, "axes"), call.get_integers(4, "steps")
    if starts is None or ends is None:
        raise OperatorUseError("lacks its starts or ends")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise OperatorUseError("has starts, ends, axes and steps of different numbers, or a step of 0")
    slices = [slice(None)] * len(shape)
    for axis, start, end, step in zip(normalize_axes(axes, len(shape)), starts, ends, steps, strict=True):
        # An end before the first element is, for a negative step, one that Python's slices write as None.
        is_before = step < 0 and end < -shape[axis]
        slices[axis] = slice(start, None if is_before else end, step)
    return slices


@_fold("Slice")
def _fold_slice(call: NodeCall, arrays: Any) -> Sequence[Array]:
    return [arrays[0][tuple(find_slices(call, arrays[0].shape))]]


def find_split_lengths(call: NodeCall, length: int) -> list[int]:
    """Return the lengths of the parts of a Split along its axis."""
    lengths = call.attributes.get("split") if call.opset < 13 else call.get_integers(1, "split")
    if lengths is None:
        count = call.attributes.get("num_outputs") or call.output_count
        size = -(-length // max(1, count))
        lengths = [max(0, min(size, length - size * part)) for part in range(min(count, length + 1))]
    if sum(lengths) != length or min(lengths, default=0) < 0:
        raise OperatorUseError(f"has parts of the lengths {list(lengths)} of an axis of length {length}")
    return list(lengths)


@_fold("Split")
def _fold_split(call: NodeCall, arrays: Any) -> Sequence[Array]:
    axis = call.get_axis("axis", arrays[0].ndim, 0)
    ends = np.cumsum(find_split_lengths(call, arrays[0].shape[axis]))[:-1]
    return list(np.split(arrays[0], ends, axis=axis))
