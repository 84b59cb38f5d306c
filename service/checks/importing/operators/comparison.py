"""Comparisons, truth values and positions, which have no derivative, and what an order selects."""

from collections.abc import Callable

import numpy as np

from schemas.datatype import Array
from service.checks.importing.folding import check_result_size
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator, register_pointwise
from service.checks.importing.values import MASKED_SCORE, Known, Value

_COMPARISONS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "Equal": ("eq", lambda a, b: a == b),
    "Less": ("lt", lambda a, b: a < b),
    "LessOrEqual": ("le", lambda a, b: a <= b),
    "Greater": ("gt", lambda a, b: a > b),
    "GreaterOrEqual": ("ge", lambda a, b: a >= b),
}
"""Op of each comparison, and the comparison of two numbers."""
_LOW = MASKED_SCORE / 2
"""Bound between scores and the low scores in place of minus infinity."""

_ABOVE_LOW = {"Equal": "le", "LessOrEqual": "le", "Greater": "gt"}
_BELOW_LOW = {"Equal": "le", "GreaterOrEqual": "le", "Less": "gt"}
"""Comparisons of a value with minus infinity, and of minus infinity with a value, as those of the value with `_LOW`."""

register_pointwise(Not="logical_not")


@register_operator(*_COMPARISONS)
def _import_comparison(call: NodeCall) -> Results:
    a, b = call.get(0), call.get(1)
    op_name, compare = _COMPARISONS[call.operator]
    infinities = [_find_infinity(value) for value in (a, b)]
    if infinities == [None, None]:
        return call.emit(op_name, [a, b])
    if call.writer.has_low_scores:
        for value, infinity, ops in ((a, infinities[1], _ABOVE_LOW), (b, infinities[0], _BELOW_LOW)):
            if infinity == -np.inf and call.operator in ops:
                return call.emit(ops[call.operator], [value, _LOW])
    # A check refuses a model with values that are not finite, so that any number tells.
    left, right = (0.0 if infinity is None else infinity for infinity in infinities)
    return _make_truths(call, np.broadcast_shapes(a.shape, b.shape), is_true=compare(left, right))


def _find_infinity(value: Value) -> float | None:
    """Return the infinity that a constant has in all elements; None for other values."""
    if isinstance(value, Known) and value.array.size and np.isinf(first := value.array.reshape(-1)[0]):
        return float(first) if (value.array == first).all() else None
    return None


def _make_truths(call: NodeCall, shape: tuple[int, ...], *, is_true: bool) -> Known:
    check_result_size(call, shape)
    truths: Array = np.full(shape, is_true)
    return Known(truths, "constant")


@register_operator("IsInf")
def _import_infinity_test(call: NodeCall) -> Results:
    if call.writer.has_low_scores and call.attributes.get("detect_negative", 1):
        return call.emit("le", [call.get(0), _LOW])
    return _make_truths(call, call.get(0).shape, is_true=False)


@register_operator("IsNaN")
def _import_nan_test(call: NodeCall) -> Results:
    if call.writer.hides_rows:
        raise OperatorUseError("looks for NaN behind a mask that hides all of a row; that is not taken")
    return _make_truths(call, call.get(0).shape, is_true=False)


@register_operator("And", "Or", "Xor")
def _import_logic(call: NodeCall) -> Results:
    return call.emit(f"logical_{call.operator.lower()}", [call.get(0), call.get(1)])


@register_operator("ArgMax", "ArgMin")
def _import_extremum(call: NodeCall) -> Results:
    if call.attributes.get("select_last_index"):
        raise OperatorUseError("takes the last of several equal elements (select_last_index); that is not taken")
    value = call.get(0)
    axis = call.get_axis("axis", len(value.shape), 0)
    return call.emit(call.operator.lower(), [value], dim=axis, keepdim=bool(call.attributes.get("keepdims", 1)))


@register_operator("TopK")
def _import_top_k(call: NodeCall) -> Results:
    value = call.get(0)
    axis = call.get_axis("axis", len(value.shape), -1)
    count = call.get_number(1, "K") if call.opset >= 10 else call.attributes["k"]
    if count is None or not 1 <= count <= (value.shape or (1,))[axis]:
        raise OperatorUseError(f"needs a K from 1 to the length of its axis; it has {count}")
    is_largest = bool(call.attributes.get("largest", 1))
    outputs = call.emit_several("topk", [value], k=int(count), dim=axis, largest=is_largest)
    return [outputs["values"], outputs["indices"]][: call.output_count]
