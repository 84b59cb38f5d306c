"""Positions along an axis by the order of the elements.

The ops here are the positions, integers without a gradient. `ordering.py` has the elements at these positions.

Notes
-----
The position of the element of rank r, counted from the smallest, jumps where elements are equal within their errors.
Element q, within e_q of x_q, has rank r in some order only if

    the number of s with x_s + e_s < x_q - e_q   <=   r   <=   n - 1 - the number of s with x_s - e_s > x_q + e_q

So these q are the positions that a correct program may return.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.discrete import ANY_VALUE, DiscreteOp
from service.numerics.ops.op import ShapeError, declare_step_op, register_op

MAX_CHOICE_TABLE = 2**22
"""Ranks times elements up to which the possible positions are looked at. Beyond, any position is possible."""
_MAX_VALUES = 64
"""Elements of one rank up to which they are listed."""


class Ordering(DiscreteOp):
    """Positions of some ranks along an axis."""

    dim: Any
    is_stable: ClassVar[bool] = False
    """True if PyTorch promises the first of equal elements to come first."""

    inputs = ("input",)

    def sort_positions(self, rows: Array, *, descending: bool) -> Array:
        """Return the positions in order, equal ones as they stand; NaN counts as the largest."""
        if not descending:
            return np.argsort(rows, axis=-1, kind="stable")
        return (rows.shape[-1] - 1 - np.argsort(rows[..., ::-1], axis=-1, kind="stable"))[..., ::-1]

    @abstractmethod
    def order_rows(self, rows: Array) -> Array:
        """Return positions, (..., count), given the elements along the last axis, (..., n)."""

    @abstractmethod
    def find_possible_positions(self, rows: Array, errors: Array) -> Array:
        """Return whether each result may be each position, (rows, count, n), given rows and errors, (rows, n)."""

    @abstractmethod
    def count_results(self, length: int) -> int:
        """Return the number of results along an axis of a length."""

    def infer_output_shape(self, input: Shape) -> Shape:
        axis = self._get_axis(input)
        count = self.count_results(input[axis] if input else 1)
        return (*input[:axis], count, *input[axis + 1 :]) if input else ()

    def count_positions(self, *shapes: Any) -> int:
        """Return the length of the axis, or the number of elements without one."""
        (shape,) = shapes
        return count_elements(shape) if self.dim is None else shape[self._get_axis(shape)] if shape else 1

    def _get_axis(self, shape: Shape) -> int:
        assert self.dim is not None
        return normalize_axis(self.dim, len(shape))

    def _to_rows(self, array: Array) -> Array:
        """Return an array with the ordered axis last, (..., n)."""
        if array.ndim == 1:
            return array[:, None]
        return np.moveaxis(array, 1 + self._get_axis(array.shape[1:]), -1)

    def _from_rows(self, rows: Array, input: Array) -> Array:
        if input.ndim == 1:
            return rows[:, 0]
        return np.moveaxis(rows, -1, 1 + self._get_axis(input.shape[1:]))

    def forward(self, input: Array) -> Array:
        return self._from_rows(self.order_rows(self._to_rows(input)), input)

    def list_values(self, input_errors: Sequence[Array | None], input: Array) -> Array:
        rows = self._to_rows(input)
        (error,) = input_errors
        errors = self._to_rows(np.broadcast_to(np.zeros_like(input) if error is None else error, input.shape))
        return np.concatenate(
            [self._from_rows(value, input) for value in self._list_row_values(rows, errors, self.order_rows(rows))]
        )

    def _list_row_values(self, rows: Array, errors: Array, own: Array) -> list[Array]:
        """Return the possible positions, each (1, ..., count), the op's own first."""
        shape, length, count = own.shape, rows.shape[-1], own.shape[-1]
        flat, flat_errors, flat_own = rows.reshape(-1, length), errors.reshape(-1, length), own.reshape(-1, count)
        is_open = self._find_open_rows(flat, flat_errors)
        if not is_open.any():
            return [own]
        open_rows = np.flatnonzero(is_open)
        other = flat_own.copy()
        if open_rows.size * count * length > MAX_CHOICE_TABLE:
            other[open_rows] = ANY_VALUE
            return [own, other.reshape(shape)]
        is_possible = self.find_possible_positions(flat[open_rows], flat_errors[open_rows])
        np.put_along_axis(is_possible, flat_own[open_rows][..., None], np.True_, axis=-1)
        counts = is_possible.sum(axis=-1)
        most = int(counts.max())
        if most == 1:
            return [own]
        candidates = np.argsort(~is_possible, axis=-1, kind="stable")
        values = [own]
        for number in range(min(most, _MAX_VALUES)):
            value = flat_own.copy()
            value[open_rows] = np.where(number < counts, candidates[..., number], flat_own[open_rows])
            values.append(value.reshape(shape))
        if most > _MAX_VALUES:
            other[open_rows] = np.where(counts > _MAX_VALUES, ANY_VALUE, flat_own[open_rows])
            values.append(other.reshape(shape))
        return values

    def _find_open_rows(self, rows: Array, errors: Array) -> Array:
        """Return the rows in which two elements may change places, (rows,)."""
        order = np.argsort(rows, axis=-1, kind="stable")
        low = np.take_along_axis(rows - errors, order, axis=-1)
        high = np.maximum.accumulate(np.take_along_axis(rows + errors, order, axis=-1), axis=-1)
        touches: Array = ~np.all(high[:, :-1] < low[:, 1:], axis=-1)
        is_inexact: Array = np.any(errors != 0, axis=-1)
        return touches & is_inexact if self.is_stable else touches


def _find_possible_ranks(rows: Array, errors: Array) -> tuple[Array, Array]:
    """Return the least and the largest rank of each element, (rows, n): see the Notes of the module."""
    low, high = rows - errors, rows + errors
    least, largest = np.zeros(rows.shape, np.int64), np.full(rows.shape, rows.shape[1] - 1)
    for number in range(len(rows)):
        if np.isnan(low[number]).any() or np.isnan(high[number]).any():
            continue
        least[number] = np.searchsorted(np.sort(high[number]), low[number], side="left")
        largest[number] = np.searchsorted(np.sort(low[number]), high[number], side="right") - 1
    return least, largest


class RankOrdering(Ordering):
    """Positions of ranks that do not depend on the elements."""

    descending: bool

    def order_rows(self, rows: Array) -> Array:
        return self.sort_positions(rows, descending=self.descending)[..., : self.count_results(rows.shape[-1])]

    def list_ranks(self, length: int) -> Array:
        """Return the rank of each result, counted from the smallest element."""
        count = self.count_results(length)
        return np.arange(length - 1, length - 1 - count, -1) if self.descending else np.arange(count)

    def find_possible_positions(self, rows: Array, errors: Array) -> Array:
        least, largest = _find_possible_ranks(rows, errors)
        ranks = self.list_ranks(rows.shape[-1])[:, None]
        return (least[:, None] <= ranks) & (ranks <= largest[:, None])


@register_op("argsort")
class Argsort(RankOrdering):
    """Positions of the elements along `dim` in order: integers, which have no gradient.

    Equal elements may come in any order, unless it is stable.
    """

    dim: int = -1
    descending: bool = False
    stable: bool = False

    def count_results(self, length: int) -> int:
        return length

    def _find_open_rows(self, rows: Array, errors: Array) -> Array:
        touches = super()._find_open_rows(rows, errors)
        return touches & np.any(errors != 0, axis=-1) if self.stable else touches

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.argsort(input, stable=self.stable, dim=self.dim, descending=self.descending)


@declare_step_op("order of the first")
class FirstRanks(RankOrdering):
    """Positions of the k first elements along `dim`, in order."""

    dim: int
    k: int
    descending: bool = True

    def count_results(self, length: int) -> int:
        if not 1 <= self.k <= length:
            raise ShapeError(f"a k from 1 to {length}, the length of axis {self.dim}")
        return self.k

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.argsort(input, stable=True, dim=self.dim, descending=self.descending).narrow(self.dim, 0, self.k)


@declare_step_op("order of one rank")
class OneRank(RankOrdering):
    """Position of the element of one rank along `dim`, counted from the smallest, with NaN before all others."""

    dim: int
    rank: int
    keepdim: bool = True
    descending: bool = False

    def infer_output_shape(self, input: Shape) -> Shape:
        kept = super().infer_output_shape(input)
        axis = self._get_axis(input)
        return kept if self.keepdim else kept[:axis] + kept[axis + 1 :]

    def _from_rows(self, rows: Array, input: Array) -> Array:
        return rows.reshape(len(rows), *self.infer_output_shape(input.shape[1:]))

    def count_results(self, length: int) -> int:
        if not length:
            raise ShapeError(f"an axis {self.dim} with elements")
        return 1

    def list_ranks(self, length: int) -> Array:
        return np.array([self.rank])

    def order_rows(self, rows: Array) -> Array:
        # From the top, so that the largest is the first of equal ones.
        length = rows.shape[-1]
        is_top = self.rank == length - 1
        order = self.sort_positions(rows, descending=is_top)[..., (0 if is_top else self.rank) :][..., :1]
        is_nan = np.isnan(rows)
        return np.where(is_nan.any(axis=-1, keepdims=True), is_nan.argmax(axis=-1, keepdims=True), order)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        kept = torch.argsort(input, stable=True, dim=self.dim).narrow(self.dim, self.rank, 1)
        return kept if self.keepdim else kept.squeeze(self.dim)


@declare_step_op("order so far")
class OrderSoFar(Ordering):
    """Position of the largest or smallest element along `dim` up to each, the last of equal ones."""

    dim: int
    largest: bool = True

    def count_results(self, length: int) -> int:
        return length

    def order_rows(self, rows: Array) -> Array:
        sizes = rows if self.largest else -rows
        largest: Array = np.maximum.accumulate(sizes, axis=-1)
        numbers = np.arange(int(rows.shape[-1]))
        is_best: Array = (sizes == largest) | ((sizes != sizes) & (largest != largest))
        return np.maximum.accumulate(np.where(is_best, numbers, 0), axis=-1)

    def find_possible_positions(self, rows: Array, errors: Array) -> Array:
        sizes = rows if self.largest else -rows
        bound = np.maximum.accumulate(sizes - errors, axis=-1)
        is_before = np.tri(rows.shape[-1], dtype=np.bool_)
        return is_before & ~((sizes + errors)[:, None, :] < bound[:, :, None])

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return (torch.cummax if self.largest else torch.cummin)(input, self.dim).indices


class ExtremePosition(Ordering):
    """Position of the largest or smallest element, the first of equal ones."""

    keepdim: bool

    is_stable = True
    largest: ClassVar[bool]

    def count_results(self, length: int) -> int:
        if not length:
            raise ShapeError("an axis with elements")
        return 1

    def infer_output_shape(self, input: Shape) -> Shape:
        if self.dim is None:
            self.count_results(count_elements(input))
            return (1,) * len(input) if self.keepdim else ()
        kept = super().infer_output_shape(input)
        axis = self._get_axis(input)
        return kept if self.keepdim else kept[:axis] + kept[axis + 1 :]

    def _to_rows(self, array: Array) -> Array:
        return array.reshape(len(array), -1) if self.dim is None else super()._to_rows(array)

    def _from_rows(self, rows: Array, input: Array) -> Array:
        return rows.reshape(len(rows), *self.infer_output_shape(input.shape[1:]))

    def order_rows(self, rows: Array) -> Array:
        sizes = rows if self.largest else -rows
        # NaN is the first of all, as for argmax.
        return np.argmax(sizes, axis=-1)[..., None]

    def find_possible_positions(self, rows: Array, errors: Array) -> Array:
        sizes = rows if self.largest else -rows
        bound = (sizes - errors).max(axis=-1, keepdims=True)
        return ~(sizes + errors < bound)[:, None, :]

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return (torch.argmax if self.largest else torch.argmin)(input, self.dim, self.keepdim)


@register_op("argmax")
class Argmax(ExtremePosition):
    """Position of the largest element along `dim`, the first of equal ones; by default in the whole tensor.

    It is an integer, which has no gradient.
    """

    dim: int | None = None
    keepdim: bool = False

    largest = True


@register_op("argmin")
class Argmin(ExtremePosition):
    """Position of the smallest element along `dim`, the first of equal ones; by default in the whole tensor.

    It is an integer, which has no gradient.
    """

    dim: int | None = None
    keepdim: bool = False

    largest = False
