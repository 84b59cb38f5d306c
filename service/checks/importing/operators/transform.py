"""Linear transforms by constant matrices: the discrete Fourier transform."""

import numpy as np

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axis, register_operator
from service.checks.importing.operators.shape import narrow, pad, reshape
from service.checks.importing.values import Value


@register_operator("DFT", since=17)
def _import_dft(call: NodeCall) -> Results:
    value = call.get(0)
    rank = len(value.shape)
    if rank < 2 or value.shape[-1] not in (1, 2):
        raise OperatorUseError(f"takes an input (..., n, 1) or (..., n, 2); the shape is {list(value.shape)}")
    is_inverse, is_onesided = bool(call.attributes.get("inverse")), bool(call.attributes.get("onesided"))
    axis_number = call.attributes.get("axis", 1) if call.opset < 20 else call.get_number(2, "axis")
    axis = normalize_axis(int(-2 if axis_number is None else axis_number), rank)
    if is_inverse and is_onesided:
        raise OperatorUseError("of half a spectrum (inverse and onesided) is not taken")
    length = int(call.get_number(1, "dft_length") or value.shape[axis])
    value = narrow(call, value, axis, 0, min(length, value.shape[axis]))
    value = pad(call, value, {axis: (0, length - value.shape[axis])})
    moved = _move_axis(call, value, axis, rank)
    columns = length // 2 + 1 if is_onesided else length
    angles = 2 * np.pi * (np.outer(np.arange(length), np.arange(columns)) % length) / length
    cosine, sine = np.cos(angles), np.sin(angles) * (1 if is_inverse else -1)
    scale = length if is_inverse else 1
    # The real and the imaginary part together are a vector, which one matrix turns and sums.
    parts = [[cosine, sine], [-sine, cosine]][: value.shape[-1]]
    matrix = np.concatenate([np.stack(row, -1)[:, None] for row in parts], 1) / scale
    flat = reshape(call, moved, [*moved.shape[:-2], length * value.shape[-1]])
    kernel = call.make_constant(matrix.reshape(length * value.shape[-1], columns * 2), "fourier")
    product = call.emit("matmul", [flat, kernel])
    back = reshape(call, product, [*moved.shape[:-2], columns, 2])
    return _move_axis_back(call, back, axis, rank)


def _move_axis(call: NodeCall, value: Value, axis: int, rank: int) -> Value:
    """Return a value whose axis stands before the last one."""
    dims = [k for k in range(rank) if k not in (axis, rank - 1)]
    dims = [*dims, axis, rank - 1]
    return value if dims == list(range(rank)) else call.emit("permute", [value], dims=dims)


def _move_axis_back(call: NodeCall, value: Value, axis: int, rank: int) -> Value:
    dims = [k for k in range(rank) if k not in (axis, rank - 1)]
    order = [*dims, axis, rank - 1]
    return value if order == list(range(rank)) else call.emit("permute", [value], dims=np.argsort(order).tolist())
