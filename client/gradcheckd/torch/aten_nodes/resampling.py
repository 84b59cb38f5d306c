"""Conversions of interpolation, and of samples at the points of a grid."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    map_operator,
    register_converter,
)

_MODES = {
    "upsample_nearest": "nearest",
    "_upsample_nearest_exact": "nearest-exact",
    "upsample_linear": "linear",
    "upsample_bilinear": "bilinear",
    "upsample_bicubic": "bicubic",
    "upsample_trilinear": "trilinear",
}
_AXES_OF_MODE = {"linear": (1,), "bilinear": (2,), "bicubic": (2,), "trilinear": (3,)}
_SMOOTHED = {"aten._upsample_bilinear2d_aa": "bilinear", "aten._upsample_bicubic2d_aa": "bicubic"}
_GRID_MODES, _GRID_PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")

map_operator("affine_grid_generator", "affine_grid", "theta", size="size", align_corners="align_corners")


@register_converter(*(f"{name}{n}d" for name, mode in _MODES.items() for n in _AXES_OF_MODE.get(mode, (1, 2, 3))))
def _convert_interpolation(call: OperatorCall) -> Converted:
    """Convert an interpolation to a size; or by factors, where these set the places of the samples."""
    # The overloads with factors of each axis name their input otherwise.
    source: Any = call.get("self", call.get("input"))
    mode = _MODES[call.operator_name.removeprefix("aten.")[:-2]]
    sizes, target = get_shape(source)[2:], list(call.result.shape[2:])
    align = call.get("align_corners") if mode in _AXES_OF_MODE else None
    options: dict[str, Any] = {"mode": mode, "align_corners": align}
    scales = _list_scales(call, len(sizes))
    if all(scale is None for scale in scales) or align:
        return call.add_node("interpolate", source, size=target, **options)
    factors = [
        length / size if scale is None else float(scale)
        for scale, length, size in zip(scales, target, sizes, strict=True)
    ]
    if [int(size * factor) for size, factor in zip(sizes, factors, strict=True)] != target:
        return call.add_node("interpolate", source, size=target, **options)
    return call.add_node("interpolate", source, scale_factor=factors, **options)


def _list_scales(call: OperatorCall, axes: int) -> list[float | None]:
    """Return the factor of each axis, or None."""
    given = call.get("scale_factors") or [call.get(f"scales_{name}") for name in "dhw"][-axes:]
    if axes == 1 and call.get("scale_factors") is None:
        given = [call.get("scales")]
    return list(given)


@register_converter(*(name.removeprefix("aten.") for name in _SMOOTHED))
def _convert_smoothed_interpolation(call: OperatorCall) -> Converted:
    """Convert an interpolation with antialiasing to a product with a matrix along each axis."""
    source: Any = call.get("self", call.get("input"))
    rows, columns = (_measure_weights(call, get_shape(source)[axis], axis) for axis in (-2, -1))
    left = call.builder.add_tensor(f"{call.name}.rows", rows.T.contiguous())
    right = call.builder.add_tensor(f"{call.name}.columns", columns.contiguous())
    return call.add_node("matmul", call.add_node("matmul", left, source), right)


def _measure_weights(call: OperatorCall, size: int, axis: int) -> Tensor:
    """Return the weights along an axis, shape (input size, output size): the interpolation of each unit vector."""
    target = call.result.shape[axis]
    # A second axis of one element stays as it is.
    lines = torch.eye(size, dtype=torch.float64).reshape(1, size, 1, size)
    scale = _list_scales(call, 2)[axis]
    options: dict[str, Any] = {
        "mode": _SMOOTHED[call.operator_name],
        "align_corners": call["align_corners"],
        "antialias": True,
    }
    if scale is not None and int(size * scale) == target:
        # The factor that was asked for counts, not that of the sizes.
        result = functional.interpolate(lines, scale_factor=(1.0, float(scale)), **options)
    else:
        result = functional.interpolate(lines, size=(1, target), **options)
    return result.reshape(size, target)


@register_converter("grid_sampler_2d", "grid_sampler_3d")
def _convert_grid_sample(call: OperatorCall) -> Converted:
    options: dict[str, Any] = {
        "mode": _GRID_MODES[call["interpolation_mode"]],
        "padding_mode": _GRID_PADDINGS[call["padding_mode"]],
        "align_corners": call["align_corners"],
    }
    return call.add_node("grid_sample", call["input"], call["grid"], **options)
