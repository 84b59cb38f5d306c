"""Conversions of convolutions."""

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import Converted, OperatorCall, register_converter

_OPTIONS = ("stride", "padding", "dilation", "groups")


@register_converter(*(f"conv{axes}d.{overload}" for axes in (1, 2, 3) for overload in ("default", "padding")))
def _convert_plain_convolution(call: OperatorCall) -> Converted:
    options = {name: call.get(name) for name in _OPTIONS}
    op = call.operator_name.removeprefix("aten.")
    return call.add_node(op, call["input"], call["weight"], call.get("bias"), **options)


@register_converter("convolution")
def _convert_convolution(call: OperatorCall) -> Converted:
    """Convert the general form, transposed or not, of one to three axes."""
    options = {name: call[name] for name in _OPTIONS}
    axes = len(options["stride"])
    if not 1 <= axes <= 3:
        raise UnsupportedError(f"a convolution over {axes} axes")
    if call["transposed"]:
        options["output_padding"] = call["output_padding"]
    op = f"conv_transpose{axes}d" if call["transposed"] else f"conv{axes}d"
    return call.add_node(op, call["input"], call["weight"], call.get("bias"), **options)
