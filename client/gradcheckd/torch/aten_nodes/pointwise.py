"""Conversions of functions of each element: those with an op of their name, and those made of such ops."""

import math
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    ChoiceKind,
    Converted,
    OperatorCall,
    get_shape,
    get_value,
    is_graph_tensor,
    map_operator,
    register_converter,
)

_SAME_NAMES = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "deg2rad", "digamma", "erf", "erfc",
    "erfinv", "exp", "exp2", "expm1", "hardsigmoid", "hardswish", "lgamma", "log", "log10", "log1p", "log2", "mish",
    "neg", "rad2deg", "reciprocal", "relu", "relu6", "rsqrt", "selu", "sigmoid", "silu", "sin", "sinc", "sinh", "sqrt",
    "square", "tan", "tanh",
)  # fmt: skip
for _name in _SAME_NAMES:
    map_operator(_name, _name, "self")
for _name in ("atan2", "hypot", "logaddexp", "logaddexp2", "maximum", "minimum", "xlogy"):
    map_operator(_name, _name, "self", "other")
_BOTH: dict[str, ChoiceKind] = {"self": "mask", "other": "mask"}
map_operator("mul", "mul", "self", "other", choices=_BOTH)
for _name, _op in (("fmax", "maximum"), ("fmin", "minimum")):
    map_operator(_name, _op, "self", "other")
map_operator("celu", "celu", "self", alpha="alpha")
map_operator("gelu", "gelu", "self", approximate="approximate")
map_operator("leaky_relu", "leaky_relu", "self", negative_slope="negative_slope")
map_operator("softplus", "softplus", "self", beta="beta", threshold="threshold")
map_operator("div.Tensor", "div", "self", "other", choices=_BOTH)
map_operator("div.Scalar", "div", "self", "other")
map_operator("threshold", "threshold", "self", threshold="threshold", value="value")
map_operator("hardtanh", "hardtanh", "self", min_val="min_val", max_val="max_val")
map_operator("hardshrink", "hardshrink", "self", lambd="lambd")
map_operator("softshrink", "softshrink", "self", lambd="lambd")
map_operator("glu", "glu", "self", dim="dim")
map_operator("lerp", "lerp", "self", "end", "weight")
map_operator("addcmul", "addcmul", "self", "tensor1", "tensor2", value="value")
map_operator("addcdiv", "addcdiv", "self", "tensor1", "tensor2", value="value")
map_operator("nan_to_num", "nan_to_num", "self", nan="nan", posinf="posinf", neginf="neginf")


@register_converter("logit", "special_logit")
def _convert_logit(call: OperatorCall) -> Converted:
    """Convert a logit; an eps below 0, which torch takes for none, is left out."""
    epsilon = call.get("eps")
    return call.add_node("logit", call["self"], eps=None if epsilon is None or epsilon < 0 else epsilon)


@register_converter("special_xlog1py")
def _convert_xlog1py(call: OperatorCall) -> Converted:
    """Convert x log(1 + y), 0 where x is."""
    return call.add_node("xlogy", call["self"], call.add_node("add", call["other"], 1.0))


@register_converter("rrelu_with_noise_functional", "rrelu_with_noise")
def _convert_rrelu(call: OperatorCall) -> Converted:
    """Convert a leaky ReLU whose slope is the mean of its limits; that which draws slopes is refused before."""
    options = {name: call.get(name) for name in ("lower", "upper")}
    result = call.add_node("rrelu", call["self"], **options)
    return result if call.operator_name == "aten.rrelu_with_noise" else [result, None]


@register_converter("add", choices=_BOTH)
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


@register_converter("prelu", "_prelu_kernel")
def _convert_prelu(call: OperatorCall) -> Converted:
    """Convert x or its product with a slope; the slope belongs to the second axis, or has that of the input."""
    weight: Any = call["weight"]
    shape = get_shape(weight)
    if len(shape) > 1:
        weight = call.add_node("reshape", weight, shape=[math.prod(shape)])
    elif not shape:
        weight = call.add_node("reshape", weight, shape=[1])
    return call.add_node("prelu", call["self"], weight)


@register_converter("clamp", "clamp_min", "clamp_max", "clip")
def _convert_clamp(call: OperatorCall) -> Converted:
    lower, upper = call.get("min"), call.get("max")
    if not any(map(_is_tensor, (lower, upper))):
        return call.add_node("clamp", call["self"], min=lower, max=upper)
    return call.add_named_node("clamp", {"input": call["self"], "min": lower, "max": upper})


def _is_tensor(value: Any) -> bool:
    return is_graph_tensor(value) or isinstance(value, Tensor)


@register_converter(
    "where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar",
    choices={"condition": "mask", "self": "mask", "other": "mask"},
)  # fmt: skip
def _convert_where(call: OperatorCall) -> Converted:
    """Convert a choice; constants that are not chosen may be NaN or infinite, and are 0 here."""
    condition: Any = call["condition"]
    truths: Tensor = get_value(condition)
    first, other = _clear_unchosen(call["self"], truths), _clear_unchosen(call["other"], ~truths)
    inputs = [call.name_choice(condition, "mask"), call.name_input(first), call.name_input(other)]
    return call.builder.add_node(f"{call.name}.where", "where", inputs, {})


def _clear_unchosen(value: Any, is_chosen: Tensor) -> Any:
    if is_graph_tensor(value):
        return value
    number = torch.as_tensor(value, dtype=torch.float64)
    if bool(number.isfinite().all()):
        return value
    return torch.where(is_chosen.cpu(), number, 0.0)


@register_converter("masked_fill", choices={"mask": "mask"})
def _convert_masked_fill(call: OperatorCall) -> Converted:
    inputs = [call.name_input(call["self"]), call.name_choice(call["mask"], "mask"), call.name_input(call["value"])]
    return call.builder.add_node(f"{call.name}.masked_fill", "masked_fill", inputs, {})


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
