"""Conversions of attention and of embeddings."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    get_value,
    is_graph_tensor,
    register_converter,
)


@register_converter("scaled_dot_product_attention")
def _convert_attention(call: OperatorCall) -> Converted:
    if call.get("dropout_p", 0.0):
        raise UnsupportedError("dropout draws random numbers: call .eval(), or set its probability to 0")
    query, key, value = (call[name] for name in ("query", "key", "value"))
    if call.get("enable_gqa", False):
        key, value = (_repeat_heads(call, tensor, get_shape(query)[-3]) for tensor in (key, value))
    else:
        query, key, value = _broadcast_leading_axes(call, (query, key, value))
    options = {"is_causal": call.get("is_causal") or None, "scale": call.get("scale")}
    return call.add_node("scaled_dot_product_attention", query, key, value, _encode_mask(call), **options)


def _repeat_heads(call: OperatorCall, tensor: Any, head_count: int) -> Any:
    """Return keys or values in which each head stands once for each head of the query that shares it."""
    own_count = get_shape(tensor)[-3]
    if own_count == head_count:
        return tensor
    index = torch.arange(own_count).repeat_interleave(head_count // own_count)
    return call.add_node("index_select", tensor, call.add_constant(index, "index"), dim=len(get_shape(tensor)) - 3)


def _broadcast_leading_axes(call: OperatorCall, tensors: Sequence[Any]) -> list[Any]:
    """Return queries, keys and values with the same leading axes, such as one head of keys for all heads."""
    leading = np.broadcast_shapes(*(get_shape(tensor)[:-2] for tensor in tensors))
    return [_expand(call, tensor, [*leading, *get_shape(tensor)[-2:]]) for tensor in tensors]


def _expand(call: OperatorCall, tensor: Any, shape: list[int]) -> Any:
    if get_shape(tensor) == shape:
        return tensor
    return call.add_node("expand", tensor, size=shape) if is_graph_tensor(tensor) else tensor.expand(shape)


def _encode_mask(call: OperatorCall) -> Any:
    """Return the mask: of booleans, also where one of floats says no more than that."""
    mask = call.get("attn_mask")
    if mask is None or is_graph_tensor(mask):
        return mask
    if mask.dtype is not torch.bool:
        shown, hidden = mask == 0, mask == -math.inf
        if not bool((shown | hidden).all()):
            return mask
        mask = shown
    if not bool(mask.any(-1).all()):
        raise UnsupportedError("its mask hides all keys of a query, so that the result is NaN or a convention")
    return call.add_constant(mask, "mask")


@register_converter("embedding", choices={"indices": "index"})
def _convert_embedding(call: OperatorCall) -> Converted:
    """Convert an embedding; the row of `padding_idx` has no gradient, and is a constant here."""
    if call.get("scale_grad_by_freq", False):
        raise UnsupportedError("scale_grad_by_freq asks for another gradient than that of the function")
    weight, padding = call["weight"], call.get("padding_idx", -1)
    if padding >= 0 and is_graph_tensor(weight):
        numbers = get_value(weight)
        is_padding = torch.zeros(numbers.shape[0], 1, dtype=torch.bool)
        is_padding[padding] = True
        fixed_row = numbers[padding : padding + 1].clone()
        weight = call.add_node("where", call.add_constant(is_padding, "mask"), fixed_row, weight)
    return call.add_node("embedding", call.name_choice(call["indices"], "index"), weight)
