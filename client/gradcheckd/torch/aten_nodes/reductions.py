"""Conversions of sums, means, extremes and norms."""

from collections.abc import Sequence
from typing import Any

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    map_operator,
    register_converter,
)

map_operator("amax", "amax", "self", dim="dim", keepdim="keepdim")
map_operator("logsumexp", "logsumexp", "self", dim="dim", keepdim="keepdim")
map_operator("cumsum", "cumsum", "self", dim="dim")


@register_converter("sum", "mean")
def _convert_sum(call: OperatorCall) -> Converted:
    return call.add_node(call.operator_name.removeprefix("aten."), call["self"], **_get_axes(call))


def _get_axes(call: OperatorCall) -> dict[str, Any]:
    """Return the axes of a reduction; none stands for all, as an empty list does for torch."""
    dim: int | Sequence[int] | None = call.get("dim")
    if isinstance(dim, Sequence) and not dim:
        dim = None
    if not get_shape(call["self"]):
        return {}
    return {"dim": dim, "keepdim": call.get("keepdim") or None}


@register_converter("max", "min")
def _convert_extreme(call: OperatorCall) -> Converted:
    """Convert the extreme of all elements, of an axis, or of two tensors."""
    is_least = call.operator_name == "aten.min"
    if call.get("other") is not None:
        return call.add_node("minimum" if is_least else "maximum", call["self"], call["other"])
    result = _reduce_to_extreme(call, is_least)
    return result if call.get("dim") is None else [result, None]


@register_converter("amin")
def _convert_amin(call: OperatorCall) -> Converted:
    return _reduce_to_extreme(call, is_least=True)


def _reduce_to_extreme(call: OperatorCall, is_least: bool) -> str:
    source = call.add_node("neg", call["self"]) if is_least else call["self"]
    result = call.add_node("amax", source, **_get_axes(call))
    return call.add_node("neg", result) if is_least else result


@register_converter("var", "var_mean", "std")
def _convert_variance(call: OperatorCall) -> Converted:
    correction = call.arguments.get("correction", 1 if call.arguments.get("unbiased", True) else 0)
    options = _get_axes(call) | {"correction": 1 if correction is None else correction}
    result = call.add_node("var", call["self"], **options)
    if call.operator_name == "aten.std":
        return call.add_node("sqrt", result)
    if call.operator_name == "aten.var":
        return result
    return [result, call.add_node("mean", call["self"], **_get_axes(call))]


@register_converter("linalg_vector_norm", "norm")
def _convert_norm(call: OperatorCall) -> Converted:
    order = call.get("ord", call.get("p", 2))
    if order < 0 or order == float("inf"):
        raise UnsupportedError(f"the norm of order {order}")
    return call.add_node("vector_norm", call["self"], ord=order, **_get_axes(call))
