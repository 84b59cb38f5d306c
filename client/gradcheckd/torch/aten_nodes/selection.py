"""Conversions of operators that pick elements, by an index or by their order."""

from typing import Any

from torch import Tensor

from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    is_graph_tensor,
    register_converter,
)

_ORDERED = ("values", "indices")


@register_converter("index_select", choices={"index": "index"})
def _convert_index_select(call: OperatorCall) -> Converted:
    index = call["index"]
    if isinstance(index, Tensor):
        index = index.reshape(-1)
    inputs = [call.name_input(call["self"]), call.name_choice(index, "index")]
    return call.builder.add_node(f"{call.name}.index_select", "index_select", inputs, {"dim": call["dim"]})


@register_converter("gather", choices={"index": "index"})
def _convert_gather(call: OperatorCall) -> Converted:
    inputs = [call.name_input(call["self"]), _name_index(call, call["index"])]
    return call.builder.add_node(f"{call.name}.gather", "gather", inputs, {"dim": call["dim"]})


@register_converter("take_along_dim", choices={"indices": "index"})
def _convert_take_along_dim(call: OperatorCall) -> Converted:
    """Convert a gather whose index is broadcast; without an axis both are flat."""
    source, dim = call["self"], call.get("dim")
    index: Any = call["indices"]
    if dim is not None and isinstance(index, Tensor):
        # Positions may count from the end.
        index = index.remainder(get_shape(source)[int(dim)])
    if dim is None:
        number: Tensor = call.builder.freeze(index) if is_graph_tensor(index) else index
        inputs = [call.add_node("flatten", source), call.name_choice(number.reshape(-1), "index")]
        return call.builder.add_node(f"{call.name}.take", "index_select", inputs, {"dim": 0})
    inputs = [call.name_input(source), _name_index(call, _expand_index(call, index, get_shape(source), dim))]
    return call.builder.add_node(f"{call.name}.take", "take_along_dim", inputs, {"dim": dim})


def _expand_index(call: OperatorCall, index: Any, shape: list[int], dim: int) -> Any:
    """Return an index that has the lengths of the tensor but along one axis; one that is expanded is a constant."""
    own = get_shape(index)
    axis = dim % len(shape)
    wanted = [own[k] if k == axis or length == 1 else length for k, length in enumerate(shape)]
    if own == wanted:
        return index
    number: Tensor = call.builder.freeze(index) if is_graph_tensor(index) else index
    return number.expand(wanted)


def _name_index(call: OperatorCall, index: Any) -> Any:
    """Return the name of an index; a single one is a tensor too, not a number."""
    if isinstance(index, Tensor) and not index.ndim:
        return call.builder.add_tensor(f"{call.name}.index", index.long())
    return call.name_choice(index, "index")


@register_converter("topk", "sort", "kthvalue", "cummax", "cummin")
def _convert_order(call: OperatorCall) -> Converted:
    if not get_shape(call["self"]):
        return [call.name_input(call["self"]), None]
    names = ("k", "dim", "largest", "descending", "keepdim")
    options = {name: call.get(name) for name in names}
    # Equal elements come in any order, which the service judges, unless the order is stable.
    options["stable"] = call.get("stable") or None
    return call.add_outputs_node(call.operator_name.removeprefix("aten."), _ORDERED, call["self"], **options)


@register_converter("median.dim", "nanmedian.dim")
def _convert_median(call: OperatorCall) -> Converted:
    """Convert the middle elements; NaN, which the one looks over, is refused in either."""
    if not get_shape(call["self"]):
        return [call.name_input(call["self"]), None]
    return call.add_outputs_node("median", _ORDERED, call["self"], dim=call["dim"], keepdim=call.get("keepdim"))


@register_converter("median.default", "nanmedian.default")
def _convert_median_of_all(call: OperatorCall) -> Converted:
    return call.add_node("median", call["self"])


@register_converter("mode")
def _convert_mode(call: OperatorCall) -> Converted:
    """Convert the elements at the positions that the operator finds."""
    index, dim = call.result[1], call.get("dim", -1)
    if not get_shape(call["self"]):
        return [call.name_input(call["self"]), None]
    if index.ndim == len(get_shape(call["self"])):
        return [call.add_node("gather", call["self"], call.add_constant(index, "index"), dim=dim), None]
    picked = call.add_node("gather", call["self"], call.add_constant(index.unsqueeze(dim), "index"), dim=dim)
    return [call.add_node("squeeze", picked, dim=dim), None]
