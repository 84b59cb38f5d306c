"""Grids of places that an affine map makes."""

from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from annotated_types import Len

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.half_precision import widen_half
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    Rounding,
    ShapeError,
    declare_bug,
    register_op,
)


@register_op("affine_grid")
class AffineGrid(Op):
    """Grid for grid_sample: y[n, h, w] = theta[n] (u_w, v_h, 1), theta (N, 2, 3); one axis more for theta (N, 3, 4).

    u and v go from -1 to 1 over a picture of `size` (N, C, H, W), from edge to edge, or with align_corners from the
    middle of the first element to that of the last. An axis of one element has 0.
        dL/dtheta[n, i, j] = sum_{h, w} g[n, h, w, i] (u_w, v_h, 1)_j
    """

    size: Annotated[list[Positive], Len(4, 5)]
    align_corners: bool | None = None

    inputs = ("theta",)
    positional = ("theta", "size", "align_corners")
    supports_complex_step = True
    linear_in = MappingProxyType({"theta": ()})
    examples = (
        OpExample(((2, 2, 3),), {"size": [2, 1, 3, 4]}),
        OpExample(((1, 2, 3),), {"size": [1, 2, 1, 3], "align_corners": True}),
        OpExample(((1, 3, 4),), {"size": [1, 1, 2, 3, 2]}),
    )

    def infer_output_shape(self, theta: Shape) -> Shape:
        axes = len(self.size) - 2
        if theta != (expected := (self.size[0], axes, axes + 1)):
            raise ShapeError(f"a theta of shape {list(expected)} for a size of {self.size}")
        return (self.size[0], *self.size[2:], axes)

    def _list_places(self, dtype: np.dtype) -> Array:
        """Return (u, v, 1) of each place, (P, axes + 1)."""
        lines = [self._make_line(length) for length in self.size[2:]]
        coordinates = np.meshgrid(*lines, indexing="ij")
        columns = [array.ravel() for array in reversed(coordinates)]
        return np.stack([*columns, np.ones_like(columns[0])], axis=1).astype(dtype)

    def _make_line(self, length: int) -> Array:
        if length == 1:
            return np.zeros(1)
        line = np.linspace(-1, 1, length)
        return line if self.align_corners else line * (length - 1) / length

    def _multiply(self, theta: Array, places: Array) -> Array:
        return np.einsum("knij,pj->knpi", theta, places).reshape(len(theta), *self.infer_output_shape(theta.shape[1:]))

    def forward(self, theta: Array) -> Array:
        return self._multiply(theta, self._list_places(np.real(theta).dtype))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = drop_missing(values)
        by_coordinate = labels.min(axis=-1)[:, :, None]
        shape = self.infer_output_shape(labels.shape[1:])
        spread = np.broadcast_to(by_coordinate, (*by_coordinate.shape[:2], count_elements(shape[1:-1]), shape[-1]))
        return spread.reshape(len(labels), *shape)

    def backward(self, gradient: Array, output: Array, theta: Array) -> Gradients:
        return (self._sum_places(gradient, self._list_places(gradient.dtype)),)

    @staticmethod
    def _sum_places(gradient: Array, places: Array) -> Array:
        g = gradient.reshape(*gradient.shape[:2], -1, gradient.shape[-1])
        return np.einsum("knpi,pj->knij", g, places)

    def estimate_forward_rounding(self, output: Array, theta: Array) -> Rounding:
        return Rounding(2 * self._multiply(np.abs(theta), np.abs(self._list_places(theta.dtype))), theta.shape[-1] + 1)

    def estimate_backward_rounding(self, gradient: Array, output: Array, theta: Array) -> tuple[Rounding]:
        places = np.abs(self._list_places(gradient.dtype))
        return (Rounding(2 * self._sum_places(np.abs(gradient), places), len(places) + 1),)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        places = count_elements(output[1:-1])
        return ComputeCost(count_elements(output) * (output[-1] + 1), max(count_elements(output), 4 * places), 2)

    @declare_bug("the coordinates were taken in the order of the image, rows first")
    def axes_permuted(self, gradient: Array, output: Array, theta: Array) -> Gradients:
        (by_theta,) = self.backward(gradient, output, theta)
        assert by_theta is not None
        return (np.concatenate([np.flip(by_theta[..., :-1], -1), by_theta[..., -1:]], axis=-1),)

    @declare_bug("the gradient of the last column, the shift, was left out")
    def shift_forgotten(self, gradient: Array, output: Array, theta: Array) -> Gradients:
        (by_theta,) = self.backward(gradient, output, theta)
        assert by_theta is not None
        return (by_theta * (np.arange(int(theta.shape[-1])) < theta.shape[-1] - 1),)

    def torch_forward(self, torch: Any, theta: Any) -> Any:
        # The function without the warning about axes of one element.
        grid = torch.affine_grid_generator(widen_half(torch, theta), self.size, bool(self.align_corners))
        return grid.to(theta.dtype)
