"""Attention: scores, masks that are known at the import, softmax and the weighted sum."""

from dataclasses import dataclass

import numpy as np

from schemas.datatype import Array
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator
from service.checks.importing.operators.shape import take
from service.checks.importing.values import MASKED_SCORE, Known, Symbol, Value

_SCORES_OUTPUT = 4
"""Number of outputs from which on the scores are one of them."""


@dataclass
class _Mask:
    """The mask of an attention.

    Attributes
    ----------
    allowed
        True where a query may attend a key; broadcasts to the scores.
    added
        Floats that are added to the scores; None for none.
    is_drawn
        True if the mask follows from an input with random values.
    """

    allowed: Array
    added: Value | None = None
    is_drawn: bool = False


@register_operator("Attention")
def _import_attention(call: NodeCall) -> Results:
    is_flat = len(call.get(0).shape) == 3
    query, key, value = (
        _split_heads(call, 0, "q_num_heads"),
        *(_split_heads(call, position, "kv_num_heads") for position in (1, 2)),
    )
    past = [call.get_optional(position) for position in (4, 5)]
    if past[0] is not None and past[1] is not None:
        key, value = (call.emit("cat", [[old, new]], dim=2) for old, new in zip(past, (key, value), strict=True))
    present: list[Value] = [key, value]
    if key.shape[1] < 1 or query.shape[1] % key.shape[1]:
        raise OperatorUseError(f"has {query.shape[1]} heads of queries, no multiple of the {key.shape[1]} of keys")
    mask = _read_mask(call, query.shape[2], key.shape[2], 0 if past[0] is None else past[0].shape[2])
    call.writer.has_low_scores |= not mask.allowed.all()
    # ONNX looks for infinities behind low scores, which have taken their place.
    call.writer.hides_rows |= not mask.allowed.any(-1).all()
    if call.output_count < _SCORES_OUTPUT:
        result: Value = _attend_at_once(call, query, key, value, mask)
        return [_join_heads(call, result) if is_flat else result, *present][: call.output_count]
    key, value = (_repeat_heads(call, part, query.shape[1]) for part in (key, value))
    scores, captured = _compute_scores(call, query, key)
    mode: int = call.attributes.get("qk_matmul_output_mode", 0)
    if mask.added is not None:
        scores = call.emit("add", [scores, mask.added])
    if not mask.allowed.all():
        shown = _make_known(call, mask.allowed, mask)
        hidden = call.emit("where", [shown, scores, MASKED_SCORE])
        call.writer.mark_hidden_parts(hidden, shown)
        scores = hidden
    captured.append(scores)
    weights: Value = call.emit("softmax", [scores], dim=3)
    has_key: Array = np.asarray(mask.allowed.any(-1, keepdims=True))
    if not has_key.all():
        # A query that may attend no key gets zeros.
        weights = call.emit("where", [_make_known(call, has_key, mask), weights, 0.0])
    captured.append(weights)
    product: Value = call.emit("matmul", [weights, value])
    return [
        _join_heads(call, product) if is_flat else product,
        *present,
        captured[mode],
    ]


def _join_heads(call: NodeCall, result: Value) -> Value:
    """Return (batch, heads, length, size) as (batch, length, heads size)."""
    batch, heads, length, size = result.shape
    return call.emit(
        "reshape", [call.emit("permute", [result], dims=[0, 2, 1, 3])], shape=[batch, length, heads * size]
    )


def _attend_at_once(call: NodeCall, query: Value, key: Value, value: Value, mask: _Mask) -> Symbol:
    """Return the attention as one node, which has no scores as an output."""
    scale, softcap = call.attributes.get("scale"), float(call.attributes.get("softcap") or 0)
    attributes = {} if scale is None else {"scale": float(scale)}
    allowed = None if mask.allowed.all() else _make_known(call, mask.allowed, mask)
    if softcap > 0 or not mask.allowed.any(-1).all() or (allowed is not None and mask.added is not None):
        # A query without keys gets zeros there.
        keys = (_repeat_heads(call, part, query.shape[1]) for part in (key, value))
        capped = {"softcap": softcap} if softcap > 0 else {}
        return call.emit("windowed_attention", [query, *keys, allowed, mask.added], **attributes, **capped)
    if key.shape[1] != query.shape[1]:
        attributes["enable_gqa"] = True
    lengths = query.shape[2], key.shape[2]
    is_causal = allowed is not None and not mask.is_drawn and _is_causal(mask.allowed, lengths)
    operands = [query, key, value, mask.added if allowed is None else None if is_causal else allowed]
    if is_causal:
        attributes["is_causal"] = True
    return call.emit("scaled_dot_product_attention", operands, **attributes)


def _is_causal(allowed: Array, lengths: tuple[int, int]) -> bool:
    """Return whether a mask leaves each query the keys up to its own place."""
    triangle: Array = np.tri(*lengths, dtype=np.bool_)
    return np.broadcast_shapes(allowed.shape, lengths) == allowed.shape and bool((allowed == triangle).all())


def _make_known(call: NodeCall, array: Array, mask: _Mask) -> Known:
    array = array if array.ndim else array.reshape(1)
    return Known(array, f"{call.writer.base_name}_mask", origin="drawn" if mask.is_drawn else "constant")


def _split_heads(call: NodeCall, position: int, attribute: str) -> Value:
    """Return an input as (batch, heads, length, size)."""
    part, heads = call.get(position), call.attributes.get(attribute)
    if len(part.shape) == 4:
        return part
    if len(part.shape) != 3 or not heads or heads < 1 or part.shape[2] % heads:
        raise OperatorUseError(f"needs {attribute}, a divisor of the last axis, for inputs of three axes")
    batch, length, size = part.shape
    split = call.emit("reshape", [part], shape=[batch, length, heads, size // heads])
    return call.emit("permute", [split], dims=[0, 2, 1, 3])


def _repeat_heads(call: NodeCall, part: Value, heads: int) -> Value:
    """Return keys or values with each head for all queries that share it."""
    if part.shape[1] == heads:
        return part
    return take(call, part, 1, np.repeat(np.arange(part.shape[1]), heads // part.shape[1]))


def _compute_scores(call: NodeCall, query: Value, key: Value) -> tuple[Value, list[Value]]:
    """Return the scores without masks, and those before and after the softcap."""
    scale = call.attributes.get("scale")
    factor = float(scale) if scale is not None else 1 / float(np.sqrt(query.shape[3]))
    product = call.emit("matmul", [query, call.emit("transpose", [key], dim0=2, dim1=3)])
    scores: Value = call.emit("mul", [product, factor])
    raw, softcap = scores, float(call.attributes.get("softcap") or 0)
    if softcap > 0:
        scores = call.emit("mul", [call.emit("tanh", [call.emit("div", [scores, softcap])]), softcap])
    return scores, [raw, scores]


def _read_mask(call: NodeCall, queries: int, keys: int, past: int) -> _Mask:
    lengths = call.get_constant(6, "numbers of keys")
    offset: Array = np.array(past).reshape(1, 1, 1, 1)
    mask = _Mask(np.ones((queries, keys), dtype=np.bool_))
    if lengths is not None:
        lengths = lengths.reshape(-1, 1, 1, 1)
        mask.allowed = mask.allowed & (np.arange(keys) < lengths)
        offset = lengths - queries if call.get_optional(4) is None else offset
    distance = np.arange(queries)[:, None] + offset - np.arange(keys)
    if call.attributes.get("is_causal"):
        mask.allowed = mask.allowed & (distance >= 0)
    for name, sign in (("left_window_size", 1), ("right_window_size", -1)):
        width = call.attributes.get(name, -1)
        if width >= 0:
            mask.allowed = mask.allowed & (sign * distance <= width)
    if mask.allowed.shape[:2] == (1, 1):
        mask.allowed = mask.allowed[0, 0]
    _add_given_mask(call, mask, keys)
    return mask


def _add_given_mask(call: NodeCall, mask: _Mask, keys: int) -> None:
    """Add the mask of the inputs: truth values, or floats of which minus infinity hides a key."""
    given = call.get_optional(3)
    if given is None:
        return
    lacking = keys - given.shape[-1]
    if lacking > 0:
        visible = np.arange(keys) < given.shape[-1]
        mask.allowed = mask.allowed & visible
        if isinstance(given, Known):
            widths = [(0, 0)] * (given.array.ndim - 1) + [(0, lacking)]
            given = Known(np.pad(given.array, widths), given.name, given.datatype, given.origin)
        else:
            given = call.emit("pad", [given], pad=[0, lacking])
    if not isinstance(given, Known):
        mask.added = given
        return
    mask.is_drawn = given.origin == "drawn"
    if not given.is_float:
        mask.allowed = mask.allowed & given.array.astype(np.bool_)
        return
    hidden = np.isneginf(given.array)
    if not hidden.any():
        mask.added = given
        return
    mask.allowed = mask.allowed & ~hidden
    rest = np.where(hidden, 0, given.array)
    if rest.any():
        mask.added = Known(rest, given.name, given.datatype, given.origin)
