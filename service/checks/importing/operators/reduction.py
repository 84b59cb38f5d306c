"""Reductions along axes, which are attributes in old versions and inputs in new ones."""

from collections.abc import Callable

from service.checks.importing.folding import get_axes
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axes, register_operator
from service.checks.importing.values import Value

_SMALLEST_NORM = 1e-38
"""Norm below which a vector is divided by this number: ONNX normalises 0 to 0. float32 has no smaller normal number."""
Reduction = Callable[[NodeCall, Value, list[int], bool], Value]


def _reduce(op_name: str, **attributes: float) -> Reduction:
    return lambda call, value, axes, keep: call.emit(op_name, [value], dim=axes, keepdim=keep, **attributes)


def _reduce_square(call: NodeCall, value: Value, axes: list[int], keep: bool) -> Value:
    return call.emit("sum", [call.emit("mul", [value, value])], dim=axes, keepdim=keep)


def _reduce_log_sum(call: NodeCall, value: Value, axes: list[int], keep: bool) -> Value:
    return call.emit("log", [call.emit("sum", [value], dim=axes, keepdim=keep)])


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _reduce("sum"),
    "ReduceMean": _reduce("mean"),
    "ReduceMax": _reduce("amax"),
    "ReduceMin": _reduce("amin"),
    "ReduceProd": _reduce("prod"),
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
    is_reverse = bool(call.attributes["reverse"])
    if is_reverse:
        value = call.emit("flip", [value], dims=[dim])
    if call.attributes["exclusive"]:
        # The product of the elements before: a one in front, and without the last.
        widths = [(0, 0)] * (len(value.shape) - dim - 1) + [(1, -1)]
        value = call.emit("pad", [value], pad=[width for pair in widths for width in pair], value=1.0)
    total = call.emit("cumprod", [value], dim=dim)
    return call.emit("flip", [total], dims=[dim]) if is_reverse else total


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
    return call.emit("normalize", [value], p=float(call.attributes["p"]), dim=axis, eps=_SMALLEST_NORM)
