"""Conversions of convolutions."""

from typing import Any

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    map_operator,
    register_converter,
)

_OPTIONS = {name: name for name in ("stride", "padding", "dilation", "groups")}

for _name in ("conv1d", "conv2d"):
    map_operator(f"{_name}.default", _name, "input", "weight", "bias", **_OPTIONS)
    map_operator(f"{_name}.padding", _name, "input", "weight", "bias", **_OPTIONS)


@register_converter("convolution")
def _convert_convolution(call: OperatorCall) -> Converted:
    """Convert the general form, transposed or not, of one or two axes."""
    options = {name: call[name] for name in _OPTIONS}
    axes = len(options["stride"])
    if axes not in (1, 2):
        raise UnsupportedError(f"a convolution over {axes} axes")
    if not call["transposed"]:
        return call.add_node(f"conv{axes}d", call["input"], call["weight"], call.get("bias"), **options)
    options["output_padding"] = call["output_padding"]
    if axes == 2:
        return call.add_node("conv_transpose2d", call["input"], call["weight"], call.get("bias"), **options)
    return _convert_transposed_line(call, options)


def _convert_transposed_line(call: OperatorCall, options: dict[str, Any]) -> Converted:
    """Convert a transposed convolution of lines to that of planes of height 1."""
    filler = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}
    planes = {name: [filler[name], *options[name]] for name in filler} | {"groups": options["groups"]}
    image = call.add_node("unsqueeze", call["input"], dim=len(get_shape(call["input"])) - 1)
    weight = call.add_node("unsqueeze", call["weight"], dim=2)
    result = call.add_node("conv_transpose2d", image, weight, call.get("bias"), **planes)
    return call.add_node("squeeze", result, dim=len(get_shape(call["input"])) - 1)
