"""Conversions of interpolation, which is a product with a matrix along each axis."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gradcheckd.torch.aten_nodes.operator_call import Converted, OperatorCall, get_shape, register_converter
from gradcheckd.torch.aten_nodes.pooling import multiply_axes

_MODES = {
    "aten.upsample_linear1d": "bilinear",
    "aten.upsample_bilinear2d": "bilinear",
    "aten.upsample_bicubic2d": "bicubic",
    "aten._upsample_bilinear2d_aa": "bilinear",
    "aten._upsample_bicubic2d_aa": "bicubic",
}


@register_converter(*(name.removeprefix("aten.") for name in _MODES))
def _convert_interpolation(call: OperatorCall) -> Converted:
    # The overloads with factors of each axis name their input otherwise.
    source = call.get("self", call.get("input"))
    sizes = get_shape(source)
    axes = range(2 - len(sizes), 0)
    return multiply_axes(call, source, [_measure_weights(call, sizes[axis], axis) for axis in axes])


def _measure_weights(call: OperatorCall, size: int, axis: int) -> Tensor:
    """Return the weights along an axis, shape (input size, output size): the interpolation of each unit vector."""
    target = call.result.shape[axis]
    # A second axis of one element stays as it is.
    lines = torch.eye(size, dtype=torch.float64).reshape(1, size, 1, size)
    scales = call.get("scale_factors") or [call.get(name) for name in ("scales_h", "scales_w", "scales")]
    given = [scale for scale in scales if scale is not None]
    scale = given[axis] if len(given) > 1 else given[0] if given else None
    options: dict[str, Any] = {
        "mode": _MODES[call.operator_name],
        "align_corners": call["align_corners"],
        "antialias": call.operator_name.endswith("_aa"),
    }
    if scale is not None and int(size * scale) == target:
        # The factor that was asked for counts, not that of the sizes.
        result = functional.interpolate(lines, scale_factor=(1.0, float(scale)), **options)
    else:
        result = functional.interpolate(lines, size=(1, target), **options)
    return result.reshape(size, target)
