"""Padding of a tensor by a number, or by elements of its own."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops.element_moves import NO_ELEMENT, ElementMove
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    ShapeError,
    declare_bug_named,
    register_op,
)

_MOST_PADDED_AXES = 3
"""Most axes that PyTorch pads by elements of the tensor."""


@register_op("pad")
class Pad(ElementMove):
    """Padding of x with `value`, or by its own elements: pad = [before, behind, before, behind, ...].

    The widths are those of the last axis first. A negative width cuts off as much. Each axis of n elements is padded by
    itself: y[i] = x[s(i - before)] with
        constant   s(j) = j, and `value` in place of x beyond the ends
        reflect    s(j) = abs(j) in front, and 2 (n - 1) - j behind: the end itself is not repeated
        replicate  s(j) = 0 in front, n - 1 behind
        circular   s(j) = j modulo n; a negative width cuts before the axis closes to a circle
    dL/dx_k is the sum of g_i over all i with s(i - before) = k. It is 0 where x was cut off.
    """

    pad: list[int]
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant"
    value: float | None = 0.0

    examples = (
        OpExample(((3, 4),), {"pad": [1, 2]}),
        OpExample(((2, 3, 4),), {"pad": [0, 1, -1, 2], "value": 0.5}),
        OpExample(((3,),), {"pad": []}),
        OpExample(((2, 3, 4),), {"pad": [3, 2, -1, 1], "mode": "reflect"}),
        OpExample(((1, 2, 1, 3),), {"pad": [2, 1, 0, 3, 1, 1], "mode": "replicate"}),
        OpExample(((2, 4),), {"pad": [-1, 3], "mode": "circular"}),
    )

    @property
    def _fill_value(self) -> float:
        return 0.0 if self.value is None else self.value

    def resolve_dtype_defaults(self, epsilon: float) -> Op:
        return dataclasses.replace(self, value=self._fill_value)

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        return dataclasses.replace(self, value=nearest(self._fill_value))

    def _get_pad_widths(self, rank: int) -> list[tuple[int, int]]:
        """Return the (before, behind) widths of each axis."""
        if len(self.pad) % 2 or len(self.pad) > 2 * rank:
            raise ShapeError(f"a pad of (before, behind) pairs for {rank} axes at most, not {self.pad}")
        pairs = list(zip(self.pad[::2], self.pad[1::2], strict=True))
        return [(0, 0)] * (rank - len(pairs)) + pairs[::-1]

    def infer_output_shape(self, input: Shape) -> Shape:
        widths = self._get_pad_widths(len(input))
        remaining_lengths = [length + min(b, 0) + min(a, 0) for length, (b, a) in zip(input, widths, strict=True)]
        padded_shape = tuple(length + b + a for length, (b, a) in zip(input, widths, strict=True))
        if self.mode != "constant":
            self._check_own_elements(input, widths, remaining_lengths)
        elif any(length < 1 for length in (*remaining_lengths, *padded_shape)):
            raise ShapeError(f"an input that pad={self.pad} does not cut off whole")
        return padded_shape

    def _check_own_elements(
        self, input: Shape, widths: Sequence[tuple[int, int]], remaining_lengths: Sequence[int]
    ) -> None:
        """Refuse what PyTorch does not pad by elements of the tensor."""
        count = len(self.pad) // 2
        if not 1 <= count <= _MOST_PADDED_AXES or len(input) - count not in (1, 2):
            raise ShapeError(
                f'one or two axes in front of the padded ones, of which mode "{self.mode}" takes 1 to '
                f"{_MOST_PADDED_AXES}; pad={self.pad} pads {count}"
            )
        for length, remaining, pair in zip(input, remaining_lengths, widths, strict=True):
            if any(pair) and (length < 1 or length + sum(pair) < 1):
                raise ShapeError(f"an input that pad={self.pad} does not cut off whole")
            if self.mode == "reflect" and max(pair) >= max(length, 1):
                raise ShapeError(f"each width of pad={self.pad} below the length of its axis, as a reflection has it")
            if self.mode == "circular" and any(pair) and max(*pair, 1) > remaining:
                raise ShapeError(f"each width of pad={self.pad} within the length of its axis, once round the circle")

    def _list_positions(self, length: int, before: int, behind: int) -> Array:
        """Return the position in an axis of x of each position in y."""
        positions = np.arange(-before, length + behind)
        last = length - 1
        if self.mode == "replicate":
            return np.clip(positions, 0, last)
        if self.mode == "reflect":
            return last - np.abs(last - np.abs(positions))
        if self.mode == "circular":
            first = max(0, -before)
            return first + (positions - first) % (length - first + min(0, behind))
        return np.where((positions >= 0) & (positions <= last), positions, NO_ELEMENT)

    def move(self, numbers: Array) -> Array:
        for axis, (before, behind) in enumerate(self._get_pad_widths(numbers.ndim)):
            if before or behind:
                positions = self._list_positions(numbers.shape[axis], before, behind)
                is_there = np.expand_dims(positions != NO_ELEMENT, tuple(range(1, numbers.ndim - axis)))
                numbers = np.where(is_there, np.take(numbers, np.maximum(positions, 0), axis), NO_ELEMENT)
        return numbers

    def forward(self, input: Array) -> Array:
        return self._place(input, self._fill_value)

    def compute_linear_response(self, position: int, direction: Array, *inputs: Any) -> Array:
        return self._place(direction, 0)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = drop_missing(values)
        return self._place(labels, np.inf)

    @declare_bug_named(
        "padding_detached",
        "the gradient of the copied elements beyond the ends was left out",
        lambda shapes: any(after > before for after, before in zip(*shapes, strict=True)),
    )
    def drop_copies(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return dataclasses.replace(self, mode="constant").backward(gradient, output, input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.pad(input, self.pad, self.mode, self.value)
