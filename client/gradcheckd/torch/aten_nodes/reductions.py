"""Conversions of sums, means, extremes and norms."""

import math
from collections.abc import Sequence
from typing import Any

from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    register_converter,
)


@register_converter("cumsum", "cumprod", "logcumsumexp")
def _convert_cumulation(call: OperatorCall) -> Converted:
    """Convert sums or products of the elements so far; a single number stays as it is."""
    if not get_shape(call["self"]):
        return call.name_input(call["self"])
    return call.add_node(call.operator_name.removeprefix("aten."), call["self"], dim=call["dim"])


@register_converter("logsumexp")
def _convert_logsumexp(call: OperatorCall) -> Converted:
    """Convert a logarithm of a sum over axes; that of a single number is the number."""
    if not get_shape(call["self"]):
        return call.name_input(call["self"])
    return call.add_node("logsumexp", call["self"], dim=call["dim"], keepdim=call.get("keepdim"))


@register_converter("amax", "amin", "sum", "mean", "prod")
def _convert_reduction(call: OperatorCall) -> Converted:
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
    """Convert the extreme of all elements, of an axis with its position, or of two tensors."""
    name = call.operator_name.removeprefix("aten.")
    if call.get("other") is not None:
        return call.add_node("minimum" if name == "min" else "maximum", call["self"], call["other"])
    if call.get("dim") is None:
        return call.add_node(f"a{name}", call["self"])
    if not get_shape(call["self"]):
        return [call.name_input(call["self"]), None]
    options = {"dim": call["dim"], "keepdim": call.get("keepdim") or None}
    return call.add_outputs_node(name, ("values", "indices"), call["self"], **options)


@register_converter("aminmax")
def _convert_extremes(call: OperatorCall) -> Converted:
    options = _get_axes(call)
    return call.add_outputs_node("aminmax", ("min", "max"), call["self"], **options)


@register_converter("var", "std")
def _convert_spread(call: OperatorCall) -> Converted:
    options = _get_axes(call) | {"correction": _get_correction(call)}
    return call.add_node(call.operator_name.removeprefix("aten."), call["self"], **options)


@register_converter("var_mean", "std_mean")
def _convert_moments(call: OperatorCall) -> Converted:
    options = _get_axes(call) | {"correction": _get_correction(call)}
    return call.add_outputs_node(call.operator_name.removeprefix("aten."), ("0", "1"), call["self"], **options)


def _get_correction(call: OperatorCall) -> Any:
    correction = call.arguments.get("correction", 1 if call.arguments.get("unbiased", True) else 0)
    return 1 if correction is None else correction


@register_converter("trace")
def _convert_trace(call: OperatorCall) -> Converted:
    return call.add_node("trace", call["self"])


@register_converter("linalg_vector_norm", "norm")
def _convert_norm(call: OperatorCall) -> Converted:
    order = float(call.get("ord", call.get("p", 2)))
    return call.add_node("vector_norm", call["self"], ord=_encode_order(order), **_get_axes(call))


def _encode_order(order: float) -> float | str:
    return order if math.isfinite(order) else "inf" if order > 0 else "-inf"


@register_converter("_cdist_forward")
def _convert_distances(call: OperatorCall) -> Converted:
    """Convert the distances of the rows of two matrices, in norms of any order above 0."""
    order = float(call["p"])
    if 0 < order < math.inf:
        return call.add_node("cdist", call["x1"], call["x2"], p=order)
    rows, columns = call.add_node("unsqueeze", call["x1"], dim=-2), call.add_node("unsqueeze", call["x2"], dim=-3)
    return call.add_node("vector_norm", call.add_node("sub", rows, columns), ord=_encode_order(order), dim=[-1])


@register_converter("dist")
def _convert_distance(call: OperatorCall) -> Converted:
    return call.add_node("dist", call["self"], call["other"], p=_encode_order(float(call["p"])))


@register_converter("_pdist_forward")
def _convert_pairs(call: OperatorCall) -> Converted:
    return call.add_node("pdist", call["self"], p=_encode_order(float(call["p"])))


@register_converter("cosine_similarity")
def _convert_similarity(call: OperatorCall) -> Converted:
    return call.add_node("cosine_similarity", call["x1"], call["x2"], dim=call["dim"], eps=call["eps"])


@register_converter("pairwise_distance")
def _convert_pairwise_distance(call: OperatorCall) -> Converted:
    """Convert the distance of rows; in a norm of an order that is not positive and finite, by its definition."""
    order, epsilon, keepdim = float(call["p"]), call["eps"], call.get("keepdim") or None
    if 0 < order < math.inf:
        return call.add_node("pairwise_distance", call["x1"], call["x2"], p=order, eps=epsilon, keepdim=keepdim)
    shifted = call.add_node("add", call.add_node("sub", call["x1"], call["x2"]), epsilon)
    return call.add_node("vector_norm", shifted, ord=_encode_order(order), dim=-1, keepdim=keepdim)
