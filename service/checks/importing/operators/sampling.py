"""Sampling of images between their elements: by grids, at moved kernels, and in regions of interest."""

import math

import numpy as np

from schemas.datatype import Array
from service.checks.importing.folding import check_result_size
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator
from service.checks.importing.operators.shape import reshape
from service.checks.importing.operators.windows import Windows, read_windows
from service.checks.importing.values import Value

_MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""Names of interpolations from opset 20 on, as older versions and PyTorch have them."""


@register_operator("GridSample", since=16)
def _import_grid_sample(call: NodeCall) -> Results:
    mode = call.attributes["mode"]
    return call.emit(
        "grid_sample",
        [call.get(0), call.get(1)],
        mode=_MODES.get(mode, mode),
        padding_mode=call.attributes["padding_mode"],
        align_corners=bool(call.attributes["align_corners"]),
    )


@register_operator("AffineGrid")
def _import_affine_grid(call: NodeCall) -> Results:
    size = call.get_integers(1, "size")
    return call.emit("affine_grid", [call.get(0)], size=size, align_corners=bool(call.attributes["align_corners"]))


@register_operator("DeformConv")
def _import_deform_conv(call: NodeCall) -> Results:
    """Write a convolution whose kernel reads the image between its elements, each element at a place of its own.

    The element (i, j) of the kernel at the output (r, c) reads the place (s_r r - p_r + d_r i, s_c c - p_c + d_c j), in
    elements, plus the offset of that element and output. `grid_sample` without align_corners has x at the middle of
    element i of n where x = (2 i + 1) / n - 1. The samples, times the mask, are a matrix with a row for each element of
    the kernel and channel, and the weights multiply it. Dai et al., Deformable convolutional networks (2017).
    """
    value, weight, offset = call.get(0), call.get(1), call.get(2)
    if len(value.shape) != 4 or len(weight.shape) != 4 or len(offset.shape) != 4:
        raise OperatorUseError(f"takes an input (N, C, H, W); the shapes are {list(value.shape)}, {list(weight.shape)}")
    batch, channels = value.shape[:2]
    sets, groups = int(call.attributes["offset_group"]), int(call.attributes["group"])
    windows = read_windows(call, weight.shape[2:], value.shape[2:])
    size, lengths = math.prod(windows.kernel), offset.shape[2:]
    if min(sets, groups) < 1 or channels % sets or weight.shape[0] % groups or channels != groups * weight.shape[1]:
        raise OperatorUseError(f"has {channels} channels, which {groups} groups or {sets} offset groups do not share")
    if offset.shape[:2] != (batch, sets * size * 2):
        raise OperatorUseError(f"has offsets of shape {list(offset.shape)}, which do not fit its kernel")
    samples = _sample_at_offsets(call, value, offset, windows, sets)
    mask = call.get_optional(4)
    if mask is not None:
        samples = call.emit("mul", [samples, reshape(call, mask, [batch * sets, 1, size, *lengths])])
    places = math.prod(lengths)
    rows = reshape(call, samples, [batch, groups, channels // groups * size, places])
    kernel = reshape(call, weight, [groups, weight.shape[0] // groups, channels // groups * size])
    result = reshape(call, call.emit("matmul", [kernel, rows]), [batch, weight.shape[0], *lengths])
    bias = call.get_optional(3)
    return result if bias is None else call.emit("add", [result, reshape(call, bias, [weight.shape[0], 1, 1])])


def _sample_at_offsets(call: NodeCall, value: Value, offset: Value, windows: Windows, sets: int) -> Value:
    """Return what each element of the kernel reads at each output, (N sets, C / sets, kernel, rows, columns)."""
    batch, channels, *image = value.shape
    size, lengths = math.prod(windows.kernel), offset.shape[2:]
    moved = reshape(call, offset, [batch * sets, size, 2, *lengths])
    # Rows stand before columns in the offsets, and behind them in a grid.
    moved = call.emit("flip", [call.emit("permute", [moved], dims=[0, 1, 3, 4, 2])], dims=[4])
    check_result_size(call, (size, *lengths, 2))
    places: Array = np.empty((size, *lengths, 2))
    elements = np.indices(windows.kernel).reshape(2, size)
    for axis in range(2):
        starts = np.arange(lengths[axis]) * windows.strides[axis] - windows.before[axis]
        own = elements[axis] * windows.dilations[axis]
        along = starts[:, None] if axis == 0 else starts[None, :]
        places[..., 1 - axis] = own[:, None, None] + along
    lengths_of_image = np.array(image[::-1], dtype=np.float64)
    base = call.make_constant((2 * places + 1) / lengths_of_image - 1, "places")
    unit = call.make_constant(2 / lengths_of_image, "unit")
    grid = call.emit("add", [call.emit("mul", [moved, unit]), base])
    flat_grid = reshape(call, grid, [batch * sets, size * lengths[0], lengths[1], 2])
    flat_image = reshape(call, value, [batch * sets, channels // sets, *image])
    samples = call.emit("grid_sample", [flat_image, flat_grid], align_corners=False)
    return reshape(call, samples, [batch * sets, channels // sets, size, *lengths])


@register_operator("RoiAlign")
def _import_roi_align(call: NodeCall) -> Results:
    """Write the mean, or the maximum, of the samples of each part of regions.

    A sample lies between two rows and two columns of the image, whose elements have weights w_r w_c. So with a matrix
    A that has one row for each of the two rows of a sample, and B for columns, the weighted elements are A x B^T. Their
    sum over a part is that of its samples, and the maximum is that of the weighted elements, as ONNX has it. By the
    regions themselves no derivative is taken.
    """
    value, regions, images = call.get(0), call.get_constant(1, "regions"), call.get_indices(2, call.get(0).shape[0])
    pooled = [int(call.attributes[f"output_{name}"]) for name in ("height", "width")]
    if len(value.shape) != 4 or regions is None or regions.shape != (*images.shape, 4) or len(images.shape) != 1:
        raise OperatorUseError("takes an input (N, C, H, W), regions (R, 4) and batch indices (R,)")
    if not np.isfinite(regions).all():
        raise OperatorUseError("has regions that are not finite")
    is_maximum = call.attributes["mode"] == "max"
    sides = [_find_sides(call, regions.astype(np.float64), axis, pooled[axis]) for axis in range(2)]
    matrices = [_make_matrices(call, sides[axis], value.shape[2 + axis], pooled[axis], is_maximum) for axis in range(2)]
    chosen = call.emit("index_select", [value, images], dim=0)
    left, right = (call.make_constant(matrix[:, None], name) for matrix, name in zip(matrices, "rc", strict=True))
    product = call.emit("matmul", [left, chosen])
    result = call.emit("matmul", [product, call.emit("transpose", [right], dim0=2, dim1=3)])
    if not is_maximum:
        return result
    parts = [result.shape[2 + axis] // pooled[axis] for axis in range(2)]
    shape = [*result.shape[:2], pooled[0], parts[0], pooled[1], parts[1]]
    return call.emit("amax", [reshape(call, result, shape)], dim=[3, 5])


def _find_sides(call: NodeCall, regions: Array, axis: int, pooled: int) -> list[Array]:
    """Return the places of the samples of each region along an axis, (pooled, samples)."""
    is_half = call.attributes.get("coordinate_transformation_mode", "output_half_pixel") == "half_pixel"
    ratio, sides = int(call.attributes["sampling_ratio"]), list[Array]()
    for region in regions * float(call.attributes["spatial_scale"]):
        start, end = region[[1 - axis, 3 - axis]] - (0.5 if is_half else 0.0)
        length = end - start if is_half else max(end - start, 1.0)
        count = ratio if ratio > 0 else math.ceil(length / pooled)
        if count < 1:
            raise OperatorUseError("has a region without samples; that is not taken")
        check_result_size(call, [pooled, count])
        step = length / pooled
        sides.append(start + step * (np.arange(pooled)[:, None] + (np.arange(count) + 0.5) / count))
    return sides


def _make_matrices(call: NodeCall, sides: list[Array], length: int, pooled: int, is_maximum: bool) -> Array:
    """Return the weights of an axis's elements: by sample and neighbour for a maximum, else their means."""
    counts = {side.shape[1] for side in sides}
    if is_maximum and len(counts) > 1:
        raise OperatorUseError("takes the maximum of regions with different numbers of samples; that is not taken")
    rows = pooled * (2 * max(counts) if is_maximum else 1)
    check_result_size(call, [len(sides), rows, length])
    matrices = np.zeros((len(sides), rows, length))
    for matrix, places in zip(matrices, sides, strict=True):
        inside = (places >= -1) & (places <= length)
        held = np.clip(places, 0, length - 1)
        low = np.floor(held).astype(np.int64)
        behind = held - low
        for neighbour, weight in ((0, 1 - behind), (1, behind)):
            numbers = np.minimum(low + neighbour, length - 1)
            weights = np.where(inside, weight, 0.0)
            if is_maximum:
                # At the last element both neighbours are that element, the second with the weight 0.
                targets = 2 * np.arange(places.size).reshape(places.shape) + neighbour
            else:
                targets, weights = np.arange(pooled)[:, None], weights / places.shape[1]
            np.add.at(matrix, tuple(np.broadcast_arrays(targets, numbers)), weights)
    return matrices
