"""Conversions of functions of each element: those with an op of their name, and those made of such ops."""

from typing import Any

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    is_graph_tensor,
    map_operator,
    register_converter,
)

for _name in (
    *("abs", "cos", "erf", "exp", "expm1", "log", "log1p", "neg", "relu", "rsqrt", "sigmoid", "silu", "sin", "sqrt"),
    "tanh",
):
    map_operator(_name, _name, "self")
map_operator("gelu", "gelu", "self", approximate="approximate")
map_operator("leaky_relu", "leaky_relu", "self", negative_slope="negative_slope")
map_operator("softplus", "softplus", "self", beta="beta", threshold="threshold")
map_operator("mul", "mul", "self", "other")
map_operator("div.Tensor", "div", "self", "other")
map_operator("div.Scalar", "div", "self", "other")
map_operator("maximum", "maximum", "self", "other")
map_operator("minimum", "minimum", "self", "other")
map_operator("hardtanh", "clamp", "self", min="min_val", max="max_val")

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
_LN_2, _LN_10 = 0.69314718055994530942, 2.3025850929940456840


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


@register_converter("reciprocal")
def _convert_reciprocal(call: OperatorCall) -> Converted:
    return call.add_node("div", 1.0, call["self"])


@register_converter("log2", "log10")
def _convert_logarithm(call: OperatorCall) -> Converted:
    base = _LN_2 if call.operator_name == "aten.log2" else _LN_10
    return call.add_node("mul", call.add_node("log", call["self"]), 1.0 / base)


@register_converter("exp2")
def _convert_exp2(call: OperatorCall) -> Converted:
    return call.add_node("exp", call.add_node("mul", call["self"], _LN_2))


@register_converter("tan")
def _convert_tan(call: OperatorCall) -> Converted:
    return call.add_node("div", call.add_node("sin", call["self"]), call.add_node("cos", call["self"]))


@register_converter("sinh")
def _convert_sinh(call: OperatorCall) -> Converted:
    """Convert sinh(x) = (expm1(x) - expm1(-x)) / 2, which does not cancel beside 0."""
    negative = call.add_node("expm1", call.add_node("neg", call["self"]))
    return call.add_node("mul", call.add_node("sub", call.add_node("expm1", call["self"]), negative), 0.5)


@register_converter("cosh")
def _convert_cosh(call: OperatorCall) -> Converted:
    negative = call.add_node("exp", call.add_node("neg", call["self"]))
    return call.add_node("mul", call.add_node("add", call.add_node("exp", call["self"]), negative), 0.5)


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


@register_converter("selu")
def _convert_selu(call: OperatorCall) -> Converted:
    return call.add_node("mul", call.add_node("elu", call["self"], alpha=_SELU_ALPHA), _SELU_SCALE)


@register_converter("celu")
def _convert_celu(call: OperatorCall) -> Converted:
    """Convert alpha * elu(x / alpha), whose branch above 0 is x."""
    alpha = call.get("alpha", 1.0)
    if alpha == 1:
        return call.add_node("elu", call["self"])
    return call.add_node("mul", call.add_node("elu", call.add_node("mul", call["self"], 1.0 / alpha)), alpha)


@register_converter("relu6")
def _convert_relu6(call: OperatorCall) -> Converted:
    return call.add_node("clamp", call["self"], min=0.0, max=6.0)


@register_converter("hardsigmoid")
def _convert_hardsigmoid(call: OperatorCall) -> Converted:
    return call.add_node("mul", _add_gate(call), 1.0 / 6.0)


@register_converter("hardswish")
def _convert_hardswish(call: OperatorCall) -> Converted:
    return call.add_node("mul", call.add_node("mul", call["self"], _add_gate(call)), 1.0 / 6.0)


def _add_gate(call: OperatorCall) -> str:
    return call.add_node("clamp", call.add_node("add", call["self"], 3.0), min=0.0, max=6.0)


@register_converter("mish")
def _convert_mish(call: OperatorCall) -> Converted:
    return call.add_node("mul", call["self"], call.add_node("tanh", call.add_node("softplus", call["self"])))


@register_converter("log_sigmoid", "log_sigmoid_forward")
def _convert_log_sigmoid(call: OperatorCall) -> Converted:
    result = call.add_node("neg", call.add_node("softplus", call.add_node("neg", call["self"])))
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


@register_converter("threshold")
def _convert_threshold(call: OperatorCall) -> Converted:
    if call["threshold"] == 0 and call["value"] == 0:
        return call.add_node("relu", call["self"])
    raise UnsupportedError("a threshold other than 0")


@register_converter("where.self", "where.ScalarSelf", "where.ScalarOther")
def _convert_where(call: OperatorCall) -> Converted:
    return call.add_node("where", call.add_constant(call["condition"], "mask"), call["self"], call["other"])


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
