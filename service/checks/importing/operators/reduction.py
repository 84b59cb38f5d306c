"""Reductions along axes, which are attributes in old versions and inputs in new ones."""

from collections.abc import Callable

from service.checks.importing.folding import get_axes
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axes, register_operator
from service.checks.importing.values import Value

_MAX_FACTORS = 64
"""Elements of a product that is written factor by factor."""

Reduction = Callable[[NodeCall, Value, list[int], bool], Value]


def _reduce(op_name: str, **attributes: float) -> Reduction:
    return lambda call, value, axes, keep: call.emit(op_name, [value], dim=axes, keepdim=keep, **attributes)


def _reduce_square(call: NodeCall, value: Value, axes: list[int], keep: bool) -> Value:
    return call.emit("sum", [call.emit("mul", [value, value])], dim=axes, keepdim=keep)


def _reduce_log_sum(call: NodeCall, value: Value, axes: list[int], keep: bool) -> Value:
    return call.emit("log", [call.emit("sum", [value], dim=axes, keepdim=keep)])


def _reduce_min(call: NodeCall, value: Value, axes: list[int], keep: bool) -> Value:
    return call.emit("neg", [call.emit("amax", [call.emit("neg", [value])], dim=axes, keepdim=keep)])


def _reduce_product(call: NodeCall, value: Value, axes: list[int], keep: bool) -> Value:
    result = value
    for axis in axes:
        length = result.shape[axis]
        if length > _MAX_FACTORS:
            raise OperatorUseError(f"multiplies {length} elements; at most {_MAX_FACTORS} along an axis are taken")
        factors = [call.emit("narrow", [result], dim=axis, start=start, length=1) for start in range(length)]
        result = factors[0]
        for factor in factors[1:]:
            result = call.emit("mul", [result, factor])
    kept = [length for axis, length in enumerate(result.shape) if axis not in axes]
    return result if keep else call.emit("reshape", [result], shape=kept)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _reduce("sum"),
    "ReduceMean": _reduce("mean"),
    "ReduceMax": _reduce("amax"),
    "ReduceMin": _reduce_min,
    "ReduceProd": _reduce_product,
    "ReduceL1": _reduce("vector_norm", ord=1),
    "ReduceL2": _reduce("vector_norm", ord=2),
    "ReduceSumSquare": _reduce_square,
    "ReduceLogSum": _reduce_log_sum,
    "ReduceLogSumExp": _reduce("logsumexp"),
}


@register_operator(*_REDUCTIONS)
def _import_reduction(call: NodeCall) -> Results:
    value, axes = call.get(0), get_axes(call)
    if not value.is_float:
        raise OperatorUseError("gets integers or truth values where it must get floats")
    if not axes and call.attributes.get("noop_with_empty_axes"):
        axes = []
    elif not axes:
        axes = list(range(len(value.shape)))
    if not axes:
        return _apply_without_axes(call, value)
    keep = bool(call.attributes.get("keepdims", 1))
    return _REDUCTIONS[call.operator](call, value, normalize_axes(axes, len(value.shape)), keep)


def _apply_without_axes(call: NodeCall, value: Value) -> Value:
    """Return the reduction of each element by itself."""
    if call.operator in ("ReduceL1", "ReduceL2"):
        return call.emit("abs", [value])
    if call.operator == "ReduceSumSquare":
        return call.emit("mul", [value, value])
    return call.emit("log", [value]) if call.operator == "ReduceLogSum" else value


@register_operator("CumSum")
def _import_cumsum(call: NodeCall) -> Results:
    value, axis = call.get(0), call.get_number(1, "axis")
    dim = normalize_axes([int(axis or 0)], len(value.shape))[0]
    is_reverse = bool(call.attributes["reverse"])
    source = call.emit("flip", [value], dims=[dim]) if is_reverse else value
    total: Value = call.emit("cumsum", [source], dim=dim)
    if call.attributes["exclusive"]:
        total = call.emit("sub", [total, source])
    return call.emit("flip", [total], dims=[dim]) if is_reverse else total


@register_operator("CumProd")
def _import_cumprod(call: NodeCall) -> Results:
    value, axis = call.get(0), call.get_number(1, "axis")
    dim = normalize_axes([int(axis or 0)], len(value.shape))[0]
    length = value.shape[dim]
    if length > _MAX_FACTORS:
        raise OperatorUseError(f"multiplies {length} elements; at most {_MAX_FACTORS} along an axis are taken")
    is_reverse, is_exclusive = bool(call.attributes["reverse"]), bool(call.attributes["exclusive"])
    order = range(length - 1, -1, -1) if is_reverse else range(length)
    factors = [call.emit("narrow", [value], dim=dim, start=start, length=1) for start in order]
    products: list[Value] = [factors[0]]
    for factor in factors[1:]:
        products.append(call.emit("mul", [products[-1], factor]))
    if is_exclusive:
        one = call.emit("add", [call.emit("mul", [factors[0], 0.0]), 1.0])
        products = [one, *products[:-1]]
    return call.emit("cat", [products[::-1] if is_reverse else products], dim=dim)


@register_operator("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _import_global_pool(call: NodeCall) -> Results:
    value = call.get(0)
    axes = list(range(2, len(value.shape)))
    if not axes:
        raise OperatorUseError(f"takes an input (N, C, ...); the shape is {list(value.shape)}")
    if call.operator == "GlobalLpPool":
        return call.emit("vector_norm", [value], ord=float(call.attributes["p"]), dim=axes, keepdim=True)
    return call.emit("mean" if call.operator == "GlobalAveragePool" else "amax", [value], dim=axes, keepdim=True)


@register_operator("LpNormalization")
def _import_lp_normalization(call: NodeCall) -> Results:
    value = call.get(0)
    axis = call.get_axis("axis", len(value.shape))
    norm = call.emit("vector_norm", [value], ord=float(call.attributes["p"]), dim=[axis], keepdim=True)
    return call.emit("div", [value, norm])
