"""Arithmetic with broadcasting, elementary functions, and conversions between types."""

import math
from typing import cast

import numpy as np

from service.checks.importing.folding import cast_array, check_result_size
from service.checks.importing.graph_writer import to_number
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator, register_pointwise
from service.checks.importing.stored_tensors import FLOAT_TYPES
from service.checks.importing.values import Known, Symbol, Value

register_pointwise(Abs="abs", Cos="cos", Erf="erf", Exp="exp", Log="log", Neg="neg", Sin="sin", Sqrt="sqrt")
register_pointwise(Floor="floor", Ceil="ceil", Round="round", Sign="sign")

_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
MASKED_SCORE = -1e30
"""Score in place of minus infinity: its exponential is 0 as well, and so is that of its difference to any score."""
_VARIADIC = {"Sum": "add", "Max": "maximum", "Min": "minimum", "Mean": "add"}


def require_floats(*values: Value) -> None:
    """Refuse integers that an input has drawn, in the place of floats.

    Raises
    ------
    OperatorUseError
        A value is no float.
    """
    if any(not value.is_float for value in values):
        raise OperatorUseError("gets integers or truth values where it must get floats")


@register_operator(*_BINARY)
def _import_binary(call: NodeCall) -> Results:
    a, b = call.get(0), call.get(1)
    require_floats(a, b)
    if call.operator == "Add":
        for value, mask in ((a, b), (b, a)):
            if isinstance(mask, Known) and np.isneginf(mask.array).any():
                return _add_mask(call, value, mask)
    return call.emit(_BINARY[call.operator], [a, b])


def _add_mask(call: NodeCall, value: Value, mask: Known) -> Value:
    """Return the sum of scores and a mask, whose minus infinities become low scores."""
    shown = ~np.isneginf(mask.array)
    call.writer.hides_rows |= not shown.any(-1).all()
    rest = np.where(shown, mask.array, 0)
    total = call.emit("add", [value, Known(rest, mask.name, mask.datatype, mask.origin)]) if rest.any() else value
    origin = "drawn" if mask.origin == "drawn" else "constant"
    return select(call, Known(shown, f"{mask.name}_shown", origin=origin), total, MASKED_SCORE)


@register_operator(*_VARIADIC)
def _import_variadic(call: NodeCall) -> Results:
    values = call.get_all()
    require_floats(*values)
    result = values[0]
    for value in values[1:]:
        result = call.emit(_VARIADIC[call.operator], [result, value])
    if call.operator == "Mean" and len(values) > 1:
        return call.emit("div", [result, float(len(values))])
    return result


@register_operator("Mod")
def _import_mod(call: NodeCall) -> Results:
    a, b = call.get(0), call.get(1)
    require_floats(a, b)
    # The remainder has the sign of the divisor, or by fmod, as floats need it, that of the dividend.
    return call.emit("fmod" if call.attributes.get("fmod", 0) else "remainder", [a, b])


@register_operator("Reciprocal")
def _import_reciprocal(call: NodeCall) -> Results:
    return call.emit("div", [1.0, call.get(0)])


@register_operator("Pow")
def _import_pow(call: NodeCall) -> Results:
    base, exponent = call.get(0), call.get(1)
    if isinstance(exponent, Known) and exponent.origin != "drawn" and exponent.array.size:
        first = exponent.array.reshape(-1)[0]
        if (exponent.array == first).all():
            power = call.emit("pow", [base], exponent=float(first))
            shape = list(np.broadcast_shapes(base.shape, exponent.shape))
            return power if shape == list(base.shape) else call.emit("expand", [power], size=shape)
    number = to_number(base) if isinstance(base, Known) else None
    if number is not None and number > 0:
        return call.emit("exp", [call.emit("mul", [exponent, math.log(number)])])
    raise OperatorUseError("needs one constant number as its exponent, or as its base a positive one")


@register_operator("Clip")
def _import_clip(call: NodeCall) -> Results:
    names = ("min", "max")
    bounds = [
        cast("float | None", call.attributes.get(name)) if call.opset < 11 else call.get_number(position, name)
        for position, name in enumerate(names, 1)
    ]
    # Old versions have the largest float32 where they mean none.
    low, high = (None if bound is None or abs(bound) > 3.4e38 else float(bound) for bound in bounds)
    if low is None and high is None:
        return call.get(0)
    if low is not None and high is not None and low > high:
        # ONNX takes the lower of both then: the result is constant.
        raise OperatorUseError(f"has the min {low:g}, which is above its max {high:g}")
    return call.emit("clamp", [call.get(0)], min=low, max=high)


@register_operator("Where")
def _import_where(call: NodeCall) -> Results:
    condition = call.get(0)
    if not isinstance(condition, Known) or condition.array.dtype.kind != "b":
        raise OperatorUseError("needs a condition that the file gives, or that is an input of truth values")
    require_floats(call.get(1), call.get(2))
    for position, shown in ((1, ~condition.array), (2, condition.array)):
        if isinstance(_replace_masked(call.get(position)), float):
            call.writer.hides_rows |= not shown.any(-1).all()
    return select(call, condition, *(_replace_masked(call.get(position)) for position in (1, 2)))


def _replace_masked(value: Value) -> Value | float:
    """Return a low score in place of a constant of minus infinity alone."""
    if isinstance(value, Known) and value.array.size == 1 and np.isneginf(value.array).all():
        return MASKED_SCORE
    return value


def select(call: NodeCall, condition: Known, a: Value | float, b: Value | float) -> Value:
    """Return `a` where a condition holds, and else `b`."""
    if condition.array.ndim == 0:
        condition = Known(condition.array.reshape(1), condition.name, origin=condition.origin)
    return call.emit("where", [condition, a, b])


@register_operator("Equal", "IsNaN", "IsInf")
def _import_finite_test(call: NodeCall) -> Results:
    """Return false truth values: a check refuses a model with values that are not finite."""
    values = call.get_all()
    is_test = call.operator != "Equal" or any(
        isinstance(value, Known) and value.array.size and np.isinf(value.array).all() for value in values
    )
    if not is_test:
        raise OperatorUseError("compares floats that the model computes; that is not taken")
    if call.writer.hides_rows:
        raise OperatorUseError("looks for infinities behind a mask that hides all of a row; that is not taken")
    shape = np.broadcast_shapes(*(value.shape for value in values))
    check_result_size(call, shape)
    return Known(np.zeros(shape, dtype=np.bool_), "constant")


@register_operator("Identity", "OptionalGetElement")
def _import_identity(call: NodeCall) -> Results:
    return call.get(0)


@register_operator("Cast", "CastLike")
def _import_cast(call: NodeCall) -> Results:
    value = call.get(0)
    if call.operator == "Cast":
        target = int(call.attributes["to"])
    else:
        like = call.get(1)
        target = 1 if isinstance(like, Symbol) else int(_get_data_type(like))
    if value.is_float and target in FLOAT_TYPES:
        # A check computes in one datatype: the conversion changes no value there.
        if isinstance(value, Symbol) or value.origin != "constant":
            return value
        return Known(cast_array(value.array, target), value.name)
    if isinstance(value, Symbol):
        raise OperatorUseError("makes integers or truth values of floats that the model computes; that is not taken")
    if value.array.dtype.kind in "iu" and target in (6, 7):
        return value
    value.redraw = None
    origin = "drawn" if value.origin == "drawn" else "constant"
    return Known(cast_array(value.array, target), value.name, origin=origin)


def _get_data_type(value: Known) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(value.array.dtype))


@register_operator("Dropout")
def _import_dropout(call: NodeCall) -> Results:
    is_training = call.get_constant(2, "training_mode") if call.opset >= 12 else None
    ratio = call.get_number(1, "ratio") if call.opset >= 12 else 0.0
    if is_training is not None and is_training.any() and ratio != 0:
        raise OperatorUseError("drops elements at random (training_mode); export the model for inference")
    mask = Known(np.ones(call.get(0).shape, dtype=np.bool_), "mask")
    return [call.get(0), mask][: call.output_count]


@register_operator("Shape")
def _import_shape(call: NodeCall) -> Results:
    shape = call.get(0).shape
    start, end = call.attributes.get("start", 0), call.attributes.get("end")
    return Known(np.array(shape[slice(start, end)], dtype=np.int64), "constant")


@register_operator("Size")
def _import_size(call: NodeCall) -> Results:
    return Known(np.array(math.prod(call.get(0).shape), dtype=np.int64), "constant")
