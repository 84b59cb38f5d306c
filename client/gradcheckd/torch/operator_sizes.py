"""Inputs of an operator at one-element and prime sizes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from gradcheckd.errors import RequestError, hide_frames
from gradcheckd.torch.function_values import as_tuple
from gradcheckd.torch.operator_calls import Operator, is_dense

__tracebackhide__ = hide_frames

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
            yield f"size {size}", lambda size=size: _read_made_inputs(make_inputs(size), size, operator)
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


def _read_made_inputs(made: Any, size: int, operator: Operator) -> Sequence[Any]:
    """Return inputs that the caller made.

    Raises
    ------
    RequestError
        They are no inputs of the operator.
    """
    expected = f"Return the inputs of the operator, {len(operator.inputs)}, as a tuple."
    if not isinstance(made, Tensor | list | tuple):
        kind = "None" if made is None else type(made).__qualname__
        raise RequestError(f"make_inputs returned {kind} for the size {size}. {expected}")
    inputs = as_tuple(made)
    if len(inputs) != len(operator.inputs):
        raise RequestError(f"make_inputs returned {len(inputs)} inputs for the size {size}. {expected}")
    return inputs


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
