"""Linear transforms by constant matrices: the discrete Fourier transform, of all of a signal or of its frames."""

import numpy as np

from schemas.datatype import Array
from service.checks.importing.folding import check_result_size
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axis, register_operator
from service.checks.importing.operators.shape import narrow, pad, reshape, take
from service.checks.importing.values import Value


@register_operator("DFT", since=17)
def _import_dft(call: NodeCall) -> Results:
    value = call.get(0)
    rank = len(value.shape)
    if rank < 2 or value.shape[-1] not in (1, 2):
        raise OperatorUseError(f"takes an input (..., n, 1) or (..., n, 2); the shape is {list(value.shape)}")
    is_inverse, is_onesided = bool(call.attributes.get("inverse")), bool(call.attributes.get("onesided"))
    is_half = is_inverse and is_onesided
    axis_number = call.attributes.get("axis", 1) if call.opset < 20 else call.get_number(2, "axis")
    axis = normalize_axis(int(-2 if axis_number is None else axis_number), rank)
    length = int(call.get_number(1, "dft_length") or (2 * (value.shape[axis] - 1) if is_half else value.shape[axis]))
    if length < 1:
        raise OperatorUseError(f"has the length {length}; it must be positive")
    read = length // 2 + 1 if is_half else length
    value = narrow(call, value, axis, 0, min(read, value.shape[axis]))
    value = pad(call, value, {axis: (0, read - value.shape[axis])})
    moved = _move_axis(call, value, axis, rank)
    check_result_size(call, [4 * length * read])
    parts = value.shape[-1]
    if is_half:
        matrix = _make_half_inverse(length)[:, :parts]
    else:
        matrix = _make_fourier(length, length // 2 + 1 if is_onesided else length, is_inverse=is_inverse)[:, :parts]
    return _move_axis_back(call, _transform(call, moved, matrix), axis, rank)


def _make_fourier(length: int, columns: int, *, is_inverse: bool = False) -> Array:
    """Return the weights of each input, in parts, in each output, in parts: (length, 2, columns, 2).

    The real and the imaginary part together are a vector, which exp(-2 pi i k t / n) turns. The inverse turns it back,
    and divides by n.
    """
    angles = 2 * np.pi * (np.outer(np.arange(length), np.arange(columns)) % length) / length
    cosine, sine = np.cos(angles), np.sin(angles) * (1 if is_inverse else -1)
    rows = [np.stack(row, -1) for row in ([cosine, sine], [-sine, cosine])]
    return np.stack(rows, 1) / (length if is_inverse else 1)


def _make_half_inverse(length: int) -> Array:
    """Return the weights of each half of a spectrum, in parts, in each real number: (length // 2 + 1, 2, length, 1).

    The other half is conjugate: each frequency counts twice, but 0 and, for an even length, the last.
    """
    count = length // 2 + 1
    angles = 2 * np.pi * (np.outer(np.arange(count), np.arange(length)) % length) / length
    factors: Array = np.full((count, 1), 2.0)
    factors[0] = 1.0
    if length % 2 == 0:
        factors[-1] = 1.0
    return (np.stack([factors * np.cos(angles), -factors * np.sin(angles)], 1) / length)[..., None]


def _transform(call: NodeCall, value: Value, matrix: Array) -> Value:
    """Return the transform of the last two axes, (..., length, parts), by weights."""
    length, parts, columns, results = matrix.shape
    flat = reshape(call, value, [*value.shape[:-2], length * parts])
    kernel = call.make_constant(matrix.reshape(length * parts, columns * results), "fourier")
    product = call.emit("matmul", [flat, kernel])
    return reshape(call, product, [*value.shape[:-2], columns, results])


@register_operator("STFT", since=17)
def _import_stft(call: NodeCall) -> Results:
    value, step, window = call.get(0), int(call.get_number(1, "frame_step") or 0), call.get_optional(2)
    length = call.get_number(3, "frame_length")
    if len(value.shape) not in (2, 3) or (len(value.shape) == 3 and value.shape[-1] not in (1, 2)):
        raise OperatorUseError(f"takes a signal (N, L), (N, L, 1) or (N, L, 2); the shape is {list(value.shape)}")
    if length is None:
        length = value.shape[1] if window is None else window.shape[0]
    size = int(length)
    if step < 1 or not 1 <= size <= value.shape[1] or (window is not None and window.shape != (size,)):
        raise OperatorUseError("needs a positive frame_step, and a window of a frame's length within the signal")
    count, parts = 1 + (value.shape[1] - size) // step, 1 if len(value.shape) == 2 else value.shape[2]
    check_result_size(call, [count, size], [4 * size * size])
    places = (step * np.arange(count)[:, None] + np.arange(size)).reshape(-1)
    frames = reshape(call, take(call, value, 1, places), [value.shape[0], count, size, parts])
    if window is not None:
        frames = call.emit("mul", [frames, reshape(call, window, [size, 1])])
    columns = size // 2 + 1 if call.attributes.get("onesided", 1) else size
    return _transform(call, frames, _make_fourier(size, columns)[:, :parts])


def _move_axis(call: NodeCall, value: Value, axis: int, rank: int) -> Value:
    """Return a value whose axis stands before the last one."""
    dims = [k for k in range(rank) if k not in (axis, rank - 1)]
    dims = [*dims, axis, rank - 1]
    return value if dims == list(range(rank)) else call.emit("permute", [value], dims=dims)


def _move_axis_back(call: NodeCall, value: Value, axis: int, rank: int) -> Value:
    dims = [k for k in range(rank) if k not in (axis, rank - 1)]
    order = [*dims, axis, rank - 1]
    return value if order == list(range(rank)) else call.emit("permute", [value], dims=np.argsort(order).tolist())
