"""Resize: along each axis a matrix of interpolation weights, which the import computes, or a selection of elements."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.datatype import Array
from service.checks.importing.folding import check_result_size
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axes, register_operator
from service.checks.importing.operators.shape import take
from service.checks.importing.values import Value


@dataclass(frozen=True)
class _AxisResize:
    """The resize of one axis.

    Attributes
    ----------
    axis, length, new_length
        The axis, and its lengths before and after.
    scale
        Factor of the length.
    region
        Start and end of the region of interest, in units of the length.
    """

    axis: int
    length: int
    new_length: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


@register_operator("Upsample")
def _import_upsample(call: NodeCall) -> Results:
    scales = call.attributes.get("scales") if call.opset < 9 else call.get_constant(1, "scales")
    if scales is None:
        raise OperatorUseError("lacks its scales")
    attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _resize(call, {**call.attributes, **attributes}, [float(scale) for scale in scales], None, None)


@register_operator("Resize")
def _import_resize(call: NodeCall) -> Results:
    rank = len(call.get(0).shape)
    if call.opset < 11:
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        scales, sizes, region = call.get_constant(1, "scales"), None, None
        return _resize(call, {**call.attributes, **attributes}, _to_floats(scales), sizes, None)
    region, scales = (call.get_constant(position, name) for position, name in ((1, "region"), (2, "scales")))
    sizes = call.get_integers(3, "sizes") or None
    axes = normalize_axes(call.attributes.get("axes") or range(rank), rank)
    has_region = region is not None and region.size == 2 * len(axes)
    regions = _to_floats(region) if has_region else [0.0] * len(axes) + [1.0] * len(axes)
    return _resize(call, call.attributes, _to_floats(scales), sizes, regions, axes)


def _to_floats(array: Array | None) -> list[float]:
    return [] if array is None else [float(number) for number in array.reshape(-1)]


def _resize(
    call: NodeCall,
    attributes: Any,
    scales: Sequence[float],
    sizes: Sequence[int] | None,
    regions: Sequence[float] | None,
    axes: Sequence[int] | None = None,
) -> Value:
    value = call.get(0)
    axes = list(range(len(value.shape))) if axes is None else axes
    regions = [0.0] * len(axes) + [1.0] * len(axes) if regions is None else regions
    lengths = [value.shape[axis] for axis in axes]
    if sizes is not None:
        scales = _find_scales(lengths, sizes, attributes.get("keep_aspect_ratio_policy", "stretch"))
        is_stretched = attributes.get("keep_aspect_ratio_policy", "stretch") == "stretch"
        sizes = sizes if is_stretched else [math.floor(s * n + 0.5) for s, n in zip(scales, lengths, strict=True)]
    if len(scales) != len(axes) or min(scales, default=0) <= 0:
        raise OperatorUseError(f"needs a positive scale or a size for each of {len(axes)} axes")
    sizes = [math.floor(s * n) for s, n in zip(scales, lengths, strict=True)] if sizes is None else sizes
    if min(sizes) < 1:
        raise OperatorUseError(f"makes an axis without elements: the lengths are {list(sizes)}")
    for index, axis in enumerate(axes):
        region = (regions[index], regions[index + len(axes)])
        step = _AxisResize(axis, lengths[index], sizes[index], scales[index], region)
        shape = list(value.shape)
        shape[axis] = step.new_length
        check_result_size(call, shape)
        value = _resize_axis(call, value, step, attributes)
    return value


def _find_scales(lengths: Sequence[int], sizes: Sequence[int], policy: str) -> list[float]:
    if len(sizes) != len(lengths):
        raise OperatorUseError(f"has {len(sizes)} sizes for {len(lengths)} axes")
    scales = [size / length for size, length in zip(sizes, lengths, strict=True)]
    if policy == "stretch":
        return scales
    common = min(scales) if policy == "not_larger" else max(scales)
    return [common] * len(scales)


def _resize_axis(call: NodeCall, value: Value, step: _AxisResize, attributes: Any) -> Value:
    """Return a value with one axis resized."""
    mode = attributes.get("mode", "nearest")
    is_whole = attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize"
    if step.length == step.new_length and step.scale == 1 and is_whole:
        return value
    check_result_size(call, [step.length, step.new_length])
    positions = _find_positions(step, attributes.get("coordinate_transformation_mode", "half_pixel"))
    outside = (positions < 0) | (positions > step.length - 1)
    is_filled = not is_whole and bool(outside.any())
    if mode == "nearest" and not is_filled:
        return take(call, value, step.axis, _round_positions(positions, step.length, attributes))
    matrix = _make_matrix(positions, step, mode, attributes)
    offset = np.zeros(step.new_length)
    if is_filled:
        matrix[outside], offset[outside] = 0.0, float(attributes.get("extrapolation_value", 0.0))
    rank = len(value.shape)
    dims = [*(axis for axis in range(rank) if axis != step.axis), step.axis]
    moved = value if step.axis == rank - 1 else call.emit("permute", [value], dims=dims)
    result: Value = call.emit("matmul", [moved, call.make_constant(matrix.T, "weights")])
    if offset.any():
        result = call.emit("add", [result, call.make_constant(offset, "fill")])
    return result if step.axis == rank - 1 else call.emit("permute", [result], dims=np.argsort(dims).tolist())


def _find_positions(step: _AxisResize, mode: str) -> Array:
    """Return the position in the input of each element of the output."""
    x, length, exact = np.arange(step.new_length, dtype=np.float64), step.length, step.scale * step.length
    if mode == "align_corners":
        return np.zeros_like(x) if exact == 1 else x * (length - 1) / (exact - 1)
    if mode == "asymmetric":
        return x / step.scale
    if mode == "tf_crop_and_resize":
        start, end = step.region
        along = np.full_like(x, (end - start) * (length - 1) / 2) if exact == 1 else None
        return (x * (end - start) * (length - 1) / (exact - 1) if along is None else along) + start * (length - 1)
    if mode not in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        raise OperatorUseError(f"has the coordinate_transformation_mode {mode!r:.40}, which is not taken")
    if mode == "pytorch_half_pixel" and exact == 1:
        return np.full_like(x, -0.5)
    centre = length / 2 * (1 - step.new_length / exact) if mode == "half_pixel_symmetric" else 0.0
    return centre + (x + 0.5) / step.scale - 0.5


def _round_positions(positions: Array, length: int, attributes: Any) -> Array:
    """Return the nearest element of each position."""
    mode = attributes.get("nearest_mode", "round_prefer_floor")
    rounded = {
        "round_prefer_floor": np.ceil(positions - 0.5),
        "round_prefer_ceil": np.floor(positions + 0.5),
        "floor": np.floor(positions),
        "ceil": np.ceil(positions),
    }.get(mode)
    if rounded is None:
        raise OperatorUseError(f"has the nearest_mode {mode!r:.40}, which is not taken")
    return np.clip(rounded, 0, length - 1).astype(np.int64)


def _make_matrix(positions: Array, step: _AxisResize, mode: str, attributes: Any) -> Array:
    """Return the weights, (new length, length), with which elements of the input enter the output."""
    matrix = np.zeros((len(positions), step.length))
    rows = np.arange(len(positions))
    if mode == "nearest":
        matrix[rows, _round_positions(positions, step.length, attributes)] = 1.0
        return matrix
    kernels = {"linear": (_linear_kernel, 1), "cubic": (_make_cubic_kernel(attributes.get("cubic_coeff_a", -0.75)), 2)}
    if mode not in kernels:
        raise OperatorUseError(f"has the mode {mode!r:.40}, which is not taken")
    kernel, reach = kernels[mode]
    # With antialias the kernel is as wide as the step from one element of the output to the next.
    scale = min(step.scale, 1.0) if attributes.get("antialias") else 1.0
    radius = math.ceil(reach / scale) + 1
    base = np.floor(positions).astype(np.int64)
    for offset in range(-radius, radius + 1):
        weights, target = kernel(scale * (base + offset - positions)), base + offset
        if attributes.get("exclude_outside"):
            weights = np.where((target >= 0) & (target < step.length), weights, 0.0)
        np.add.at(matrix, (rows, np.clip(target, 0, step.length - 1)), weights)
    return matrix / matrix.sum(1, keepdims=True)


def _linear_kernel(x: Array) -> Array:
    return np.clip(1 - np.abs(x), 0, 1)


def _make_cubic_kernel(a: float) -> Any:
    def kernel(x: Array) -> Array:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    return kernel
