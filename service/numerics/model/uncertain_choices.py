"""Numbers that depend on integers and truths that rounding may decide.

In sweeps of the rounding model, a node of integers or truths has a tile for each of its possible values, its own first
(`DiscreteOp.list_values`). A node of floats that reads it is evaluated with its own value. Elements that another value
would change are not finite in the sweeps, forward and backward, so that their allowance has no limit: as behind a jump
(`ops/jumps.py`).

Labels find these elements: the op is evaluated with each value, and with random numbers for its floats.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from service.numerics.core.batching import Array, broadcast_batch
from service.numerics.ops.discrete import ANY_VALUE
from service.numerics.ops.op import Gradients, Op

_LABEL_SEED = 0x1AB


def choose_first_values(inputs: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
    """Return inputs with the first tile of integers and truths."""
    return tuple(array[:1] if _is_discrete(array) and array is not None else array for array in inputs)


def mark_uncertain_output(op: Op, output: Array, inputs: tuple[Array | None, ...], tiles: int) -> Array:
    """Return an output with NaN in all tiles but the first where another choice changes it."""
    labels = _make_labels(inputs)
    own = op.forward(*choose_first_values(labels))
    is_uncertain = np.zeros(own.shape, np.bool_)
    for choice in _iterate_choices(labels):
        is_uncertain |= np.True_ if choice is None else _differs(op.forward(*choice), own)
    return _mark(output, is_uncertain, tiles)


def mark_uncertain_gradients(op: Op, results: Gradients, inputs: tuple[Array | None, ...], tiles: int) -> Gradients:
    """Return gradients of inputs with NaN in all tiles but the first where another choice changes them."""
    labels = _make_labels(inputs)
    first = choose_first_values(labels)
    output = op.forward(*first)
    gradient = np.random.default_rng(_LABEL_SEED + 1).uniform(1, 2, output.shape)
    own = op.backward(gradient, output, *first)
    is_uncertain = [None if result is None else np.zeros(result.shape, np.bool_) for result in own]
    for choice in _iterate_choices(labels):
        others = own if choice is None else op.backward(gradient, op.forward(*choice), *choice)
        for position, (mask, other, result) in enumerate(zip(is_uncertain, others, own, strict=True)):
            if mask is not None and other is not None and result is not None:
                is_uncertain[position] = mask | (np.True_ if choice is None else _differs(other, result))
    return tuple(
        result if result is None or mask is None else _mark(result, mask, tiles)
        for result, mask in zip(results, is_uncertain, strict=True)
    )


def _is_discrete(array: Array | None) -> bool:
    return array is not None and array.dtype.kind in "ib"


def _make_labels(inputs: Sequence[Array | None]) -> tuple[Array | None, ...]:
    """Return inputs, (1, ...), with random numbers from 0 to 1 for floats."""
    generator = np.random.default_rng(_LABEL_SEED)
    return tuple(
        array if array is None or _is_discrete(array) else generator.random((1, *array.shape[1:])) for array in inputs
    )


def _iterate_choices(inputs: tuple[Array | None, ...]) -> Iterator[tuple[Array | None, ...] | None]:
    """Yield the inputs with another choice of one of them; None for a choice of anything."""
    first = choose_first_values(inputs)
    for position, array in enumerate(inputs):
        if array is None or not _is_discrete(array):
            continue
        for value in array[1:]:
            is_any = array.dtype.kind == "i" and (value == ANY_VALUE).any()
            yield None if is_any else (*first[:position], value[None], *first[position + 1 :])


def _differs(other: Array, own: Array) -> Array:
    return (other != own) & ~(np.isnan(other) & np.isnan(own))


def _mark(array: Array, is_uncertain: Array, tiles: int) -> Array:
    if not is_uncertain.any():
        return array
    marked = broadcast_batch(array, max(tiles, len(array))).copy()
    marked[1:] = np.where(is_uncertain, np.nan, marked[1:])
    return marked
