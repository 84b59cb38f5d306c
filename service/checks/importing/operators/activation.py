"""Activations."""

import math

from service.checks.importing.operator_registry import (
    NodeCall,
    Results,
    normalize_axis,
    register_operator,
    register_pointwise,
)
from service.checks.importing.operators.shape import reshape
from service.checks.importing.values import Value

register_pointwise(Relu="relu", Sigmoid="sigmoid", Tanh="tanh", Mish="mish", HardSwish="hardswish")
register_pointwise(Tan="tan", Asin="asin", Acos="acos", Atan="atan")
register_pointwise(Sinh="sinh", Cosh="cosh", Asinh="asinh", Acosh="acosh", Atanh="atanh")

_EXACT_SOFTPLUS_THRESHOLD = 700.0
"""Argument from which on softplus is linear: below it the exponential does not overflow, and 1 is lost beside it."""


@register_operator("Softplus")
def _import_softplus(call: NodeCall) -> Results:
    return apply_softplus(call, call.get(0))


def apply_softplus(call: NodeCall, value: Value) -> Value:
    """Return log(1 + exp(x)), without the line that PyTorch takes from 20 on."""
    return call.emit("softplus", [value], threshold=_EXACT_SOFTPLUS_THRESHOLD)


@register_operator("LeakyRelu")
def _import_leaky_relu(call: NodeCall) -> Results:
    return call.emit("leaky_relu", [call.get(0)], negative_slope=float(call.attributes["alpha"]))


@register_operator("PRelu")
def _import_prelu(call: NodeCall) -> Results:
    value, slope = call.get(0), call.get(1)
    rank, count = len(value.shape), math.prod(slope.shape)
    padded = (*[1] * (rank - len(slope.shape)), *slope.shape)
    if count == 1 or (rank > 1 and padded == (1, value.shape[1], *[1] * (rank - 2))):
        return call.emit("prelu", [value, reshape(call, slope, [count])])
    # A slope for each element: max(x, 0) + slope min(x, 0).
    negative = call.emit("mul", [slope, call.emit("minimum", [value, 0.0])])
    return call.emit("add", [call.emit("relu", [value]), negative])


@register_operator("ThresholdedRelu")
def _import_thresholded_relu(call: NodeCall) -> Results:
    return call.emit("threshold", [call.get(0)], threshold=float(call.attributes["alpha"]), value=0.0)


@register_operator("Elu")
def _import_elu(call: NodeCall) -> Results:
    return call.emit("elu", [call.get(0)], alpha=float(call.attributes["alpha"]))


@register_operator("Celu")
def _import_celu(call: NodeCall) -> Results:
    return call.emit("celu", [call.get(0)], alpha=float(call.attributes["alpha"]))


@register_operator("Selu")
def _import_selu(call: NodeCall) -> Results:
    inner = call.emit("elu", [call.get(0)], alpha=float(call.attributes["alpha"]))
    return call.emit("mul", [inner, float(call.attributes["gamma"])])


@register_operator("HardSigmoid")
def _import_hard_sigmoid(call: NodeCall) -> Results:
    return apply_hard_sigmoid(call, call.get(0), float(call.attributes["alpha"]), float(call.attributes["beta"]))


def apply_hard_sigmoid(call: NodeCall, value: Value, alpha: float, beta: float) -> Value:
    """Return alpha x + beta, held between 0 and 1."""
    line = call.emit("add", [call.emit("mul", [value, alpha]), beta])
    return call.emit("clamp", [line], min=0.0, max=1.0)


@register_operator("Swish")
def _import_swish(call: NodeCall) -> Results:
    value, alpha = call.get(0), float(call.attributes["alpha"])
    if alpha == 1:
        return call.emit("silu", [value])
    return call.emit("mul", [value, call.emit("sigmoid", [call.emit("mul", [value, alpha])])])


@register_operator("Gelu")
def _import_gelu(call: NodeCall) -> Results:
    return call.emit("gelu", [call.get(0)], approximate=call.attributes.get("approximate", "none"))


@register_operator("Softsign")
def _import_softsign(call: NodeCall) -> Results:
    return apply_softsign(call, call.get(0))


def apply_softsign(call: NodeCall, value: Value) -> Value:
    """Return x / (1 + |x|)."""
    return call.emit("softsign", [value])


@register_operator("Softmax", "LogSoftmax")
def _import_softmax(call: NodeCall) -> Results:
    value, op_name = call.get(0), "softmax" if call.operator == "Softmax" else "log_softmax"
    rank = len(value.shape)
    axis = normalize_axis(call.attributes.get("axis", -1), rank)
    if call.opset >= 13 or axis == rank - 1:
        return call.emit(op_name, [value], dim=axis)
    # Old versions normalise all axes from this one on together.
    flat = call.emit("reshape", [value], shape=[math.prod(value.shape[:axis]), math.prod(value.shape[axis:])])
    return call.emit("reshape", [call.emit(op_name, [flat], dim=1)], shape=list(value.shape))


@register_operator("Shrink")
def _import_shrink(call: NodeCall) -> Results:
    value, bias, bound = call.get(0), float(call.attributes["bias"]), float(call.attributes["lambd"])
    if bound >= 0 and bias in (0, bound):
        return call.emit("softshrink" if bias else "hardshrink", [value], lambd=bound)
    # It jumps: x + bias below -lambd, x - bias above lambd, and 0 between.
    upper = call.emit("where", [call.emit("gt", [value, bound]), call.emit("sub", [value, bias]), 0.0])
    return call.emit("where", [call.emit("lt", [value, -bound]), call.emit("add", [value, bias]), upper])
