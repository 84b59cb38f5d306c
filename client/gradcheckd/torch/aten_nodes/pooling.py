"""Conversions of pooling."""

from collections.abc import Sequence
from typing import Any

import torch

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import Converted, OperatorCall, register_converter


@register_converter(*(f"max_pool{axes}d{suffix}" for axes in (1, 2, 3) for suffix in ("", "_with_indices")))
def _convert_max_pool(call: OperatorCall) -> Converted:
    op = call.operator_name.removeprefix("aten.").removesuffix("_with_indices")
    result = call.add_node(op, call["self"], **_get_window(call, "dilation", "ceil_mode"))
    return [result, None] if call.operator_name.endswith("with_indices") else result


@register_converter("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _convert_average_pool(call: OperatorCall) -> Converted:
    op = call.operator_name.removeprefix("aten.")
    options = _get_window(call, "ceil_mode", "count_include_pad", *([] if op == "avg_pool1d" else ["divisor_override"]))
    return call.add_node(op, call["self"], **options)


def _get_window(call: OperatorCall, *further: str) -> dict[str, Any]:
    """Return the parameters of a window; an empty stride is that of the window."""
    options = {name: call.get(name) for name in ("kernel_size", "stride", "padding", *further)}
    return {name: value for name, value in options.items() if not (isinstance(value, Sequence) and not value)}


@register_converter(
    *(f"adaptive_avg_pool{axes}d" for axes in (1, 2, 3)), "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"
)
def _convert_adaptive_average(call: OperatorCall) -> Converted:
    op = call.operator_name.removeprefix("aten.").removeprefix("_")
    return call.add_node(op, call["self"], output_size=list(call["output_size"]))


@register_converter(*(f"adaptive_max_pool{axes}d" for axes in (1, 2, 3)))
def _convert_adaptive_maximum(call: OperatorCall) -> Converted:
    op = call.operator_name.removeprefix("aten.")
    return [call.add_node(op, call["self"], output_size=list(call["output_size"])), None]


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
