"""Sampling of an image at the places of a grid."""

from collections.abc import Iterator, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.interrupts import check_interrupt
from service.numerics.ops.grid_tables import GridGeometry, GridTables, InterpolationMode, PaddingMode
from service.numerics.ops.half_precision import widen_half
from service.numerics.ops.jumps import JumpingOp, bound_moves
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    Rounding,
    ShapeError,
    declare_bug,
    declare_bug_named,
    register_op,
)
from service.numerics.ops.rounding_errors import ErrorModel
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives, merge_choices

_CALLS_PER_ELEMENT = 3
_CALLS_PER_GRID = 20


@register_op("grid_sample")
class GridSample(JumpingOp):
    """Interpolation of x (N, C, H, W) at the places of a grid (N, h, w, 2), or of (N, C, D, H, W) at (N, d, h, w, 3).

    The coordinates of a place are -1 to 1 over the image, the last axis first. With weights w_e(p) of the elements e
    around it, each the product of one for each axis:
        y[n, c, p] = sum_e w_e(p) x[n, c, e]
        dL/dx[n, c, e] = sum_p w_e(p) g[n, c, p]        dL/dp = sum_c g[n, c, p] sum_e (dw_e / dp) x[n, c, e]
    The derivative by the grid is 0 for nearest, and where a place outside is moved to the border. It jumps from cell to
    cell for bilinear, where that of the cell behind counts. At the border it is 0.
    """

    mode: InterpolationMode = "bilinear"
    padding_mode: PaddingMode = "zeros"
    align_corners: bool | None = None

    inputs = ("input", "grid")
    positional = ("input", "grid", "mode", "padding_mode", "align_corners")
    linear_in = MappingProxyType({"input": ()})
    scratch_arrays = 4
    examples = (
        OpExample(((2, 2, 3, 4), (2, 2, 3, 2)), low=-1.2, high=1.2),
        OpExample(
            ((1, 2, 3, 3), (1, 2, 4, 2)), {"padding_mode": "reflection", "align_corners": True}, low=-1.7, high=1.7
        ),
        OpExample(((1, 2, 4, 5), (1, 3, 2, 2)), {"mode": "bicubic", "padding_mode": "border"}, low=-1.3, high=1.3),
        OpExample(((1, 2, 3, 4), (1, 2, 3, 2)), {"mode": "nearest"}, low=-1.2, high=1.2),
        OpExample(((1, 1, 2, 3, 2), (1, 2, 1, 2, 3)), {"padding_mode": "border"}, low=-1.4, high=1.4),
    )

    def infer_output_shape(self, input: Shape, grid: Shape) -> Shape:
        if len(input) not in (4, 5) or len(grid) != len(input) or grid[-1] != len(input) - 2 or grid[0] != input[0]:
            raise ShapeError("an input (N, C, H, W) with a grid (N, h, w, 2), or (N, C, D, H, W) with (N, d, h, w, 3)")
        if self.mode == "bicubic" and len(input) == 5:
            raise ShapeError("an input (N, C, H, W) for bicubic interpolation")
        return (*input[:2], *grid[1:-1])

    def _make_geometry(self, input: Array) -> GridGeometry:
        lengths = tuple(reversed(input.shape[3:]))
        return GridGeometry(lengths, self.mode, self.padding_mode, bool(self.align_corners))

    @staticmethod
    def _flatten_grid(grid: Array) -> Array:
        """Return the grid, (K, N, P, axes)."""
        return grid.reshape(*grid.shape[:2], -1, grid.shape[-1])

    @staticmethod
    def _flatten_image(input: Array) -> Array:
        """Return the image, (K, N, C, elements)."""
        return input.reshape(*input.shape[:3], -1)

    def select_branch(self, input: Array, grid: Array) -> Array:
        """Return the piece of each coordinate, (K, N, P, axes, 3)."""
        return self._make_geometry(input).select_pieces(self._flatten_grid(grid))

    def _make_tables(self, branch: Array, input: Array, grid: Array) -> GridTables:
        return self._make_geometry(input).make_tables(branch, self._flatten_grid(grid))

    @staticmethod
    def _iterate_elements(tables: GridTables, lengths: Shape) -> Iterator[tuple[Array, Array, tuple[int, ...]]]:
        """Yield the flat index and the mask of each element around the places, and its number along each axis."""
        strides = np.cumprod([1, *lengths[:-1]])
        axes, count = tables.indices.shape[-2:]
        for numbers in product(range(count), repeat=axes):
            check_interrupt()
            chosen: Any = (..., np.arange(int(axes)), np.array(numbers))
            yield (
                (tables.indices[chosen] * strides).sum(axis=-1),
                np.logical_and.reduce(tables.is_inside[chosen], axis=-1),
                numbers,
            )

    @staticmethod
    def _multiply_weights(tables: GridTables, numbers: Sequence[int], sloped: int | None = None) -> Array:
        """Return the product of the weights of an element, with the slope in place of one of them, (K, N, P)."""
        total: Any = 1
        for axis, number in enumerate(numbers):
            total = total * (tables.slopes if axis == sloped else tables.weights)[..., axis, number]
        return total

    @staticmethod
    def _take(image: Array, indices: Array, is_inside: Array) -> Array:
        """Return the element of all channels, 0 outside, (K, N, C, P)."""
        taken = np.take_along_axis(image, indices[:, :, None], axis=-1)
        return np.where(is_inside[:, :, None], taken, image.dtype.type(0))

    def _sum_elements(self, tables: GridTables, image: Array, lengths: Shape, sloped: int | None = None) -> Array:
        """Return the sum of the elements times their weights, or times a slope, (K, N, C, P)."""
        total: Any = 0
        for indices, is_inside, numbers in self._iterate_elements(tables, lengths):
            weight = self._multiply_weights(tables, numbers, sloped)[:, :, None]
            total = total + weight * self._take(image, indices, is_inside)
        return total

    def forward_on_branch(self, branch: Array, input: Array, grid: Array) -> Array:
        tables, image = self._make_tables(branch, input, grid), self._flatten_image(input)
        output = self._sum_elements(tables, image, self._make_geometry(input).lengths)
        output = output.astype(np.result_type(input, grid), copy=False)
        return output.reshape(*output.shape[:3], *grid.shape[2:-1])

    def forward(self, input: Array, grid: Array) -> Array:
        return self.forward_on_branch(self.select_branch(input, grid), input, grid)

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        if self.mode == "nearest":
            return super().forward_with_errors(errors, *inputs)
        return Op.forward_with_errors(self, errors, *inputs)

    def mask_outputs(self, pieces: Array, shape: Shape) -> Array:
        by_place: Array = np.logical_or.reduce(pieces, axis=(-2, -1)).reshape(1, shape[0], 1, *shape[2:])
        return np.broadcast_to(by_place, (1, *shape))

    def measure_argument(self, position: int, array: Array) -> Array | None:
        # The place is a sum and a product: some roundings of the coordinate and 1.
        return 4 * (np.abs(array) + 1) if position == 1 else None

    def estimate_argument_error(self, errors: ErrorModel, array: Array) -> Array:
        return bound_moves(errors, errors(array, 2 * (np.abs(array) + 1)))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        # The elements around a place follow from the values of the grid, and reach is that of all values.
        input_labels, grid_labels = values
        assert input_labels is not None
        assert grid_labels is not None
        by_place = self._flatten_grid(grid_labels).min(axis=-1)[:, :, None]
        labels = np.minimum(by_place, self._flatten_image(input_labels).min(axis=-1, keepdims=True))
        return labels.reshape(*labels.shape[:3], *inputs[1].shape[2:-1])

    def backward(self, gradient: Array, output: Array, input: Array, grid: Array) -> Gradients:
        return self._backward_with_tables(
            self._make_tables(self.select_branch(input, grid), input, grid), gradient, input, grid
        )

    def _backward_with_tables(self, tables: GridTables, gradient: Array, input: Array, grid: Array) -> Gradients:
        g, image = gradient.reshape(*gradient.shape[:3], -1), self._flatten_image(input)
        lengths, tiles = self._make_geometry(input).lengths, max(len(gradient), len(input), len(grid))
        by_image = np.zeros((tiles, *image.shape[1:]), gradient.dtype)
        by_grid = np.zeros((tiles, *self._flatten_grid(grid).shape[1:]), gradient.dtype)
        positions = np.ogrid[tuple(slice(length) for length in by_image.shape[:3])]
        for indices, is_inside, numbers in self._iterate_elements(tables, lengths):
            weight = np.where(is_inside, self._multiply_weights(tables, numbers), gradient.dtype.type(0))
            places: Any = (*(axis[..., None] for axis in positions), indices[:, :, None])
            np.add.at(by_image, places, weight[:, :, None] * g)
            products = (g * self._take(image, indices, is_inside)).sum(axis=2)
            for axis in range(len(lengths)):
                by_grid[..., axis] += self._multiply_weights(tables, numbers, axis) * products
        return by_image.reshape(tiles, *input.shape[1:]), by_grid.reshape(tiles, *grid.shape[1:])

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with errors, and with those of places that rounding may take to another cell.

        The slope of such a place jumps, and so does the element that nearest reads: they are not finite in the sweeps.
        A weight does not jump: the elements of the other cell are off by as much as the place moves.
        """
        by_input, by_grid = super().backward_with_errors(errors, gradient, output, *inputs)
        if self.mode == "bicubic":
            return by_input, by_grid
        assert by_input is not None
        assert by_grid is not None
        input, grid = inputs[0][:1], inputs[1][:1]
        own = self.select_branch(input, grid)
        slopes = self._backward_with_tables(self._make_tables(own, input, grid), gradient[:1], input, grid)[1]
        moves = bound_moves(errors, inputs[1]) + self.estimate_argument_error(errors, grid)
        for signs in product((-1.0, 1.0), repeat=grid.shape[-1]):
            other = self.select_branch(input, grid + np.array(signs) * moves)
            changed: Any = self.find_changed_pieces(own, other)
            is_other: Array = changed.any(axis=-1)
            if not is_other.any():
                continue
            moved = is_other.any(axis=-1).reshape(1, len(grid[0]), 1, *grid.shape[2:-1]) * np.abs(gradient[:1])
            left, reached = (
                self._backward_with_tables(self._bound_tables(piece, input, grid), moved, input, grid)[0]
                for piece in (own, other)
            )
            _, others = self._backward_with_tables(self._make_tables(other, input, grid), gradient[:1], input, grid)
            assert left is not None
            assert reached is not None
            if self.mode == "nearest":
                by_input = _mark_uncertain(by_input, (left != 0) | (reached != 0))
            else:
                by_input = errors(by_input, reached)
            has_jump: Any = is_other.reshape(grid.shape) & np.not_equal(cast("Any", others), cast("Any", slopes))
            by_grid = _mark_uncertain(by_grid, has_jump)
        return by_input, by_grid

    def list_subgradient_choices(
        self, input_errors: Sequence[Array | None], input: Array, grid: Array
    ) -> SubgradientChoices | None:
        """Return the choice between the slopes of the cells on both sides, at the border of a cell.

        Each output has one for each coordinate of its place. Bicubic interpolation has no kink.
        """
        if self.mode != "bilinear":
            return None
        assert input_errors[1] is not None
        input, grid = input[:1], grid[:1]
        geometry = self._make_geometry(input)
        places = self._flatten_grid(grid)
        errors = np.broadcast_to(input_errors[1][:1], grid.shape).reshape(places.shape)
        reach = errors + 4 * np.spacing(np.abs(places) + 1)
        own, low, high = (geometry.select_pieces(places + step * reach) for step in (0, -1, 1))
        is_near = (low != high).any(axis=-1)
        u = geometry.find_places(places)
        image, lengths = self._flatten_image(input), geometry.lengths
        channels = image.shape[2]
        choices: list[SubgradientChoices | None] = []
        for axis in range(len(lengths)):
            samples, positions = np.nonzero(is_near[0, :, :, axis])
            slopes = [
                self._sum_elements(geometry.make_tables(_replace_axis(own, side, axis), places), image, lengths, axis)
                for side in (low, high)
            ]
            sides = [slope[0, samples, :, positions] for slope in slopes]
            numbers = np.arange(int(channels))
            outputs = (samples[:, None] * channels + numbers) * places.shape[2] + positions[:, None]
            elements = (samples * places.shape[2] + positions) * len(lengths) + axis
            elements = np.broadcast_to(elements[:, None], outputs.shape).ravel()
            is_high = (own == high).all(axis=-1)[0, samples, positions, axis]
            is_tie = (u == np.rint(u))[0, samples, positions, axis]
            choices.append(
                choose_between_derivatives(
                    outputs.ravel(),
                    np.repeat(is_high * 1.0, channels),
                    np.repeat(is_tie, channels),
                    [(1, elements, sides[0].ravel())],
                    [(1, elements, sides[1].ravel())],
                )
            )
        return merge_choices(choices)

    def _bound_tables(self, branch: Array, input: Array, grid: Array) -> GridTables:
        tables = self._make_tables(branch, input, grid)
        return self._make_geometry(input).bound_errors(tables, self._flatten_grid(grid))

    def _count_elements(self, grid: Array) -> int:
        return self._make_geometry_count() ** int(grid.shape[-1])

    def _make_geometry_count(self) -> int:
        return GridGeometry((), self.mode, self.padding_mode, bool(self.align_corners)).element_count

    def estimate_forward_rounding(self, output: Array, input: Array, grid: Array) -> Rounding | None:
        if self.mode == "nearest":
            return None
        return self.estimate_rounding_on_branch(self.select_branch(input, grid), output, input, grid)

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array, grid: Array) -> Rounding | None:
        if self.mode == "nearest":
            return None
        image = self._flatten_image(np.abs(input))
        tables = self._bound_tables(branch, input, grid)
        magnitude = self._sum_elements(tables, image, self._make_geometry(input).lengths)
        return Rounding(magnitude.reshape(*magnitude.shape[:3], *grid.shape[2:-1]), self._count_elements(grid) + 4)

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, grid: Array
    ) -> tuple[Rounding | None, ...]:
        tables = self._bound_tables(self.select_branch(input, grid), input, grid)
        by_input, by_grid = self._backward_with_tables(tables, np.abs(gradient), np.abs(input), grid)
        assert by_input is not None
        assert by_grid is not None
        terms = self._count_elements(grid)
        return Rounding(by_input, count_elements(grid.shape[2:-1]) + 4), Rounding(by_grid, terms * input.shape[2] + 4)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        assert shapes[0] is not None
        assert shapes[1] is not None
        elements = self._make_geometry_count() ** shapes[1][-1]
        coordinates = count_elements(shapes[1])
        calls = _CALLS_PER_ELEMENT * elements + _CALLS_PER_GRID
        work = _CALLS_PER_ELEMENT * elements * count_elements(output) + _CALLS_PER_GRID * coordinates
        table = coordinates * self._make_geometry_count()
        return ComputeCost(work, max(count_elements(output), count_elements(shapes[0]), table), calls)

    @declare_bug("the axes of the coordinates were taken in the order of the image")
    def axes_permuted(self, gradient: Array, output: Array, input: Array, grid: Array) -> Gradients:
        by_input, by_grid = self.backward(gradient, output, input, grid)
        assert by_grid is not None
        return by_input, np.flip(by_grid, axis=-1)

    @declare_bug("the gradient of the grid was that by places in elements: the size of the image was left out")
    def size_forgotten(self, gradient: Array, output: Array, input: Array, grid: Array) -> Gradients:
        by_input, by_grid = self.backward(gradient, output, input, grid)
        assert by_grid is not None
        scales = self._make_geometry(input).get_scales(by_grid.dtype)
        return by_input, by_grid / np.where(np.equal(scales, 0), 1, scales)

    @declare_bug_named(
        "scatter_without_accumulate", "of the gradients of an element that several places read, one is left"
    )
    def keep_last_place(self, gradient: Array, output: Array, input: Array, grid: Array) -> Gradients:
        tables = self._make_tables(self.select_branch(input, grid), input, grid)
        g, image = gradient.reshape(*gradient.shape[:3], -1), self._flatten_image(input)
        by_image = np.zeros((max(len(gradient), len(input), len(grid)), *image.shape[1:]), gradient.dtype)
        positions = np.ogrid[tuple(slice(length) for length in by_image.shape[:3])]
        for indices, is_inside, numbers in self._iterate_elements(tables, self._make_geometry(input).lengths):
            weight = np.where(is_inside, self._multiply_weights(tables, numbers), 0)
            places: Any = (*(axis[..., None] for axis in positions), indices[:, :, None])
            by_image[places] = weight[:, :, None] * g
        return by_image.reshape(len(by_image), *input.shape[1:]), self.backward(gradient, output, input, grid)[1]

    def torch_forward(self, torch: Any, input: Any, grid: Any) -> Any:
        wide_input, wide_grid = widen_half(torch, input, grid)
        output = torch.nn.functional.grid_sample(
            wide_input, wide_grid, self.mode, self.padding_mode, bool(self.align_corners)
        )
        return output.to(input.dtype)


def _mark_uncertain(array: Array, is_uncertain: Array) -> Array:
    """Return an array that is not finite in the sweeps at some of its elements."""
    return np.concatenate([array[:1], np.where(is_uncertain, np.nan, array[1:])])


def _replace_axis(pieces: Array, side: Array, axis: int) -> Array:
    """Return pieces with those of one axis on another side."""
    replaced = pieces.copy()
    replaced[..., axis, :] = side[..., axis, :]
    return replaced
