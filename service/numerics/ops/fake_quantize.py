"""Rounding to the levels of a quantised number, with a declared straight-through derivative."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le, Len

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.elementwise import UnaryOp
from service.numerics.ops.jumps import bound_moves
from service.numerics.ops.op import Gradients, Op, OpExample, ShapeError, declare_bug, declare_bug_named, register_op
from service.numerics.ops.rounding_errors import ErrorModel, Rounding
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives

Scale = Annotated[float, Gt(0)]
Level = Annotated[int, Ge(-(2**31)), Le(2**31 - 1)]


@register_op("fake_quantize")
class FakeQuantize(UnaryOp):
    """Nearest level of a quantised number: y = s (min(max(n, quant_min), quant_max) - z), n = round(x / s) + z.

    s = scale and z = zero_point are numbers, or lists with one for each index of `axis`. Halves round to the even
    neighbour. The derivative is a declared one, not that of the steps, which is 0:
        dL/dx = g where quant_min <= n <= quant_max, else 0
    So it is in PyTorch. It is the derivative of t(x) = x + (y0 - x0), the residual y0 - x0 of the rounding at the point
    held constant. Differences are those of t: a candidate is held against this declaration. The ends of the range are
    kinks, half a step beyond the last levels.
    """

    scale: Scale | Annotated[list[Scale], Len(1)]
    zero_point: Level | Annotated[list[Level], Len(1)] = 0
    quant_min: Level = -128
    quant_max: Level = 127
    axis: Annotated[int, Ge(-32), Le(31)] = 0

    numpy_calls = 12
    positional = ("input", "scale", "zero_point", "quant_min", "quant_max")
    examples = (
        OpExample(((3, 4),), {"scale": 0.25, "quant_min": -4, "quant_max": 3}),
        OpExample(
            ((2, 3),), {"scale": [0.1, 0.3, 0.5], "zero_point": [1, -2, 0], "axis": -1, "quant_min": -8, "quant_max": 7}
        ),
        OpExample(((),), {"scale": 0.07, "zero_point": 3, "quant_min": 0, "quant_max": 255}, low=0.3, high=0.6),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        if self.quant_min >= self.quant_max:
            raise ShapeError(f"a quant_min below its quant_max, not {self.quant_min} and {self.quant_max}")
        for name, numbers in (("scale", self.scale), ("zero_point", self.zero_point)):
            if not isinstance(numbers, list):
                continue
            if not input:
                raise ShapeError(f"an input with axes for a list as its {name}")
            length = input[normalize_axis(self.axis, len(input))]
            if len(numbers) != length:
                raise ShapeError(
                    f"a number or a list of {length} numbers as its {name}, one for each index of the axis"
                )
        return input

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        scales = [nearest(scale) for scale in self.scale] if isinstance(self.scale, list) else nearest(self.scale)
        return dataclasses.replace(self, scale=scales)

    def _place_along_axis(self, numbers: Any, input: Array) -> Array:
        """Return a number, or the numbers along the axis, broadcastable to the input."""
        placed = np.asarray(numbers, input.dtype)
        if not placed.ndim:
            return placed
        axes = [1] * (input.ndim - 1)
        axes[self.axis] = -1
        return placed.reshape(1, *axes)

    def _find_levels(self, input: Array) -> Array:
        """Return n, which may lie beyond the range."""
        return np.rint(input / self._place_along_axis(self.scale, input)) + self._place_along_axis(
            self.zero_point, input
        )

    def _find_pieces(self, input: Array) -> Array:
        """Return -1 below the range, 0 inside and 1 above."""
        levels = self._find_levels(input)
        return (levels > self.quant_max).astype(np.int8) - (levels < self.quant_min)

    def forward(self, input: Array) -> Array:
        levels = np.clip(self._find_levels(input), self.quant_min, self.quant_max)
        return (levels - self._place_along_axis(self.zero_point, input)) * self._place_along_axis(self.scale, input)

    def select_branch(self, input: Array) -> Array:
        """Return the piece of each element as real part, and as imaginary part the constant of its continuation.

        That is y0 - x0 inside the range and y0 beside it.
        """
        pieces, output = self._find_pieces(input), self.forward(input)
        return pieces + 1j * np.where(pieces == 0, output - input, output)

    def find_changed_pieces(self, branch: Array, other: Array) -> Array:
        return np.real(branch) != np.real(other)

    def select_branch_beside(self, branch: Array, *inputs: Any) -> Array:
        """Return the pieces at the inputs, each continued from the point at which `branch` was selected.

        An element that enters the range continues from the end that it passes.
        """
        (input,) = inputs
        pieces, scale = self._find_pieces(input), self._place_along_axis(self.scale, input)
        entered = np.where(np.real(branch) == 0, np.imag(branch), -0.5 * np.sign(np.real(branch)) * scale)
        return pieces + 1j * np.where(pieces == 0, entered, self.forward(input))

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        constants = np.imag(branch)
        return np.where(np.real(branch) == 0, input + constants, constants).astype(input.dtype, copy=False)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return (self._find_pieces(x) == 0).astype(x.dtype)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return np.zeros_like(x)

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array) -> Rounding:
        return Rounding(np.abs(input) + np.abs(output), 1)

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Return the choice between 0 and 1 of each element that may lie at an end of the range."""
        assert input_errors[0] is not None
        scale, zero = (
            np.broadcast_to(self._place_along_axis(number, input), input.shape).ravel() for number in self._constants
        )
        x, errors = input.ravel(), np.broadcast_to(input_errors[0], input.shape).ravel()
        distances = [np.abs(x - (level - zero) * scale) for level in (self.quant_min - 0.5, self.quant_max + 0.5)]
        distance = np.minimum(*distances)
        positions = np.flatnonzero(distance <= errors + 2 * np.spacing(np.abs(x)))
        slopes = self.evaluate_derivative(input, input).ravel()[positions]
        return choose_between_derivatives(
            positions, slopes, distance[positions] == 0, [(0, positions, 0.0)], [(0, positions, 1.0)]
        )

    @property
    def _constants(self) -> tuple[Any, Any]:
        return self.scale, self.zero_point

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        """Return the output with its rounding, not finite where the errors of x may choose another level.

        A program rounds x / s, or x times the rounded 1 / s, before it chooses a level.
        """
        (input,) = inputs
        point = input[:1]
        levels = self._find_levels(point)
        output = errors.add_rounding_error(self.forward(point), Rounding(np.abs(self.forward(point)), 1))
        move = bound_moves(errors, input) + bound_moves(errors, errors(point, 2 * np.abs(point)))
        ends = [np.clip(self._find_levels(point + sign * move), *self._range) for sign in (-1, 1)]
        is_uncertain = (ends[0] != ends[1]) & ~np.isnan(levels)
        if is_uncertain.any():
            output = np.broadcast_to(output, (len(errors(point)), *output.shape[1:]))
            output = np.concatenate([output[:1], np.where(is_uncertain, np.nan, output[1:])])
        return output

    @property
    def _range(self) -> tuple[int, int]:
        return self.quant_min, self.quant_max

    @declare_bug("the gradient was passed on outside the range, too")
    def passed_outside_the_range(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient,)

    missing_activation_derivative = passed_outside_the_range

    @declare_bug_named("detached", "the rounding was differentiated, as 0")
    def rounding_differentiated(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (0 * gradient,)

    @declare_bug("the gradient was multiplied by the scale")
    def times_the_scale(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._differentiate(gradient, output, input) * self._place_along_axis(self.scale, input),)

    @declare_bug("the gradient was divided by the scale")
    def divided_by_the_scale(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._differentiate(gradient, output, input) / self._place_along_axis(self.scale, input),)

    def _differentiate(self, gradient: Array, output: Array, input: Array) -> Array:
        return gradient * self.evaluate_derivative(input, output)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        scale, zero = (
            torch.as_tensor(self._place_along_axis(number, np.empty((1, *input.shape)))[0], dtype=input.dtype)
            if isinstance(number, list)
            else number
            for number in self._constants
        )
        levels = torch.round(input.detach() / scale) + zero
        is_inside = (levels >= self.quant_min) & (levels <= self.quant_max)
        output = (levels.clamp(self.quant_min, self.quant_max) - zero) * scale
        return output + torch.where(is_inside, input - input.detach(), 0)
