"""Pooling over windows of the last two axes, (B, C, H, W) or (C, H, W)."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from service.numerics.ops.multiplier import Multiplier
from service.numerics.ops.op import (
    CALL,
    Case,
    Cost,
    Gradients,
    Op,
    Rounding,
    ShapeError,
    Spreading,
    mutant,
    mutant_of,
    op,
)
from service.numerics.ops.pairs import NotNegative, NotNegativePair, Positive, PositivePair, pair
from service.numerics.reach import joined
from service.numerics.tiles import Array, Shape, size


class Pool(Op):
    """Windows of kernel_size at every stride (kernel_size if left out), over an input padded on all sides."""

    kernel_size: Positive | PositivePair
    stride: Positive | PositivePair | None
    padding: NotNegative | NotNegativePair
    ceil_mode: bool

    inputs = ("input",)

    @property
    def _dilation(self) -> tuple[int, int]:
        return (1, 1)

    def _stride(self) -> tuple[int, int]:
        return pair(self.kernel_size if self.stride is None else self.stride)

    def spelled_out(self, *shapes: Shape | None) -> Op:
        return dataclasses.replace(cast("Any", self), stride=self.kernel_size) if self.stride is None else self

    def output_shape(self, input: Shape) -> Shape:
        if len(input) not in (3, 4):
            raise ShapeError("an input (B, C, H, W) or (C, H, W)")
        if any(2 * p > k for p, k in zip(pair(self.padding), pair(self.kernel_size), strict=True)):
            raise ShapeError("a padding of half the kernel_size at most")
        window = tuple(self._length(input[-2 + i], i) for i in range(2))
        if min(window) < 1:
            raise ShapeError("a window that fits into the padded input")
        return (*input[:-2], *window)

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        (of_input,) = values
        assert of_input is not None
        shape = self.output_shape(of_input.shape[1:])
        return joined(*self._windows(self._padded(of_input, np.inf), shape))

    def _length(self, length: int, i: int) -> int:
        """Windows along one axis; in ceil_mode one may begin inside and end outside."""
        kernel, stride, padding = pair(self.kernel_size)[i], self._stride()[i], pair(self.padding)[i]
        room = length + 2 * padding - self._dilation[i] * (kernel - 1) - 1
        count = (-(-room // stride) if self.ceil_mode else room // stride) + 1
        return count - 1 if self.ceil_mode and (count - 1) * stride >= length + padding else count

    def _windows(self, padded: Array, shape: Shape) -> Iterator[Array]:
        """View of the padded input for each offset in the window, (..., out_h, out_w)."""
        stride, dilation = self._stride(), self._dilation
        for offset in product(*map(range, pair(self.kernel_size))):
            rows, columns = (
                slice(o * d, o * d + s * (count - 1) + 1, s)
                for o, d, s, count in zip(offset, dilation, stride, shape[-2:], strict=True)
            )
            yield padded[..., rows, columns]

    def _padded_size(self, shape: Shape) -> tuple[int, int]:
        """Size of the padded input that all windows of an output of `shape` need."""
        sizes = tuple(
            s * (count - 1) + d * (k - 1) + 1
            for s, d, k, count in zip(self._stride(), self._dilation, pair(self.kernel_size), shape[-2:], strict=True)
        )
        return sizes[0], sizes[1]

    def _padded(self, input: Array, value: float) -> Array:
        shape = self.output_shape(input.shape[1:])
        needed = self._padded_size(shape)
        before = pair(self.padding)
        total = tuple(max(n, length + b) for n, length, b in zip(needed, input.shape[-2:], before, strict=True))
        padded = np.full(input.shape[:-2] + total, value, dtype=input.dtype)
        padded[self._inside(input.shape)] = input
        return padded

    def _inside(self, shape: Shape) -> tuple[Any, ...]:
        """Where the input lies in the padded one."""
        top, left = pair(self.padding)
        return ..., slice(top, top + shape[-2]), slice(left, left + shape[-1])

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        window = size(pair(self.kernel_size))
        needed = math.prod(self._padded_size(output)) * size(output[:-2])
        return Cost(size(output) * window + CALL * window, max(needed, super().cost(output, *shapes).elements))


@op("max_pool2d")
class MaxPool2d(Pool):
    """y = the largest element of each window: dL/dx = sum of g over the windows whose largest element x is.

    Of several equal ones the first in the window, row by row, is taken.
    """

    kernel_size: Positive | PositivePair
    stride: Positive | PositivePair | None = None
    padding: NotNegative | NotNegativePair = 0
    dilation: Positive | PositivePair = 1
    ceil_mode: bool = False

    cases = (
        Case(((2, 4, 6),), {"kernel_size": 2}),
        Case(((2, 1, 5, 5),), {"kernel_size": 3, "stride": [2, 1], "padding": 1}),
        Case(((1, 6, 6),), {"kernel_size": [2, 3], "stride": 2, "ceil_mode": True, "dilation": [2, 1]}),
    )

    @property
    def _dilation(self) -> tuple[int, int]:
        return pair(self.dilation)

    def branch(self, input: Array) -> Array:
        """Number of the offset taken, in each window; -1 where all of it is padding."""
        shape = self.output_shape(input.shape[1:])
        best = np.full(input.shape[:1] + shape, -np.inf)
        taken = np.full(best.shape, -1)
        for number, window in enumerate(self._windows(self._padded(input, -np.inf), shape)):
            larger = window > best
            best, taken = np.where(larger, window, best), np.where(larger, number, taken)
        return taken

    def along(self, branch: Array, input: Array) -> Array:
        shape = self.output_shape(input.shape[1:])
        output = np.full((max(len(input), len(branch)), *shape), -np.inf, dtype=input.dtype)
        for number, window in enumerate(self._windows(self._padded(input, 0), shape)):
            output = np.where(branch == number, window, output)
        return output

    def forward(self, input: Array) -> Array:
        return self.along(self.branch(input), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        shape = self.output_shape(input.shape[1:])
        taken = self.branch(input)
        tiles = max(len(gradient), len(input))
        padded = np.zeros((tiles, *self._padded(input, 0).shape[1:]), dtype=gradient.dtype)
        for number, window in enumerate(self._windows(padded, shape)):
            window += np.where(taken == number, gradient, 0).astype(gradient.dtype, copy=False)
        return (padded[self._inside(input.shape)],)

    def rounding(self, output: Array, input: Array) -> None:
        return None

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, size(pair(self.kernel_size)) - 1),)

    @mutant
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """What belongs to one element from several windows was written over instead of added up: the last is left."""
        taken = self.branch(input)
        padded = np.zeros((len(gradient), *self._padded(input, 0).shape[1:]), dtype=gradient.dtype)
        # The later a window, the smaller the offset at which it holds an element.
        windows = [*enumerate(self._windows(padded, self.output_shape(input.shape[1:])))]
        for number, window in reversed(windows):
            np.copyto(window, gradient, where=taken == number)
        return (padded[self._inside(input.shape)],)

    @mutant
    def to_every_element(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The gradient of the maximum went to every element of the window."""
        padded = np.zeros((len(gradient), *self._padded(input, 0).shape[1:]), dtype=gradient.dtype)
        for window in self._windows(padded, self.output_shape(input.shape[1:])):
            window += gradient
        return (padded[self._inside(input.shape)],)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.max_pool2d(
            input, pair(self.kernel_size), self._stride(), pair(self.padding), pair(self.dilation), self.ceil_mode
        )


@op("avg_pool2d")
class AvgPool2d(Pool):
    """y = the sum over each window / N: dL/dx = sum of g / N over the windows that hold x.

    N is the size of the window, with the padding that it covers if `count_include_pad`, or `divisor_override`.
    """

    kernel_size: Positive | PositivePair
    stride: Positive | PositivePair | None = None
    padding: NotNegative | NotNegativePair = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: Positive | None = None

    analytic = True
    linear_in = MappingProxyType({"input": ()})

    cases = (
        Case(((2, 4, 6),), {"kernel_size": 2}),
        Case(((2, 1, 5, 5),), {"kernel_size": 3, "stride": [2, 1], "padding": 1}),
        Case(
            ((1, 5, 5),), {"kernel_size": 3, "padding": 1, "count_include_pad": False, "ceil_mode": True, "stride": 2}
        ),
        Case(((1, 4, 4),), {"kernel_size": [2, 1], "divisor_override": 3}),
    )

    def _divisors(self, input: Array, shape: Shape) -> Array:
        if self.divisor_override is not None:
            return np.full(shape[-2:], self.divisor_override, dtype=input.dtype)
        covered = self._padded(np.ones((1, 1, *input.shape[-2:]), dtype=input.dtype), 0)
        if self.count_include_pad:
            # Padding counts as far as it was asked for, not what ceil_mode goes beyond.
            top, left = pair(self.padding)
            covered[..., : input.shape[-2] + 2 * top, : input.shape[-1] + 2 * left] = 1
        return np.sum(list(self._windows(covered, shape)), axis=0)[0, 0]

    def forward(self, input: Array) -> Array:
        shape = self.output_shape(input.shape[1:])
        total = np.zeros(input.shape[:1] + shape, dtype=input.dtype)
        for window in self._windows(self._padded(input, 0), shape):
            total += window
        return total / self._divisors(input, shape)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        shape = self.output_shape(input.shape[1:])
        padded = np.zeros(gradient.shape[:1] + self._padded(input, 0).shape[1:], dtype=gradient.dtype)
        share = gradient / self._divisors(input, shape)
        for window in self._windows(padded, shape):
            window += share
        return (padded[self._inside(input.shape)],)

    def rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), size(pair(self.kernel_size)))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, size(pair(self.kernel_size))),)

    def multipliers(self, input: Array) -> Sequence[Multiplier]:
        divisors = np.unique(self._divisors(input, self.output_shape(input.shape[1:])))
        if len(divisors) > 1:
            # It differs from window to window, and so is no factor of the gradient.
            return ()
        return [Multiplier("mean", f"the {divisors[0]:g} elements of a window", float(divisors[0]))]

    @mutant_of("scaled")
    def not_divided(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sum over the window was taken where the pool takes the mean."""
        return self.backward(gradient * self._divisors(input, output.shape[1:]), output, input)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.avg_pool2d(
            input,
            pair(self.kernel_size),
            self._stride(),
            pair(self.padding),
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )
