"""Conversions of losses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
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


@register_converter(*(f"torch_nn._linear_cross_entropy_batch_chunked{end}" for end in ("", "_no_reduction")))
def _convert_linear_cross_entropy(call: OperatorCall) -> Converted:
    """Convert the fused layer and loss; the gradients that its forward pass computes beside it are not converted."""
    names = ("input", "linear_weight", "linear_bias", "weight")
    inputs = {name: call.get(name) for name in names} | {"target": _encode_labels(call)}
    options = {"reduction": call.get("reduction", "none"), "ignore_index": call["ignore_index"]}
    smoothing = call.get("label_smoothing", 0.0)
    result = call.add_named_node("linear_cross_entropy", inputs, label_smoothing=smoothing or None, **options)
    return result if isinstance(call.result, Tensor) else [result, *[None] * (len(call.result) - 1)]


@register_converter("cosine_embedding_loss")
def _convert_cosine_embedding_loss(call: OperatorCall) -> Converted:
    inputs = (call["input1"], call["input2"], call["target"])
    return call.add_node("cosine_embedding_loss", *inputs, **_get_options(call, "margin"))


@register_converter("triplet_margin_loss")
def _convert_triplet_margin_loss(call: OperatorCall) -> Converted:
    inputs = (call["anchor"], call["positive"], call["negative"])
    return call.add_node("triplet_margin_loss", *inputs, **_get_options(call, "margin", "p", "eps", "swap"))


@register_converter("margin_ranking_loss")
def _convert_margin_ranking_loss(call: OperatorCall) -> Converted:
    """Convert a loss of two inputs and a target, which are broadcast to one shape."""
    inputs = expand_together(call, [call["input1"], call["input2"], call["target"]])
    return call.add_node("margin_ranking_loss", *inputs, **_get_options(call, "margin"))


@register_converter("hinge_embedding_loss")
def _convert_hinge_embedding_loss(call: OperatorCall) -> Converted:
    inputs = expand_together(call, [call["self"], call["target"]])
    return call.add_node("hinge_embedding_loss", *inputs, **_get_options(call, "margin"))


@register_converter("soft_margin_loss")
def _convert_soft_margin_loss(call: OperatorCall) -> Converted:
    inputs = expand_together(call, [call["self"], call["target"]])
    return call.add_node("soft_margin_loss", *inputs, **_get_options(call))


@register_converter("multi_margin_loss")
def _convert_multi_margin_loss(call: OperatorCall) -> Converted:
    options = _get_options(call, "p", "margin")
    inputs = (_give_axis(call, call["self"]), _encode_labels(call), call.get("weight"))
    return call.add_node("multi_margin_loss", *inputs, **options)


@register_converter("multilabel_margin_loss_forward", "multilabel_margin_loss")
def _convert_multilabel_margin_loss(call: OperatorCall) -> Converted:
    scores, options = _give_axis(call, call["self"]), _get_options(call)
    target = call.builder.add_tensor(f"{call.name}.labels", call["target"].reshape(get_shape(call["self"]) or [1]))
    result = call.add_node("multilabel_margin_loss", scores, target, **options)
    return [result, None] if call.operator_name.endswith("_forward") else result


def _give_axis(call: OperatorCall, scores: Any) -> Any:
    """Return scores with an axis of classes: a single one has none."""
    return scores if get_shape(scores) else call.add_node("reshape", scores, shape=[1])


@register_converter("_ctc_loss")
def _convert_ctc_loss(call: OperatorCall) -> Converted:
    """Convert the loss of each sample; the probabilities of the alignments beside it have no counterpart."""
    lengths = {name: _list_numbers(call[name]) for name in ("input_lengths", "target_lengths")}
    log_probs, targets = call["log_probs"], call.builder.add_tensor(f"{call.name}.labels", call["targets"].long())
    if len(get_shape(log_probs)) == 2:
        lengths = {name: numbers[0] for name, numbers in lengths.items()}
    options = {"blank": call["blank"], "zero_infinity": call["zero_infinity"] or None, "reduction": "none"}
    return [call.add_node("ctc_loss", log_probs, targets, **lengths, **options), None]


def _list_numbers(lengths: Any) -> Any:
    return [int(length) for length in (lengths.reshape(-1) if isinstance(lengths, Tensor) else lengths)]


def expand_together(call: OperatorCall, values: Sequence[Any]) -> list[Any]:
    """Return tensors of one shape, to which they are broadcast."""
    shape = list(np.broadcast_shapes(*map(get_shape, values)))
    return [_expand(call, value, shape) for value in values]


def _expand(call: OperatorCall, value: Any, shape: list[int]) -> Any:
    if get_shape(value) == shape:
        return value if is_graph_tensor(value) else call.builder.add_tensor(f"{call.name}.target", value.double())
    if is_graph_tensor(value):
        return call.add_node("expand", value, size=shape)
    return call.builder.add_tensor(f"{call.name}.target", value.double().expand(shape).contiguous())
