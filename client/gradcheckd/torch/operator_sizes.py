"""Inputs of an operator at one-element and prime sizes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from gradcheckd.torch.operator_calls import Operator, is_dense

SIZES = (1, 2, 3, 5, 7)
"""One element, and primes: sizes that no vector width divides."""
MakeInputs = Callable[[int], Sequence[Any]]
"""Returns inputs of a size."""
Resized = tuple[str, Callable[[], Sequence[Any]]]
"""Name of a size, and a function that returns inputs of it."""


def resize_inputs(operator: Operator, make_inputs: MakeInputs | None) -> Iterator[Resized]:
    """Yield inputs of other sizes, by name.

    Parameters
    ----------
    operator
        Operator with its inputs.
    make_inputs
        Function of a size that returns inputs. Without it the first elements of the inputs are taken: all axes of one
        length become shorter together, since an operator often needs equal lengths; and all axes, to one element.
    """
    if make_inputs is not None:
        for size in SIZES:
            yield f"size {size}", lambda size=size: make_inputs(size)
        return
    lengths = _list_lengths(operator.inputs)
    for length in lengths:
        for size in SIZES:
            if size < length:
                yield (
                    f"axes of {length}, size {size}",
                    lambda length=length, size=size: [_slice_axes(value, [length], size) for value in operator.inputs],
                )
    if len(lengths) > 1:
        yield "all axes, size 1", lambda: [_slice_axes(value, lengths, 1) for value in operator.inputs]


def _list_lengths(inputs: Sequence[Any]) -> list[int]:
    lengths = {length for value in inputs if _is_sliceable(value) for length in value.shape}
    return sorted(lengths - {0, 1})


def _is_sliceable(value: object) -> bool:
    return isinstance(value, Tensor) and is_dense(value)


def _slice_axes(value: Any, lengths: Sequence[int], size: int) -> Any:
    if not _is_sliceable(value):
        return value
    index = tuple(slice(size) if axis in lengths else slice(None) for axis in value.shape)
    return value.detach()[index].clone()
