"""The windows of a padded input that the offsets of a kernel meet, along any number of axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from types import EllipsisType

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.ops.windows import AxisWindows

_MAX_CACHED_GEOMETRIES = 64
"""Geometries of convolutions that the cache keeps."""
_MAX_KEPT_OFFSETS = 2**10
"""Offsets of a kernel up to which their indices are kept: it takes some hundred bytes for each."""

_Index = tuple[EllipsisType | slice, ...]


def _index_entry(offset: Shape) -> _Index:
    return ..., *(slice(i, i + 1) for i in offset)


@dataclass(frozen=True)
class ConvGeometry:
    """The windows of the padded input that the kernel offsets meet.

    Along each axis output p reads padded input p s + i d, with stride s and dilation d. So for one offset, over all
    outputs, it is a strided window. The attributes have a number for each axis.
    """

    kernel: Shape
    output: Shape
    stride: Shape
    dilation: Shape
    padding_before: Shape
    padding_after: Shape

    @cached_attribute
    def kernel_offsets(self) -> tuple[Shape, ...]:
        return tuple(product(*map(range, self.kernel)))

    @cached_attribute
    def _window_slices(self) -> tuple[tuple[slice, ...], ...]:
        """Return the slices of the windows of each axis, by offset."""
        return tuple(
            tuple(slice(i * dilation, i * dilation + stride * (count - 1) + 1, stride) for i in range(length))
            for length, dilation, stride, count in zip(
                self.kernel, self.dilation, self.stride, self.output, strict=True
            )
        )

    @cached_attribute
    def _kept_indices(self) -> dict[Shape, tuple[_Index, _Index]]:
        """Return the index of the window and that of the kernel's entry, by offset; none for a large kernel."""
        if math.prod(self.kernel) > _MAX_KEPT_OFFSETS:
            return {}
        return {offset: (self._index_window(offset), _index_entry(offset)) for offset in self.kernel_offsets}

    def _index_window(self, offset: Shape) -> _Index:
        return ..., *(slices[i] for slices, i in zip(self._window_slices, offset, strict=True))

    @property
    def axis_windows(self) -> list[AxisWindows]:
        """Return the windows along each axis. Each window of the input is a window of all axes."""
        return [
            AxisWindows(*window) for window in zip(self.output, self.kernel, self.stride, self.dilation, strict=True)
        ]

    @property
    def padding_widths(self) -> list[tuple[int, int]]:
        """Return the widths of the padding before and after, by axis."""
        return [*zip(self.padding_before, self.padding_after, strict=True)]

    def get_window(self, padded: Array, offset: Shape) -> Array:
        """Return the view (..., *output) of a padded input at an offset."""
        kept = self._kept_indices.get(offset)
        return padded[self._index_window(offset) if kept is None else kept[0]]

    def get_kernel_entry(self, kernel: Array, offset: Shape) -> Array:
        """Return the entry (..., 1, ..., 1) of a kernel at an offset."""
        kept = self._kept_indices.get(offset)
        return kernel[_index_entry(offset) if kept is None else kept[1]]

    def pad_input(self, array: Array, value: float = 0.0) -> Array:
        if not any(self.padding_before + self.padding_after):
            return array
        return pad_last_axes(array, self.padding_widths, value)

    def crop_padding(self, padded: Array) -> Array:
        """Return a padded array without its padding."""
        return crop_last_axes(padded, self.padding_widths)


@lru_cache(_MAX_CACHED_GEOMETRIES)
def make_geometry(
    input: Shape, kernel: Shape, stride: Shape, dilation: Shape, padding_before: Shape, padding_after: Shape
) -> ConvGeometry:
    """Return the geometry of an input with a kernel, lengths along the last axes.

    The cache finds the windows of each geometry once.
    """
    output = tuple(
        (length + b + a - (k - 1) * d - 1) // s + 1 if length + b + a > (k - 1) * d else 0
        for length, k, s, d, b, a in zip(input, kernel, stride, dilation, padding_before, padding_after, strict=True)
    )
    return ConvGeometry(kernel, output, stride, dilation, padding_before, padding_after)


def pad_last_axes(x: Array, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    """Return x padded along its last axes, by (before, after) widths."""
    return np.pad(x, [(0, 0)] * (x.ndim - len(widths)) + [*widths], constant_values=value)


def crop_last_axes(x: Array, widths: Sequence[tuple[int, int]]) -> Array:
    """Return x without padding of its last axes, by (before, after) widths."""
    lengths = x.shape[x.ndim - len(widths) :]
    inner_slices = (slice(before, n - after) for n, (before, after) in zip(lengths, widths, strict=True))
    return x[..., *inner_slices]
