"""Conversions of powers, and of functions that jump: whole parts, signs, remainders."""

import math

import torch

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    is_graph_tensor,
    map_operator,
    register_converter,
)


@register_converter("pow.Tensor_Scalar")
def _convert_power(call: OperatorCall) -> Converted:
    return call.add_node("pow", call["self"], exponent=call["exponent"])


@register_converter("pow.Scalar")
def _convert_exponential(call: OperatorCall) -> Converted:
    """Convert c^x = exp(x ln c)."""
    if call["self"] <= 0:
        raise UnsupportedError("a base that is not positive")
    return call.add_node("exp", call.add_node("mul", call["exponent"], math.log(call["self"])))


@register_converter("pow.Tensor_Tensor")
def _convert_general_power(call: OperatorCall) -> Converted:
    """Convert x^y, by a number where the exponent is one."""
    base, exponent = call["self"], call["exponent"]
    if not is_graph_tensor(exponent) and not exponent.ndim:
        return call.add_node("pow", base, exponent=float(exponent))
    return call.add_node("pow", base, exponent)


for _name in ("fmod", "remainder"):
    map_operator(_name, _name, "self", "other")
for _name in ("floor", "ceil", "trunc", "frac"):
    map_operator(_name, _name, "self")
map_operator("fix", "trunc", "self")
map_operator("round", "round", "self", decimals="decimals")
for _name in ("sign", "sgn"):
    map_operator(_name, "sign", "self")


@register_converter("div.Tensor_mode", "div.Scalar_mode")
def _convert_quotient(call: OperatorCall) -> Converted:
    return call.add_node("div", call["self"], call["other"], rounding_mode=call.get("rounding_mode"))


@register_converter("floor_divide")
def _convert_floored_quotient(call: OperatorCall) -> Converted:
    return call.add_node("div", call["self"], call["other"], rounding_mode="floor")


@register_converter("frexp.Tensor")
def _convert_mantissa(call: OperatorCall) -> Converted:
    """Convert the mantissa x 2^-n, with the exponent n fixed, as it is between two powers of 2."""
    return [call.add_node("mul", call["self"], torch.exp2(-call.result[1].double())), None]
