"""Conversions of operators that pick elements, by an index that stays fixed at the point."""

from torch import Tensor

from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    get_value,
    register_converter,
)


@register_converter("index_select")
def _convert_index_select(call: OperatorCall) -> Converted:
    return call.add_node("index_select", call["self"], call.add_constant(call["index"], "index"), dim=call["dim"])


@register_converter("gather")
def _convert_gather(call: OperatorCall) -> Converted:
    return _gather(call, call["index"], call["dim"])


@register_converter("topk", "sort", "kthvalue", "median.dim", "nanmedian.dim", "mode", "cummax", "cummin")
def _convert_order(call: OperatorCall) -> Converted:
    """Convert the elements in the order that they have at the point; that a tie is none is checked before."""
    index = call.result[1]
    dim = call.get("dim", -1)
    if index.ndim < len(get_shape(call["self"])):
        picked = _gather(call, index.unsqueeze(dim), dim)
        return [call.add_node("squeeze", picked, dim=dim), None]
    return [_gather(call, index, dim), None]


@register_converter("median.default", "nanmedian.default")
def _convert_median(call: OperatorCall) -> Converted:
    """Convert the element in the middle of all, which has no equal."""
    place = int((get_value(call["self"]).reshape(-1) == call.result).nonzero()[0])
    flat = call.add_node("flatten", call["self"])
    picked = call.add_node("narrow", flat, dim=0, start=place, length=1)
    return call.add_node("reshape", picked, shape=[])


def _gather(call: OperatorCall, index: Tensor, dim: int) -> str:
    if not get_shape(call["self"]):
        return call.add_node("reshape", call["self"], shape=list(index.shape))
    return call.add_node("gather", call["self"], call.add_constant(index, "index"), dim=dim)
