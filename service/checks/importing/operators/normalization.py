"""Normalisations."""

import math

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axis, register_operator
from service.checks.importing.operators.shape import reshape
from service.checks.importing.values import Value


def _along_channels(call: NodeCall, value: Value, rank: int) -> Value:
    """Return a value of one element for each channel as (C, 1, ...)."""
    return reshape(call, value, [math.prod(value.shape), *[1] * (rank - 2)])


@register_operator("BatchNormalization")
def _import_batch_norm(call: NodeCall) -> Results:
    value, scale, bias = call.get(0), call.get(1), call.get(2)
    mean, variance = (call.writer.mark_as_tensor(call.get(position)) for position in (3, 4))
    epsilon = float(call.attributes["epsilon"])
    if call.attributes.get("training_mode"):
        return _import_batch_statistics(call, mean, variance, epsilon)
    if call.output_count > 1:
        raise OperatorUseError("with running statistics as outputs is taken in training_mode alone")
    return call.emit("batch_norm", [value, scale, bias, mean, variance], training=False, eps=epsilon)


def _import_batch_statistics(call: NodeCall, mean: Value, variance: Value, epsilon: float) -> Results:
    """Return the normalisation by the statistics of the batch, and the running statistics."""
    value, momentum = call.get(0), float(call.attributes["momentum"])
    result = call.emit("batch_norm", [value, call.get(1), call.get(2)], eps=epsilon)
    if call.output_count == 1:
        return result
    axes = [axis for axis in range(len(value.shape)) if axis != 1]
    current = [call.emit("mean", [value], dim=axes), call.emit("var", [value], dim=axes, correction=0)]
    running = [
        call.emit("add", [call.emit("mul", [old, momentum]), call.emit("mul", [new, 1 - momentum])])
        for old, new in zip((mean, variance), current, strict=True)
    ]
    return [result, *running][: call.output_count]


@register_operator("LayerNormalization", "RMSNormalization")
def _import_layer_norm(call: NodeCall) -> Results:
    value, scale, bias = call.get(0), call.get(1), call.get_optional(2)
    axis = normalize_axis(call.attributes.get("axis", -1), len(value.shape))
    shape, epsilon = list(value.shape[axis:]), float(call.attributes["epsilon"])
    is_rms = call.operator == "RMSNormalization"
    op_name, extra = ("rms_norm", [None]) if is_rms else ("layer_norm", [None, None])
    fits = list(scale.shape) == shape and (bias is None or list(bias.shape) == shape)
    if fits:
        extra = [scale] if is_rms else [scale, bias]
    result = call.emit(op_name, [value, *extra], normalized_shape=shape, eps=epsilon)
    if not fits:
        result = call.emit("mul", [result, scale])
        result = result if bias is None else call.emit("add", [result, bias])
    return [result, *_make_statistics(call, value, axis, epsilon)] if call.output_count > 1 else result


def _make_statistics(call: NodeCall, value: Value, axis: int, epsilon: float) -> list[Value]:
    """Return the mean and the inverse standard deviation of a layer normalisation."""
    axes = list(range(axis, len(value.shape)))
    variance = call.emit("var", [value], dim=axes, correction=0, keepdim=True)
    deviation = call.emit("rsqrt", [call.emit("add", [variance, epsilon])])
    return [call.emit("mean", [value], dim=axes, keepdim=True), deviation]


@register_operator("InstanceNormalization")
def _import_instance_norm(call: NodeCall) -> Results:
    value = call.get(0)
    if len(value.shape) < 3:
        raise OperatorUseError(f"takes an input (N, C, ...); the shape is {list(value.shape)}")
    epsilon = float(call.attributes["epsilon"])
    return call.emit("instance_norm", [value, call.get(1), call.get(2)], eps=epsilon)


@register_operator("GroupNormalization")
def _import_group_norm(call: NodeCall) -> Results:
    value, scale, bias, groups = call.get(0), call.get(1), call.get(2), int(call.attributes["num_groups"])
    epsilon = float(call.attributes["epsilon"])
    if call.opset >= 21 or math.prod(scale.shape) == value.shape[1]:
        return call.emit("group_norm", [value, scale, bias], num_groups=groups, eps=epsilon)
    # Version 18 has one scale and one bias for each group.
    normalized = call.emit("group_norm", [value], num_groups=groups, eps=epsilon)
    split = reshape(
        call, normalized, [value.shape[0], groups, -(-value.shape[1] // groups), math.prod(value.shape[2:])]
    )
    scaled = call.emit("mul", [split, _along_channels(call, scale, 4)])
    return reshape(call, call.emit("add", [scaled, _along_channels(call, bias, 4)]), list(value.shape))
