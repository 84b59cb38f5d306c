"""Conversions of losses."""

from typing import Any

import torch

from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_value,
    is_graph_tensor,
    register_converter,
)

_REDUCTIONS = ("none", "mean", "sum")


def _get_options(call: OperatorCall, *names: str) -> dict[str, Any]:
    options = {name: call.arguments[name] for name in names if call.get(name) is not None}
    return {"reduction": _REDUCTIONS[call.get("reduction", 1)], **options}


@register_converter("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
def _convert_distance(call: OperatorCall) -> Converted:
    name = call.operator_name.removeprefix("aten.")
    return call.add_node(name, call["self"], call["target"], **_get_options(call, "beta", "delta"))


@register_converter("binary_cross_entropy")
def _convert_binary_cross_entropy(call: OperatorCall) -> Converted:
    inputs = (call["self"], call["target"], call.get("weight"))
    return call.add_node("binary_cross_entropy", *inputs, **_get_options(call))


@register_converter("binary_cross_entropy_with_logits")
def _convert_binary_cross_entropy_with_logits(call: OperatorCall) -> Converted:
    names = {"input": "self", "target": "target", "weight": "weight", "pos_weight": "pos_weight"}
    inputs = {name: call.get(argument) for name, argument in names.items()}
    return call.add_named_node("binary_cross_entropy_with_logits", inputs, **_get_options(call))


@register_converter("kl_div")
def _convert_kl_div(call: OperatorCall) -> Converted:
    return call.add_node("kl_div", call["self"], call["target"], **_get_options(call, "log_target"))


@register_converter("cross_entropy_loss")
def _convert_cross_entropy(call: OperatorCall) -> Converted:
    options = _get_options(call, "ignore_index", "label_smoothing")
    return call.add_node("cross_entropy", call["self"], _encode_labels(call), call.get("weight"), **options)


@register_converter("nll_loss", "nll_loss_nd", "nll_loss_forward", "nll_loss2d", "nll_loss2d_forward")
def _convert_nll_loss(call: OperatorCall) -> Converted:
    options = _get_options(call, "ignore_index")
    result = call.add_node("nll_loss", call["self"], _encode_labels(call), call.get("weight"), **options)
    return [result, None] if call.operator_name.endswith("_forward") else result


def _encode_labels(call: OperatorCall) -> Any:
    target = call["target"]
    if is_graph_tensor(target) or get_value(target).is_floating_point():
        return target
    labels = target.to(torch.int64)
    # A label alone is a tensor too, not a number.
    return (
        call.builder.add_tensor(f"{call.name}.labels", labels)
        if not labels.ndim
        else call.add_constant(labels, "index")
    )


@register_converter("cosine_embedding_loss")
def _convert_cosine_embedding_loss(call: OperatorCall) -> Converted:
    inputs = (call["input1"], call["input2"], call["target"])
    return call.add_node("cosine_embedding_loss", *inputs, **_get_options(call, "margin"))


@register_converter("triplet_margin_loss")
def _convert_triplet_margin_loss(call: OperatorCall) -> Converted:
    inputs = (call["anchor"], call["positive"], call["negative"])
    return call.add_node("triplet_margin_loss", *inputs, **_get_options(call, "margin", "p", "eps", "swap"))
