"""Arithmetic with broadcasting, elementary functions, and conversions between types."""

import math

import numpy as np
from onnx import TensorProto

from service.checks.importing.folding import cast_array
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator, register_pointwise
from service.checks.importing.stored_tensors import FLOAT_TYPES, INTEGER_TYPES, get_type_name
from service.checks.importing.values import MASKED_SCORE, Known, Symbol, Value

register_pointwise(Abs="abs", Cos="cos", Erf="erf", Exp="exp", Log="log", Neg="neg", Sin="sin", Sqrt="sqrt")
register_pointwise(Floor="floor", Ceil="ceil", Round="round", Sign="sign", Reciprocal="reciprocal")

_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_VARIADIC = {"Sum": "add", "Max": "maximum", "Min": "minimum", "Mean": "add"}


def require_floats(*values: Value) -> None:
    """Refuse integers and truth values in the place of floats.

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
    return _hide(call, Known(shown, f"{mask.name}_shown", origin=origin), total)


def _hide(call: NodeCall, shown: Value, scores: Value) -> Symbol:
    """Return scores where a condition holds, and low ones in place of minus infinity elsewhere."""
    hidden = select(call, shown, scores, MASKED_SCORE)
    call.writer.mark_hidden_parts(hidden, shown)
    return hidden


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


@register_operator("Pow")
def _import_pow(call: NodeCall) -> Results:
    base, exponent = call.get(0), call.get(1)
    if isinstance(exponent, Known) and exponent.origin != "drawn" and exponent.array.size:
        first = exponent.array.reshape(-1)[0]
        if (exponent.array == first).all():
            power = call.emit("pow", [base], exponent=float(first))
            shape = list(np.broadcast_shapes(base.shape, exponent.shape))
            return power if shape == list(base.shape) else call.emit("expand", [power], size=shape)
    return call.emit("pow", [base, as_floats(exponent)])


def as_floats(value: Value) -> Value:
    """Return numbers as floats; those that a node computes as they are."""
    if isinstance(value, Symbol) or value.is_float:
        return value
    value.redraw = None
    return Known(value.array.astype(np.float64), value.name, origin=value.origin)


@register_operator("Clip")
def _import_clip(call: NodeCall) -> Results:
    if call.opset < 11:
        low, high = (_drop_largest(call.attributes.get(name)) for name in ("min", "max"))
    else:
        low, high = (_read_bound(call, position) for position in (1, 2))
    numbers = [bound for bound in (low, high) if not isinstance(bound, Known | Symbol)]
    if numbers == [None, None]:
        return call.get(0)
    if len(numbers) == 2:
        return call.emit("clamp", [call.get(0)], min=low, max=high)
    return call.emit("clamp", [call.get(0), low, high])


def _read_bound(call: NodeCall, position: int) -> Value | float | None:
    """Return a bound of a Clip: a number, or a value that the model computes or an input has."""
    bound = call.get_optional(position)
    if bound is None or isinstance(bound, Symbol) or (bound.origin == "drawn" and bound.is_float):
        return bound
    return _drop_largest(call.get_number(position, ("", "min", "max")[position]))


def _drop_largest(bound: float | None) -> float | None:
    """Return a bound; None for the largest float32, by which old versions mean none."""
    return None if bound is None or abs(bound) > 3.4e38 else float(bound)


@register_operator("Where")
def _import_where(call: NodeCall) -> Results:
    condition, a, b = call.get(0), call.get(1), call.get(2)
    if condition.kind != "bool":
        raise OperatorUseError("needs truth values as its condition")
    if a.kind == b.kind == "bool":
        parts = [call.emit("logical_and", [condition, a]), call.emit("logical_and", [_negate(call, condition), b])]
        return call.emit("logical_or", parts)
    require_floats(a, b)
    for masked, other, is_hidden in ((a, b, True), (b, a, False)):
        if isinstance(masked, Known) and masked.array.size == 1 and np.isneginf(masked.array).all():
            shown = _negate(call, condition) if is_hidden else condition
            call.writer.hides_rows |= isinstance(shown, Symbol) or not shown.array.any(-1).all()
            return _hide(call, shown, _keep_shape(call, masked, other))
    return select(call, condition, a, b)


def _keep_shape(call: NodeCall, masked: Known, other: Value) -> Value:
    """Return a value in the shape that another one of a single element gives it."""
    shape = list(np.broadcast_shapes(masked.shape, other.shape))
    return other if list(other.shape) == shape else call.emit("expand", [other], size=shape)


def _negate(call: NodeCall, condition: Value) -> Value:
    """Return where a condition does not hold."""
    if isinstance(condition, Symbol):
        return call.emit("logical_not", [condition])
    return Known(~condition.array, f"{condition.name}_not", origin=condition.origin)


def select(call: NodeCall, condition: Value, a: Value | float, b: Value | float) -> Symbol:
    """Return `a` where a condition holds, and else `b`."""
    if isinstance(condition, Known) and condition.array.ndim == 0:
        condition = Known(condition.array.reshape(1), condition.name, origin=condition.origin)
    return call.emit("where", [condition, a, b])


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
        return _cast_computed(call, value, target)
    if value.array.dtype.kind in "iu" and target in (6, 7):
        return value
    value.redraw = None
    origin = "drawn" if value.origin == "drawn" else "constant"
    return Known(cast_array(value.array, target), value.name, origin=origin)


def _cast_computed(call: NodeCall, value: Symbol, target: int) -> Value:
    """Return values of a node as those of another kind."""
    if target == TensorProto.BOOL:
        return value if value.kind == "bool" else call.emit("ne", [value, 0.0])
    if value.kind == "bool" and target in FLOAT_TYPES:
        return call.emit("where", [value, 1.0, 0.0])
    if value.kind == "index" and target in INTEGER_TYPES:
        return value
    raise OperatorUseError(
        f"makes {get_type_name(target)} of values that the model computes; taken are truth values of any, and floats "
        "of truth values"
    )


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
