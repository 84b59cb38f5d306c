"""Conversions of normalisations and of softmax."""

from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    map_operator,
    register_converter,
)

for _name in ("softmax", "log_softmax"):
    map_operator(_name, _name, "self", dim="dim")
    map_operator(f"_{_name}", _name, "self", dim="dim")


@register_converter("layer_norm", "native_layer_norm")
def _convert_layer_norm(call: OperatorCall) -> Converted:
    inputs = {name: call.get(name) for name in ("input", "weight", "bias")}
    options = {"normalized_shape": list(call["normalized_shape"]), "eps": call.get("eps")}
    result = call.add_named_node("layer_norm", inputs, **options)
    return result if call.operator_name == "aten.layer_norm" else [result, None, None]


@register_converter("rms_norm", "_fused_rms_norm")
def _convert_rms_norm(call: OperatorCall) -> Converted:
    options = {"normalized_shape": list(call["normalized_shape"]), "eps": call.get("eps")}
    result = call.add_node("rms_norm", call["input"], call.get("weight"), **options)
    return result if call.operator_name == "aten.rms_norm" else [result, None]


@register_converter("group_norm", "native_group_norm")
def _convert_group_norm(call: OperatorCall) -> Converted:
    inputs = {name: call.get(name) for name in ("input", "weight", "bias")}
    groups = call.get("num_groups") or call.get("group")
    result = call.add_named_node("group_norm", inputs, num_groups=groups, eps=call.get("eps"))
    if call.operator_name == "aten.group_norm":
        return result
    parts = call.add_node("reshape", call["input"], shape=[get_shape(call["input"])[0], groups, -1])
    variance = call.add_node("var", parts, dim=[2], correction=0)
    deviation = call.add_node("add", variance, call["eps"])
    return [result, call.add_node("mean", parts, dim=[2]), call.add_node("rsqrt", deviation)]


@register_converter(
    "_native_batch_norm_legit_functional",
    "_native_batch_norm_legit",
    "_batch_norm_with_update_functional",
)
def _convert_batch_norm(call: OperatorCall) -> Converted:
    """Convert batch normalisation by the statistics of the batch, or by the running ones."""
    # Those with an update have no such parameter.
    training = call.get("training", True)
    if not training:
        return _convert_batch_norm_in_evaluation(call)
    return [_convert_training(call), *[None] * (len(call.result) - 1)]


@register_converter("_native_batch_norm_legit_no_training")
def _convert_batch_norm_in_evaluation(call: OperatorCall) -> Converted:
    return [_convert_evaluation(call), *[None] * (len(call.result) - 1)]


@register_converter("batch_norm", "native_batch_norm")
def _convert_any_batch_norm(call: OperatorCall) -> Converted:
    if call.operator_name == "aten.native_batch_norm":
        return _convert_batch_norm(call)
    return _convert_training(call) if call["training"] else _convert_evaluation(call)


def _convert_training(call: OperatorCall) -> str:
    inputs = {name: call.get(name) for name in ("input", "weight", "bias")}
    return call.add_named_node("batch_norm", inputs, eps=call["eps"])


def _convert_evaluation(call: OperatorCall) -> str:
    names = ("input", "weight", "bias", "running_mean", "running_var")
    return call.add_named_node("batch_norm", {name: call.get(name) for name in names}, training=False, eps=call["eps"])


@register_converter("instance_norm")
def _convert_instance_norm(call: OperatorCall) -> Converted:
    """Convert a normalisation of each channel of each sample, by its own statistics or the running ones."""
    own = bool(call["use_input_stats"])
    names = ("input", "weight", "bias") if own else ("input", "weight", "bias", "running_mean", "running_var")
    inputs = {name: call.get(name) for name in names}
    return call.add_named_node("instance_norm", inputs, eps=call["eps"], use_input_stats=None if own else False)


@register_converter("_weight_norm_interface")
def _convert_weight_norm(call: OperatorCall) -> Converted:
    """Convert v * g / norm(v), with a norm for each index of one axis."""
    ndim, dim = len(get_shape(call["v"])), call.get("dim", 0)
    axes = [axis for axis in range(ndim) if axis != dim % ndim]
    norm = call.add_node("vector_norm", call["v"], dim=axes, keepdim=True)
    return [call.add_node("mul", call["v"], call.add_node("div", call["g"], norm)), None]
