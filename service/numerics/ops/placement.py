"""Ops that place the elements of a source into a tensor: what a move of elements picks, they put back.

A placement adds, or replaces. Elements that replace one another at one position are refused, since PyTorch leaves open
which of them stays.
"""

from abc import abstractmethod
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape, broadcast_batch, count_elements
from service.numerics.ops.element_moves import NO_ELEMENT
from service.numerics.ops.op import DependencyLabels, Gradients, Op, ProductExpansion, ShapeError, declare_bug
from service.numerics.ops.rounding_errors import Rounding

REPEATED_INDEX = (
    "an index without repeats, since PyTorch leaves open which of several elements replaces one; to add them up, use"
    " scatter_add, index_add, or index_put with accumulate"
)


def refuse_repeats(positions: Array) -> None:
    """Refuse positions that several elements replace, by ShapeError."""
    if len(np.unique(positions)) < positions.size:
        raise ShapeError(REPEATED_INDEX)


def refuse_indices_out_of_range(index: Array, length: int) -> None:
    """Refuse indices that an axis of some length does not have, by ShapeError."""
    if ((index < 0) | (index >= length)).any():
        raise ShapeError(f"an index from 0 to {length - 1}; its values are {int(index.min())} to {int(index.max())}")


class Placement(Op):
    """An op that places the elements of a source at positions that `pick` returns.

    With t(k) the position of the source's element k:
        added:     y[p] = x[p] + sum of s[k] over the k with t(k) = p;    dL/dx = g, dL/ds[k] = g[t(k)]
        replaced:  y[t(k)] = s[k], and y[p] = x[p] elsewhere;    dL/dx = g, 0 at every t(k), dL/ds[k] = g[t(k)]
    """

    source_position: ClassVar[int] = 2
    """Position of the source among the inputs; the input is the first."""
    supports_complex_step = True

    @property
    @abstractmethod
    def adds(self) -> bool:
        """Return whether elements are added; otherwise they replace those of the input."""

    @abstractmethod
    def pick(self, numbers: Array, *indices: Array) -> Array:
        """Return the position of each element of the source.

        Parameters
        ----------
        numbers
            Numbers of the positions, in the declared shape of the input.
        indices
            Index inputs, in their declared shapes.
        """

    def _list_targets(self, shape: Shape, inputs: tuple[Any, ...]) -> Array:
        """Return the position in an output of `shape` of each element of the source, in its declared shape."""
        indices = [array[0] for position, array in enumerate(inputs) if position not in (0, self.source_position)]
        picked = self.pick(np.arange(count_elements(shape)).reshape(shape), *indices)
        targets = np.full(inputs[self.source_position].shape[1:], NO_ELEMENT)
        targets[tuple(slice(length) for length in picked.shape)] = picked
        return targets

    def _place(self, base: Array, source: Array, targets: Array, join: np.ufunc) -> Array:
        tiles = max(len(base), len(source))
        result = broadcast_batch(base.reshape(len(base), -1), tiles).astype(np.result_type(base, source))
        is_placed = targets != NO_ELEMENT
        elements = source[:, is_placed]
        if self.adds:
            positions: Any = (slice(None), targets[is_placed])
            join.at(result, positions, elements)
        else:
            result[:, targets[is_placed]] = elements
        return result.reshape(tiles, *base.shape[1:])

    def forward(self, *inputs: Any) -> Array:
        base = inputs[0]
        return self._place(base, inputs[self.source_position], self._list_targets(base.shape[1:], inputs), np.add)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        of_base, of_source = values[0], values[self.source_position]
        assert of_base is not None
        assert of_source is not None
        return self._place(of_base, of_source, self._list_targets(of_base.shape[1:], inputs), np.minimum)

    def expand_products(self, position: int, *inputs: Any) -> ProductExpansion | None:
        return self.expand_selection(position, *inputs) if position == 0 or not self.adds else None

    def _arrange(self, by_base: Array, by_source: Array, inputs: tuple[Any, ...]) -> Gradients:
        gradients: list[Array | None] = [None] * len(inputs)
        gradients[0], gradients[self.source_position] = by_base, by_source
        return tuple(gradients)

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        targets = self._list_targets(output.shape[1:], inputs)
        is_placed = targets != NO_ELEMENT
        flat = gradient.reshape(len(gradient), -1)
        by_source = np.where(is_placed, flat[:, np.maximum(targets, 0)], gradient.dtype.type(0))
        return self._arrange(gradient if self.adds else self._clear(gradient, targets), by_source, inputs)

    @staticmethod
    def _clear(gradient: Array, targets: Array) -> Array:
        """Return the gradient with 0 at the targets."""
        flat = gradient.reshape(len(gradient), -1).copy()
        flat[:, targets[targets != NO_ELEMENT]] = 0
        return flat.reshape(gradient.shape)

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        if not self.adds:
            return None
        targets = self._list_targets(output.shape[1:], inputs)
        most = int(np.bincount(targets[targets != NO_ELEMENT].ravel(), minlength=1).max())
        base, source = np.abs(inputs[0]), np.abs(inputs[self.source_position])
        return Rounding(self._place(base, source, targets, np.add), most)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[None, ...]:
        return (None,) * len(inputs)

    @declare_bug("the gradient of the source was taken from the first positions, not from those of the index")
    def not_picked(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        by_base = self.backward(gradient, output, *inputs)[0]
        assert by_base is not None
        source = inputs[self.source_position]
        size = count_elements(source.shape[1:])
        by_source = np.stack([np.resize(row, size) for row in gradient.reshape(len(gradient), -1)])
        return self._arrange(by_base, by_source.reshape(len(gradient), *source.shape[1:]), inputs)


class AddingPlacement(Placement):
    """A placement that adds."""

    @property
    def adds(self) -> bool:
        return True

    @declare_bug("the gradient of the input was set to 0 where the source was added, as if it were replaced")
    def cleared_where_added(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        by_source = self.backward(gradient, output, *inputs)[self.source_position]
        assert by_source is not None
        by_base = self._clear(gradient, self._list_targets(output.shape[1:], inputs))
        return self._arrange(by_base, by_source, inputs)


class ReplacingPlacement(Placement):
    """A placement that replaces."""

    @property
    def adds(self) -> bool:
        return False

    @declare_bug("the gradient of the input was kept where the source replaced it")
    def kept_where_replaced(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        by_source = self.backward(gradient, output, *inputs)[self.source_position]
        assert by_source is not None
        return self._arrange(gradient, by_source, inputs)


def declare_joint_linearity(source: str) -> MappingProxyType[str, tuple[str, ...]]:
    """Return the slots in which a placement is linear, given the name of its source."""
    return MappingProxyType({"input": (source,), source: ("input",)})
