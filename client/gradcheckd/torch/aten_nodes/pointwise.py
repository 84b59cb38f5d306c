"""Conversions of functions of each element: those with an op of their name, and those made of such ops."""

from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    get_value,
    is_graph_tensor,
    map_operator,
    register_converter,
)

_SAME_NAMES = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "digamma", "erf", "erfc", "erfinv",
    "exp", "exp2", "expm1", "hardsigmoid", "hardswish", "lgamma", "log", "log10", "log1p", "log2", "mish", "neg",
    "reciprocal", "relu", "relu6", "rsqrt", "selu", "sigmoid", "silu", "sin", "sinc", "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip
for _name in _SAME_NAMES:
    map_operator(_name, _name, "self")
for _name in ("atan2", "hypot", "logaddexp", "logaddexp2", "maximum", "minimum", "mul"):
    map_operator(_name, _name, "self", "other")
for _name, _op in (("fmax", "maximum"), ("fmin", "minimum")):
    map_operator(_name, _op, "self", "other")
map_operator("celu", "celu", "self", alpha="alpha")
map_operator("gelu", "gelu", "self", approximate="approximate")
map_operator("leaky_relu", "leaky_relu", "self", negative_slope="negative_slope")
map_operator("softplus", "softplus", "self", beta="beta", threshold="threshold")
map_operator("div.Tensor", "div", "self", "other")
map_operator("div.Scalar", "div", "self", "other")
map_operator("threshold", "threshold", "self", threshold="threshold", value="value")
map_operator("hardtanh", "clamp", "self", min="min_val", max="max_val")


@register_converter("add")
def _convert_add(call: OperatorCall) -> Converted:
    return call.add_node("add", call["self"], call["other"], alpha=_get_factor(call))


@register_converter("sub")
def _convert_sub(call: OperatorCall) -> Converted:
    return call.add_node("sub", call["self"], call["other"], alpha=_get_factor(call))


@register_converter("rsub")
def _convert_rsub(call: OperatorCall) -> Converted:
    return call.add_node("sub", call["other"], call["self"], alpha=_get_factor(call))


def _get_factor(call: OperatorCall) -> Any:
    factor = call.get("alpha", 1)
    return None if factor == 1 else factor


@register_converter("elu")
def _convert_elu(call: OperatorCall) -> Converted:
    """Convert scale * (x > 0 ? x : alpha * (exp(input_scale * x) - 1)); SELU and CELU are this, too."""
    alpha, scale, input_scale = (call.get(name, 1) for name in ("alpha", "scale", "input_scale"))
    if input_scale == 1:
        result = call.add_node("elu", call["self"], alpha=alpha)
    else:
        # Of z = input_scale * x, elu(z) / input_scale has the branch x, and alpha * input_scale on the other one.
        scaled = call.add_node("mul", call["self"], input_scale)
        result = call.add_node("elu", scaled, alpha=alpha * input_scale)
        scale = scale / input_scale
    return result if scale == 1 else call.add_node("mul", result, scale)


@register_converter("log_sigmoid", "log_sigmoid_forward")
def _convert_log_sigmoid(call: OperatorCall) -> Converted:
    result = call.add_node("logsigmoid", call["self"])
    return result if call.operator_name == "aten.log_sigmoid" else [result, None]


@register_converter("glu")
def _convert_glu(call: OperatorCall) -> Converted:
    dim: int = call.get("dim", -1)
    half = get_shape(call["self"])[dim] // 2
    value = call.add_node("narrow", call["self"], dim=dim, start=0, length=half)
    gate = call.add_node("narrow", call["self"], dim=dim, start=half, length=half)
    return call.add_node("mul", value, call.add_node("sigmoid", gate))


@register_converter("prelu", "_prelu_kernel")
def _convert_prelu(call: OperatorCall) -> Converted:
    """Convert relu(x) - w relu(-x); the slope belongs to the second axis."""
    ndim = len(get_shape(call["self"]))
    shape = get_shape(call["weight"])
    weight = call["weight"]
    if len(shape) == 1 and ndim > 1:
        weight = call.add_node("reshape", weight, shape=[1, shape[0], *[1] * (ndim - 2)])
    negative = call.add_node("relu", call.add_node("neg", call["self"]))
    return call.add_node("sub", call.add_node("relu", call["self"]), call.add_node("mul", weight, negative))


@register_converter("clamp", "clamp_min", "clamp_max", "clip")
def _convert_clamp(call: OperatorCall) -> Converted:
    lower, upper = call.get("min"), call.get("max")
    if not any(map(_is_tensor, (lower, upper))):
        return call.add_node("clamp", call["self"], min=lower, max=upper)
    result = call["self"] if lower is None else call.add_node("maximum", call["self"], lower)
    return result if upper is None else call.add_node("minimum", result, upper)


def _is_tensor(value: Any) -> bool:
    return is_graph_tensor(value) or hasattr(value, "dtype")


@register_converter("where.self", "where.ScalarSelf", "where.ScalarOther")
def _convert_where(call: OperatorCall) -> Converted:
    """Convert a choice; constants that are not chosen may be NaN or infinite, and are 0 here."""
    if is_graph_tensor(call["condition"]):
        raise UnsupportedError("its condition depends on judged tensors")
    condition: Tensor = call["condition"]
    first = _clear_unchosen(call["self"], condition)
    return call.add_node(
        "where", call.add_constant(condition, "mask"), first, _clear_unchosen(call["other"], ~condition)
    )


def _clear_unchosen(value: Any, is_chosen: Tensor) -> Any:
    if is_graph_tensor(value):
        return value
    number = torch.as_tensor(value, dtype=torch.float64)
    if bool(number.isfinite().all()):
        return value
    return torch.where(is_chosen.cpu(), number, 0.0)


@register_converter("masked_fill")
def _convert_masked_fill(call: OperatorCall) -> Converted:
    return call.add_node("where", call.add_constant(call["mask"], "mask"), call["value"], call["self"])


@register_converter("lerp")
def _convert_lerp(call: OperatorCall) -> Converted:
    difference = call.add_node("sub", call["end"], call["self"])
    return call.add_node("add", call["self"], call.add_node("mul", call["weight"], difference))


@register_converter("addcmul")
def _convert_addcmul(call: OperatorCall) -> Converted:
    product = call.add_node("mul", call["tensor1"], call["tensor2"])
    return call.add_node("add", call["self"], product, alpha=call.get("value", 1))


@register_converter("addcdiv")
def _convert_addcdiv(call: OperatorCall) -> Converted:
    quotient = call.add_node("div", call["tensor1"], call["tensor2"])
    return call.add_node("add", call["self"], quotient, alpha=call.get("value", 1))


@register_converter("ldexp")
def _convert_ldexp(call: OperatorCall) -> Converted:
    """Convert x 2^n."""
    exponent = call["other"]
    power = call.add_node("exp2", exponent) if is_graph_tensor(exponent) else torch.exp2(exponent.double())
    return call.add_node("mul", call["self"], power)


@register_converter("polygamma")
def _convert_polygamma(call: OperatorCall) -> Converted:
    if call["n"]:
        raise UnsupportedError("a derivative of digamma")
    return call.add_node("digamma", call["self"])


@register_converter("copysign")
def _convert_copysign(call: OperatorCall) -> Converted:
    """Convert |x| times the sign of the other number, which stays fixed at the point."""
    ones = torch.ones((), dtype=torch.float64)
    sign = torch.copysign(ones, torch.as_tensor(get_value(call["other"])).double())
    return call.add_node("mul", call.add_node("abs", call["self"]), sign)
