"""Rotary embeddings of positions."""

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator
from service.checks.importing.operators.shape import reshape
from service.checks.importing.values import Value


@register_operator("RotaryEmbedding")
def _import_rotary_embedding(call: NodeCall) -> Results:
    value, heads = call.get(0), int(call.attributes.get("num_heads") or 0)
    is_flat = len(value.shape) == 3
    if is_flat:
        if heads < 1 or value.shape[2] % heads:
            raise OperatorUseError("needs num_heads, a divisor of the last axis, for an input of three axes")
        batch, length, size = value.shape
        value = reshape(call, value, [batch, length, heads, size // heads])
    elif len(value.shape) != 4:
        raise OperatorUseError(f"takes an input (N, H, L, D) or (N, L, H D); the shape is {list(value.shape)}")
    # The heads stand before the positions in four axes, and behind them in three.
    angles = [_take_angles(call, position, 2 if is_flat else 1) for position in (1, 2)]
    rotated = int(call.attributes.get("rotary_embedding_dim") or 0) or value.shape[-1]
    attributes = {"rotary_dim": rotated} if rotated != value.shape[-1] else {}
    is_interleaved = bool(call.attributes.get("interleaved"))
    result: Value = call.emit("rotary_embedding", [value, *angles], interleaved=is_interleaved, **attributes)
    return reshape(call, result, list(call.get(0).shape))


def _take_angles(call: NodeCall, position: int, head_axis: int) -> Value:
    """Return the cosines or the sines of each position, with an axis for the heads."""
    table = call.get(position)
    if call.get_optional(3) is not None:
        if len(table.shape) != 2:
            raise OperatorUseError("needs tables (positions, R / 2) beside position_ids")
        table = call.emit("embedding", [call.get_indices(3, table.shape[0]), table])
    if len(table.shape) != 3:
        raise OperatorUseError("needs tables (N, L, R / 2), or position_ids")
    shape = list(table.shape)
    return reshape(call, table, [*shape[:head_axis], 1, *shape[head_axis:]])
