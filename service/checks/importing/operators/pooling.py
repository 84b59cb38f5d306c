"""Pools over any number of axes, two after two: both a maximum and a sum can be taken along one axis after another."""

import math

import numpy as np

from schemas.datatype import Array
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator
from service.checks.importing.operators.shape import narrow, pad, reshape
from service.checks.importing.operators.windows import Windows, read_windows
from service.checks.importing.values import Missing, Value

_MOST_AXES = 3
"""Most axes of a window that an op of the service has."""
_LOWEST = -3.0e38
"""Padding below all numbers that a model computes with: float32 has none below -3.41e38."""


def _read_pool(call: NodeCall) -> Windows:
    value = call.get(0)
    if len(value.shape) < 3:
        raise OperatorUseError(f"takes an input (N, C, ...); the shape is {list(value.shape)}")
    return read_windows(call, tuple(call.attributes["kernel_shape"]), value.shape[2:])


def _count_windows(call: NodeCall, windows: Windows, lengths: tuple[int, ...]) -> list[int]:
    """Return the number of windows along each axis: with ceil_mode the last may end outside."""
    counts: list[int] = []
    for axis, length in enumerate(lengths):
        before, behind, stride = windows.before[axis], windows.behind[axis], windows.strides[axis]
        room = length + before + behind - windows.spans[axis]
        count = (-(-room // stride) if call.attributes.get("ceil_mode") else room // stride) + 1
        if call.attributes.get("ceil_mode") and (count - 1) * stride >= length + before:
            count -= 1
        if count < 1:
            raise OperatorUseError(f"has windows larger than its padded input {list(lengths)}")
        counts.append(count)
    return counts


def _pad_to_windows(call: NodeCall, value: Value, windows: Windows, counts: list[int], fill: float) -> Value:
    """Return an input that the windows fill exactly."""
    widths: dict[int, tuple[int, int]] = {}
    for axis, count in enumerate(counts):
        required = (count - 1) * windows.strides[axis] + windows.spans[axis]
        before = windows.before[axis]
        widths[2 + axis] = before, max(0, required - before - value.shape[2 + axis])
    return pad(call, value, widths, fill)


@register_operator("MaxPool")
def _import_max_pool(call: NodeCall) -> Results:
    return [_pool_maxima(call), Missing("the indices of a MaxPool")][: call.output_count]


def _pool_maxima(call: NodeCall) -> Value:
    value, windows = call.get(0), _read_pool(call)
    counts = _count_windows(call, windows, value.shape[2:])
    if len(counts) <= _MOST_AXES and _is_plain(windows) and not call.attributes.get("ceil_mode"):
        return call.emit(
            f"max_pool{len(counts)}d",
            [value],
            kernel_size=windows.kernel,
            stride=windows.strides,
            padding=windows.before,
            dilation=windows.dilations,
        )
    value = _pad_to_windows(call, value, windows, counts, _LOWEST)
    for axis, count in enumerate(counts):
        value = _pool_axis(call, value, axis, count, windows, "max_pool2d", dilation=[1, windows.dilations[axis]])
    return value


def _is_plain(windows: Windows) -> bool:
    return windows.is_symmetric and all(2 * p <= k for p, k in zip(windows.before, windows.kernel, strict=True))


def _pool_axis(
    call: NodeCall, value: Value, axis: int, count: int, windows: Windows, op_name: str, **attributes: list[int]
) -> Value:
    """Return the pool of a padded input along one axis."""
    shape = value.shape
    before, length, behind = math.prod(shape[: 2 + axis]), shape[2 + axis], math.prod(shape[3 + axis :])
    flat = reshape(call, value, [1, before, length, behind])
    swapped = (
        call.emit("permute", [flat], dims=[0, 1, 3, 2]) if behind > 1 else reshape(call, flat, [1, 1, before, length])
    )
    pooled: Value = call.emit(
        op_name, [swapped], kernel_size=[1, windows.kernel[axis]], stride=[1, windows.strides[axis]], **attributes
    )
    pooled = narrow(call, pooled, 3, 0, count)
    back = call.emit("permute", [pooled], dims=[0, 1, 3, 2]) if behind > 1 else pooled
    return reshape(call, back, [*shape[: 2 + axis], count, *shape[3 + axis :]])


@register_operator("AveragePool")
def _import_average_pool(call: NodeCall) -> Results:
    value, windows = call.get(0), _read_pool(call)
    counts = _count_windows(call, windows, value.shape[2:])
    includes_pads = bool(call.attributes.get("count_include_pad"))
    is_dense = set(windows.dilations) == {1}
    if len(counts) <= _MOST_AXES and _is_plain(windows) and is_dense and not call.attributes.get("ceil_mode"):
        return call.emit(
            f"avg_pool{len(counts)}d",
            [value],
            kernel_size=windows.kernel,
            stride=windows.strides,
            padding=windows.before,
            count_include_pad=includes_pads,
        )
    total = _sum_windows(call, value, windows, counts)
    elements = _count_elements(windows, value.shape[2:], counts, includes_pads=includes_pads)
    if (elements == elements.reshape(-1)[0]).all():
        return call.emit("div", [total, float(elements.reshape(-1)[0])])
    return call.emit("div", [total, call.make_constant(elements, "count")])


def _sum_windows(call: NodeCall, value: Value, windows: Windows, counts: list[int]) -> Value:
    """Return the sums of all windows, each axis a convolution with ones."""
    value = _pad_to_windows(call, value, windows, counts, 0.0)
    for axis, count in enumerate(counts):
        shape, kernel = value.shape, windows.kernel[axis]
        if kernel == 1 and windows.strides[axis] == 1:
            continue
        before, length, behind = math.prod(shape[: 2 + axis]), shape[2 + axis], math.prod(shape[3 + axis :])
        flat = reshape(call, value, [before, 1, length, behind])
        ones = call.make_constant(np.ones((1, 1, kernel, 1)), "ones")
        summed: Value = call.emit(
            "conv2d", [flat, ones], stride=[windows.strides[axis], 1], dilation=[windows.dilations[axis], 1]
        )
        summed = narrow(call, summed, 2, 0, count)
        value = reshape(call, summed, [*shape[: 2 + axis], count, *shape[3 + axis :]])
    return value


def _count_elements(windows: Windows, lengths: tuple[int, ...], counts: list[int], *, includes_pads: bool) -> Array:
    """Return the number of elements in each window, without those behind the padding."""
    total: Array = np.ones(())
    for axis, count in enumerate(counts):
        before, behind = windows.before[axis], windows.behind[axis]
        starts = np.arange(count)[:, None] * windows.strides[axis] - before
        positions = starts + np.arange(windows.kernel[axis]) * windows.dilations[axis]
        low, high = (-before, lengths[axis] + behind) if includes_pads else (0, lengths[axis])
        along = ((positions >= low) & (positions < high)).sum(1).astype(np.float64)
        total = total[..., None] * along
    return total


@register_operator("MaxUnpool")
def _import_max_unpool(call: NodeCall) -> Results:
    """Write the undone pool: its indices count all elements of the pooled tensor, those of the service a plane's."""
    value, indices, wanted = call.get(0), call.get_constant(1, "indices"), call.get_integers(2, "output_shape")
    if len(value.shape) < 3 or indices is None or indices.shape != value.shape:
        raise OperatorUseError("takes an input (N, C, ...), and indices of its shape")
    windows = read_windows(call, tuple(call.attributes["kernel_shape"]), value.shape[2:])
    lengths = [
        (n - 1) * stride - before - behind + kernel
        for n, stride, before, behind, kernel in zip(
            value.shape[2:], windows.strides, windows.before, windows.behind, windows.kernel, strict=True
        )
    ]
    size = math.prod([*value.shape[:2], *lengths])
    if min(lengths) < 1 or (indices.size and not 0 <= indices.min() <= indices.max() < size):
        raise OperatorUseError(f"has indices outside its result of shape {[*value.shape[:2], *lengths]}")
    target = lengths if wanted is None else wanted[2:]
    places = np.unravel_index(indices % max(1, math.prod(lengths)), lengths)
    flat = np.ravel_multi_index(places, target)
    return call.emit(
        f"max_unpool{len(lengths)}d",
        [value, call.make_constant(flat.astype(np.int64), "index")],
        kernel_size=windows.kernel,
        stride=windows.strides,
        padding=windows.before,
        output_size=list(target),
    )


@register_operator("LpPool")
def _import_lp_pool(call: NodeCall) -> Results:
    value, windows, order = call.get(0), _read_pool(call), float(call.attributes["p"])
    counts = _count_windows(call, windows, value.shape[2:])
    powers = call.emit("pow", [call.emit("abs", [value])], exponent=order)
    total = _sum_windows(call, powers, windows, counts)
    return call.emit("pow", [total], exponent=1 / order)


@register_operator("LRN")
def _import_lrn(call: NodeCall) -> Results:
    value, size = call.get(0), call.attributes["size"]
    alpha, beta, bias = (float(call.attributes[name]) for name in ("alpha", "beta", "bias"))
    if len(value.shape) < 2 or size < 1:
        raise OperatorUseError("takes an input (N, C, ...) and a positive size")
    if size % 2 and len(value.shape) > 2:
        return call.emit("local_response_norm", [value], size=int(size), alpha=alpha, beta=beta, k=bias)
    # A window of even length reaches further behind, and that of PyTorch further in front.
    batch, channels = value.shape[:2]
    square = reshape(call, call.emit("mul", [value, value]), [batch, 1, channels, math.prod(value.shape[2:])])
    padded = pad(call, square, {2: ((size - 1) // 2, size // 2)})
    ones = call.make_constant(np.ones((1, 1, size, 1)), "ones")
    total = reshape(call, call.emit("conv2d", [padded, ones]), list(value.shape))
    base = call.emit("add", [call.emit("mul", [total, alpha / size]), bias])
    return call.emit("mul", [value, call.emit("pow", [base], exponent=-beta)])
