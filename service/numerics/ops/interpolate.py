"""Interpolation of the last axes to another size."""

import math
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Gt, Len

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.average_pool import list_adaptive_windows
from service.numerics.ops.axis_numbers import Positive, PositiveTriple, spread_over_axes
from service.numerics.ops.axis_tables import AxisTable, make_window_table
from service.numerics.ops.op import Gradients, Op, OpExample, ShapeError, declare_bug, register_op
from service.numerics.ops.separable import SeparableMap

_CUBIC_COEFFICIENT = -0.75
_AXES_BY_MODE = {"linear": (1,), "bilinear": (2,), "bicubic": (2,), "trilinear": (3,)}
ScaleFactor = Annotated[float, Gt(0)]


def _weigh_cubic(distance: Array) -> Array:
    """Return Keys's cubic kernel, of points up to 2 apart."""
    a, d = _CUBIC_COEFFICIENT, np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.select([d <= 1, d < 2], [near, far], 0)


@register_op("interpolate")
class Interpolate(SeparableMap):
    """Interpolation of the axes behind (B, C): y = M_1 M_2 ... x with a matrix M_i along axis i.

    Row o of M_i has the weights of the elements around the place s (o + 1/2) - 1/2, where s is the old over the new
    length: the nearest one, two for the linear modes, four for bicubic, the mean of a window for area. With
    `align_corners` the place is o (old - 1) / (new - 1).
        dL/dx = M_1^T M_2^T ... g
    """

    size: Positive | PositiveTriple | None = None
    scale_factor: ScaleFactor | Annotated[list[ScaleFactor], Len(1, 3)] | None = None
    mode: Literal["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"] = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None

    examples = (
        OpExample(((1, 2, 3, 4),), {"size": [5, 3]}),
        OpExample(((1, 2, 3, 4),), {"scale_factor": 1.7, "mode": "bilinear"}),
        OpExample(((1, 1, 4, 3),), {"size": [6, 7], "mode": "bicubic", "align_corners": True}),
        OpExample(((2, 1, 5),), {"size": 8, "mode": "linear"}),
        OpExample(((1, 1, 2, 3, 2),), {"size": [3, 2, 4], "mode": "trilinear"}),
        OpExample(((1, 1, 5, 4),), {"size": 3, "mode": "area"}),
        OpExample(((1, 2, 5),), {"scale_factor": [1.6], "mode": "nearest-exact"}),
        OpExample(((1, 1, 3, 3),), {"scale_factor": 2, "mode": "bicubic", "recompute_scale_factor": True}),
    )

    def get_axis_count(self, input: Shape) -> int:
        return len(input) - 2

    def infer_output_shape(self, input: Shape) -> Shape:
        axis_count = len(input) - 2
        if axis_count not in _AXES_BY_MODE.get(self.mode, (1, 2, 3)):
            raise ShapeError(f'an input (B, C, ...) of as many axes as mode "{self.mode}" takes')
        if (self.size is None) == (self.scale_factor is None):
            raise ShapeError("either a size or a scale_factor")
        if self.align_corners is not None and self.mode not in _AXES_BY_MODE:
            raise ShapeError("align_corners with a linear or cubic mode alone")
        given = self.size if self.size is not None else self.scale_factor
        if isinstance(given, list) and len(given) not in (1, axis_count):
            raise ShapeError("one number of size or scale_factor for each axis behind (B, C)")
        lengths = self._list_lengths(input[2:])
        if min(lengths) < 1:
            raise ShapeError("a scale_factor that leaves an element of each axis")
        return (*input[:2], *lengths)

    def _list_scales(self, axis_count: int) -> tuple[float, ...]:
        factors = self.scale_factor
        if isinstance(factors, list):
            return tuple(factors) if len(factors) == axis_count else (factors[0],) * axis_count
        assert factors is not None
        return (factors,) * axis_count

    def _list_lengths(self, lengths: Shape) -> Shape:
        if self.size is not None:
            return spread_over_axes(self.size, len(lengths))
        return tuple(
            math.floor(length * scale) for length, scale in zip(lengths, self._list_scales(len(lengths)), strict=True)
        )

    def list_axis_tables(self, lengths: Shape) -> list[AxisTable]:
        counts = self._list_lengths(lengths)
        if self.size is not None or self.recompute_scale_factor:
            steps = [length / count for length, count in zip(lengths, counts, strict=True)]
        else:
            steps = [1 / scale for scale in self._list_scales(len(lengths))]
        return [
            self._make_table(length, count, step) for length, count, step in zip(lengths, counts, steps, strict=True)
        ]

    def _make_table(self, length: int, count: int, step: float) -> AxisTable:
        numbers = np.arange(count)
        if self.mode == "area":
            starts, sizes = list_adaptive_windows(length, count)
            table = make_window_table(starts, sizes, 1, length)
            return AxisTable(table.indices, table.weights / sizes[:, None])
        if self.mode in ("nearest", "nearest-exact"):
            # PyTorch computes the place in single precision.
            middle = np.float32(0.5 if self.mode == "nearest-exact" else 0)
            places = np.floor((numbers.astype(np.float32) + middle) * np.float32(step)).astype(np.int64)
            return AxisTable(np.minimum(places, length - 1)[:, None], np.ones((count, 1)))
        places = self._list_places(length, count, step)
        first = np.floor(places).astype(np.int64)
        fraction = places - first
        if self.mode == "bicubic":
            offsets = np.arange(-1, 3)
            weights = _weigh_cubic(fraction[:, None] - offsets)
        else:
            offsets = np.arange(2)
            weights = np.stack([1 - fraction, fraction], axis=1)
        return AxisTable(np.clip(first[:, None] + offsets, 0, length - 1), weights)

    def _list_places(self, length: int, count: int, step: float) -> Array:
        """Return the place of each new element among the old ones."""
        numbers = np.arange(count)
        if self.align_corners:
            return numbers * ((length - 1) / (count - 1) if count > 1 else 0.0)
        places = step * (numbers + 0.5) - 0.5
        return places if self.mode == "bicubic" else np.maximum(places, 0)

    def list_magnitude_tables(self, shape: Shape) -> list[AxisTable]:
        if self.mode not in _AXES_BY_MODE:
            return super().list_magnitude_tables(shape)
        # A place is off by u of itself, and a weight by as much.
        return [
            AxisTable(table.indices, np.abs(table.weights) + np.maximum(table.indices.max(axis=1, keepdims=True), 1))
            for table in self._list_tables(shape)
        ]

    @declare_bug("the gradient was interpolated back in place of the transposed interpolation")
    def interpolated_back(self, gradient: Array, output: Array, input: Array) -> Gradients:
        lengths = list(input.shape[3:])
        inverse: Op = Interpolate(size=lengths, mode=self.mode, align_corners=self.align_corners)
        return (inverse.forward(gradient),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )
