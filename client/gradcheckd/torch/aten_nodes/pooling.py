"""Conversions of pooling."""

from collections.abc import Sequence
from typing import Any, cast

import torch

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import Converted, OperatorCall, get_shape, register_converter

_FILLER = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
"""Parameters of a window over a line, along the axis that makes a plane of it."""


@register_converter("max_pool2d", "max_pool2d_with_indices")
def _convert_max_pool(call: OperatorCall) -> Converted:
    result = call.add_node("max_pool2d", call["self"], **_get_window(call, "dilation", "ceil_mode"))
    return [result, None] if call.operator_name.endswith("with_indices") else result


@register_converter("avg_pool2d")
def _convert_average_pool(call: OperatorCall) -> Converted:
    options = _get_window(call, "ceil_mode", "count_include_pad", "divisor_override")
    return call.add_node("avg_pool2d", call["self"], **options)


@register_converter("max_pool1d", "max_pool1d_with_indices")
def _convert_max_pool_of_lines(call: OperatorCall) -> Converted:
    result = _pool_lines(call, "max_pool2d", _get_window(call, "dilation", "ceil_mode"))
    return [result, None] if call.operator_name.endswith("with_indices") else result


@register_converter("avg_pool1d")
def _convert_average_pool_of_lines(call: OperatorCall) -> Converted:
    return _pool_lines(call, "avg_pool2d", _get_window(call, "ceil_mode", "count_include_pad"))


def _get_window(call: OperatorCall, *further: str) -> dict[str, Any]:
    """Return the parameters of a window; an empty stride is that of the window."""
    options = {name: call.get(name) for name in ("kernel_size", "stride", "padding", *further)}
    return {name: value for name, value in options.items() if not (isinstance(value, Sequence) and not value)}


def _pool_lines(call: OperatorCall, op: str, options: dict[str, Any]) -> str:
    axis = len(get_shape(call["self"])) - 1
    planes = call.add_node("unsqueeze", call["self"], dim=axis)
    widened = {
        name: [_FILLER[name], *_to_list(value)] if name in _FILLER and value is not None else value
        for name, value in options.items()
    }
    return call.add_node("squeeze", call.add_node(op, planes, **widened), dim=axis)


def _to_list(value: Any) -> list[int]:
    return list(cast("Sequence[int]", value)) if isinstance(value, Sequence) else [value]


@register_converter("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _convert_adaptive_average(call: OperatorCall) -> Converted:
    """Convert to a mean over all, or to a product with the windows of each axis."""
    source, axes = call["self"], len(call["output_size"])
    if all(size == 1 for size in call["output_size"]):
        return call.add_node("mean", source, dim=list(range(-axes, 0)), keepdim=True)
    return multiply_axes(call, source, [_measure_windows(call, axis) for axis in range(-axes, 0)])


def _measure_windows(call: OperatorCall, axis: int) -> torch.Tensor:
    """Return the weights of the windows along an axis, shape (input size, output size)."""
    size = get_shape(call["self"])[axis]
    return torch.nn.functional.adaptive_avg_pool1d(torch.eye(size, dtype=torch.float64), call.result.shape[axis])


def multiply_axes(call: OperatorCall, source: Any, matrices: Sequence[torch.Tensor]) -> str:
    """Return a tensor with its last axes multiplied by a matrix each, shape (input size, output size)."""
    if len(matrices) > 2:
        raise UnsupportedError("more than two axes")
    result = call.name_input(source)
    if len(matrices) == 2:
        rows = call.builder.add_tensor(f"{call.name}.rows", matrices[0].T.contiguous())
        result = call.add_node("matmul", rows, result)
    columns = call.builder.add_tensor(f"{call.name}.columns", matrices[-1].contiguous())
    return call.add_node("matmul", result, columns)


@register_converter("adaptive_max_pool2d", "adaptive_max_pool1d")
def _convert_adaptive_maximum(call: OperatorCall) -> Converted:
    """Convert to a pool of equal windows, where the sizes divide each other."""
    sizes = get_shape(call["self"])[-len(call["output_size"]) :]
    if any(size % target for size, target in zip(sizes, call["output_size"], strict=True)):
        raise UnsupportedError("windows of several sizes")
    window = [size // target for size, target in zip(sizes, call["output_size"], strict=True)]
    if len(window) == 1:
        return [_pool_lines(call, "max_pool2d", {"kernel_size": window}), None]
    return [call.add_node("max_pool2d", call["self"], kernel_size=window), None]
