"""Activations made of straight pieces, and of a straight and a curved one."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.elementwise import PiecewiseUnary
from service.numerics.ops.multipliers import Multiplier, declare_factor
from service.numerics.ops.op import Gradients, Op, OpExample, ShapeError, declare_bug, register_op
from service.numerics.ops.pointwise import SingleConstantUnary, find_torch_function


class StraightPieces(PiecewiseUnary):
    """A function of straight pieces between its kinks.

    The pieces are numbered from the left. An element at a kink is on the piece that `kinks_belong_right` names.
    """

    kinks_belong_right: ClassVar[tuple[bool, ...]]
    """True for each kink whose slope, by PyTorch, is that of the piece on its right."""

    @property
    def pieces(self) -> Sequence[tuple[float, float]]:
        """Return slope and value at 0 of each piece, from the left."""
        raise NotImplementedError

    def select_branch(self, input: Array) -> Array:
        branch = np.zeros(input.shape, np.int8)
        for kink, belongs_right in zip(self.kink_positions, self.kinks_belong_right, strict=True):
            branch += input >= kink if belongs_right else input > kink
        # NaN is on a piece of its own, and stays NaN.
        return np.where(np.isnan(input), -1, branch)

    def _select_numbers(self, branch: Array, position: int, dtype: Any) -> Array:
        table = np.array([*(piece[position] for piece in self.pieces), np.nan]).astype(dtype)
        return table[branch]

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        slope, offset = (self._select_numbers(branch, position, input.dtype) for position in (0, 1))
        # 0 times infinity is no number.
        return np.where(slope == 0, 0, input) * slope + offset

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return self._select_numbers(self.select_branch(x), 0, x.dtype)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return find_torch_function(torch, "nn.functional", self.name)(input)


@register_op("relu6")
class Relu6(StraightPieces):
    """Rectified linear unit with a limit: y = min(max(x, 0), 6). dL/dx = g where 0 < x < 6, else 0."""

    numpy_calls = 9
    rounds_nothing = True
    kinks_belong_right = (False, True)
    examples = (OpExample(((3, 4),)), OpExample(((6,),), low=-2, high=9), OpExample(((),), low=1, high=5))

    @property
    def kink_positions(self) -> tuple[float, ...]:
        return (0.0, 6.0)

    @property
    def pieces(self) -> Sequence[tuple[float, float]]:
        return ((0.0, 0.0), (1.0, 0.0), (0.0, 6.0))

    @declare_bug("the limit at 6 was left out")
    def limit_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (input > 0),)


@register_op("hardtanh")
class Hardtanh(StraightPieces):
    """Straight tanh: y = min(max(x, a), b) with a = min_val, b = max_val. dL/dx = g where a < x < b, else 0."""

    numpy_calls = 9
    min_val: float = -1.0
    max_val: float = 1.0

    rounds_nothing = True
    kinks_belong_right = (False, True)
    examples = (OpExample(((3, 4),)), OpExample(((6,),), {"min_val": -0.5, "max_val": 1.5}), OpExample(((),), low=-0.9))

    def infer_output_shape(self, input: Shape) -> Shape:
        if self.min_val > self.max_val:
            raise ShapeError("a min_val that is not larger than max_val")
        return input

    @property
    def kink_positions(self) -> tuple[float, ...]:
        return (self.min_val, self.max_val)

    @property
    def pieces(self) -> Sequence[tuple[float, float]]:
        return ((0.0, self.min_val), (1.0, 0.0), (0.0, self.max_val))

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        return dataclasses.replace(self, min_val=nearest(self.min_val), max_val=nearest(self.max_val))

    @declare_bug("the lower limit was left out")
    def lower_limit_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (input < self.max_val),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.hardtanh(input, self.min_val, self.max_val)


@register_op("hardsigmoid")
class Hardsigmoid(SingleConstantUnary, StraightPieces):
    """Straight sigmoid: y = min(max(x / 6 + 1/2, 0), 1). dL/dx = g / 6 where -3 < x < 3, else 0."""

    numpy_calls = 9
    kinks_belong_right = (False, True)
    examples = (OpExample(((3, 4),)), OpExample(((6,),), low=-5, high=5), OpExample(((),)))

    @property
    def kink_positions(self) -> tuple[float, ...]:
        return (-3.0, 3.0)

    @property
    def pieces(self) -> Sequence[tuple[float, float]]:
        return ((0.0, 0.0), (1 / 6, 0.5), (0.0, 1.0))

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return np.where(np.abs(x) < 3, 0.5 + np.abs(x) / 6, 0)

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(1 / 6)._replace(applies_at=np.abs(input) < 3, location_note=" between -3 and 3")]

    def estimate_constant_error(self, x: Array, y: Array) -> Array:
        return np.where(np.abs(x) < 3, abs(float(np.float32(1 / 6)) - 1 / 6), 0).astype(x.dtype, copy=False)

    @declare_bug("the factor 1/6 was left out")
    def factor_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (np.abs(input) < 3),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        # The backward pass of hardsigmoid itself computes with 1/6 in single precision.
        return torch.nn.functional.relu6(input + 3) / 6

    @declare_bug("the formula y (1 - y) of the smooth sigmoid was used")
    def smooth_slope(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output * (1 - output),)


@register_op("hardswish")
class Hardswish(PiecewiseUnary):
    """Straight swish: y = x min(max(x / 6 + 1/2, 0), 1).

    dL/dx = 0 where x <= -3, g where x >= 3, and g (x / 3 + 1/2) between.
    """

    numpy_calls = 9
    examples = (OpExample(((3, 4),)), OpExample(((6,),), low=-5, high=5), OpExample(((),)))

    @property
    def kink_positions(self) -> tuple[float, ...]:
        return (-3.0, 3.0)

    def select_branch(self, input: Array) -> Array:
        return (input >= 3).astype(np.int8) - (input <= -3).astype(np.int8)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        # The piece at the left takes no part of an infinite input.
        curved = np.where(branch == 0, input, 0)
        straight = np.where(branch > 0, input, 0)
        return (straight + curved * (curved + 3) / 6).astype(input.dtype, copy=False)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        branch = self.select_branch(x)
        return np.select([branch > 0, branch < 0], [1, 0], x / 3 + 0.5).astype(x.dtype, copy=False)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return np.where(np.abs(x) < 3, np.abs(x) * (np.abs(x) + 3) / 6, 0)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return np.where(np.abs(x) < 3, np.abs(x) / 3 + 0.5, 0)

    @declare_bug("only the first factor of the product was differentiated")
    def product_rule_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.clip(input / 6 + 0.5, 0, 1),)

    @declare_bug("the square was differentiated without its factor 2")
    def factor_of_the_square(self, gradient: Array, output: Array, input: Array) -> Gradients:
        slope = np.where(np.abs(input) < 3, input / 6 + 0.5, input > 0)
        return (gradient * slope,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.hardswish(input)


@register_op("rrelu")
class Rrelu(StraightPieces):
    """Randomised leaky rectifier as in evaluation: y = x where x > 0, else a x.

    a = (lower + upper) / 2 is the mean of the slopes. dL/dx = g, or a g.
    """

    numpy_calls = 7
    lower: float = 1 / 8
    upper: float = 1 / 3

    kinks_belong_right = (False,)
    examples = (OpExample(((3, 4),)), OpExample(((6,),), {"lower": 0.2, "upper": 0.6}), OpExample(((),)))

    def infer_output_shape(self, input: Shape) -> Shape:
        if self.lower > self.upper:
            raise ShapeError("a lower slope that is not larger than the upper one")
        return input

    @property
    def _slope(self) -> float:
        return (self.lower + self.upper) / 2

    @property
    def pieces(self) -> Sequence[tuple[float, float]]:
        return ((self._slope, 0.0), (1.0, 0.0))

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(self._slope, "slope")._replace(applies_at=~(input > 0), location_note=" below 0")]

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, 0, np.abs(y))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, 0, abs(self._slope))

    @declare_bug("the slope was that of the lower end in place of the mean")
    def slope_of_the_end(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.where(input > 0, 1, self.lower),)

    @declare_bug("the slope below 0 was treated as 0")
    def zero_below(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (input > 0),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.rrelu(input, self.lower, self.upper, training=False)
