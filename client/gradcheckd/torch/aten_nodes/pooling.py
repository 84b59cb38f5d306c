"""Conversions of pooling."""

from collections.abc import Sequence
from typing import Any

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import Converted, OperatorCall, get_shape, register_converter


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


@register_converter("max_unpool2d", "max_unpool3d")
def _convert_max_unpool(call: OperatorCall) -> Converted:
    """Convert elements at places of a larger image, as those of windows that reach over all of what it is larger."""
    op, shape = call.operator_name.removeprefix("aten."), get_shape(call["self"])
    sizes = list[int](call["output_size"])
    windows = [size - length + 1 for size, length in zip(sizes, shape[-len(sizes) :], strict=True)]
    if min(windows) < 1:
        raise UnsupportedError("an output that is smaller than the input")
    index = call.builder.add_tensor(f"{call.name}.index", call["indices"].cpu().contiguous())
    return call.add_node(op, call["self"], index, kernel_size=windows, stride=1, output_size=sizes)
