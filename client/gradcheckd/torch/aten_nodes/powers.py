"""Conversions of powers, and of functions with a whole part that stays fixed at the point."""

import math

import torch

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_value,
    is_graph_tensor,
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
    """Convert x^y: by its exponent if that is one constant, else as exp(y ln x) for positive x."""
    base, exponent = call["self"], call["exponent"]
    if not is_graph_tensor(exponent) and exponent.numel() == 1 and not exponent.ndim:
        return call.add_node("pow", base, exponent=float(exponent))
    if not bool((get_value(base) > 0).all()):
        raise UnsupportedError("a base that is not positive, with a tensor as exponent")
    logarithm = call.add_node("log", base) if is_graph_tensor(base) else base.double().log()
    return call.add_node("exp", call.add_node("mul", exponent, logarithm))


@register_converter("frac")
def _convert_frac(call: OperatorCall) -> Converted:
    whole = get_value(call["self"]).trunc()
    return call.add_node("sub", call["self"], whole)


@register_converter("fmod", "remainder")
def _convert_remainder(call: OperatorCall) -> Converted:
    """Convert x - q y with the quotient q fixed, as it is between two of its jumps."""
    dividend, divisor = get_value(call["self"]), get_value(call["other"])
    quotient = torch.div(dividend, divisor, rounding_mode="trunc" if call.operator_name == "aten.fmod" else "floor")
    return call.add_node("sub", call["self"], call.add_node("mul", call["other"], quotient.double()))


@register_converter("frexp.Tensor")
def _convert_mantissa(call: OperatorCall) -> Converted:
    """Convert the mantissa x 2^-n, with the exponent n fixed, as it is between two powers of 2."""
    return [call.add_node("mul", call["self"], torch.exp2(-call.result[1].double())), None]
