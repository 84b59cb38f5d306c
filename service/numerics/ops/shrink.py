"""Thresholds: functions of straight pieces, most of whose values jump."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt

from service.numerics.core.batching import Array
from service.numerics.ops.jumps import JumpingOp
from service.numerics.ops.op import Gradients, Op, OpExample, declare_bug, register_op
from service.numerics.ops.piecewise_activation import StraightPieces
from service.numerics.ops.rounding_errors import Rounding


@register_op("softshrink")
class Softshrink(StraightPieces):
    """Soft threshold: y = x - l where x > l, x + l where x < -l, else 0.

    l = lambd. dL/dx = g where abs(x) > l, else 0.
    """

    numpy_calls = 9
    lambd: Annotated[float, Gt(0)] = 0.5

    kinks_belong_right = (True, False)
    examples = (OpExample(((3, 4),)), OpExample(((6,),), {"lambd": 0.3}), OpExample(((),), low=1, high=2))

    @property
    def kink_positions(self) -> tuple[float, ...]:
        return (-self.lambd, self.lambd)

    @property
    def pieces(self) -> Sequence[tuple[float, float]]:
        return ((1.0, self.lambd), (0.0, 0.0), (1.0, -self.lambd))

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        return dataclasses.replace(self, lambd=nearest(self.lambd))

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return np.abs(y)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return np.zeros_like(x)

    @declare_bug("the piece below the lower threshold was treated as constant")
    def lower_piece_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (input > self.lambd),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.softshrink(input, self.lambd)


class JumpingPieces(JumpingOp, StraightPieces):
    """A function of straight pieces whose value jumps."""

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> None:
        """Return None: a jump has no choice of slopes."""

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array) -> Rounding | None:
        return self.estimate_forward_rounding(output, input)


@register_op("hardshrink")
class Hardshrink(JumpingPieces):
    """Hard threshold: y = x where abs(x) > l, else 0.

    l = lambd. dL/dx = g where abs(x) > l, else 0. The value jumps by l at the thresholds.
    """

    numpy_calls = 9
    lambd: float = 0.5

    rounds_nothing = True
    kinks_belong_right = (True, False)
    examples = (OpExample(((3, 4),)), OpExample(((6,),), {"lambd": 0.3}), OpExample(((),), low=1, high=2))

    @property
    def kink_positions(self) -> tuple[float, ...]:
        return (-self.lambd, self.lambd)

    @property
    def pieces(self) -> Sequence[tuple[float, float]]:
        return ((1.0, 0.0), (0.0, 0.0), (1.0, 0.0))

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        return dataclasses.replace(self, lambd=nearest(self.lambd))

    @declare_bug("the piece below the lower threshold was treated as constant")
    def lower_piece_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (input > self.lambd),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.hardshrink(input, self.lambd)


@register_op("threshold")
class Threshold(JumpingPieces):
    """Threshold: y = x where x > t, else v.

    t = threshold, v = value. dL/dx = g where x > t, else 0. The value jumps by t - v at the threshold.
    """

    numpy_calls = 7
    threshold: float
    value: float

    rounds_nothing = True
    kinks_belong_right = (False,)
    examples = (
        OpExample(((3, 4),), {"threshold": 0.1, "value": -0.7}),
        OpExample(((6,),), {"threshold": -0.3, "value": 2.0}),
        OpExample(((),), {"threshold": 1.0, "value": 1.0}, low=1.1, high=2),
    )

    @property
    def kink_positions(self) -> tuple[float, ...]:
        return (self.threshold,)

    @property
    def pieces(self) -> Sequence[tuple[float, float]]:
        return ((0.0, self.value), (1.0, 0.0))

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        return dataclasses.replace(self, threshold=nearest(self.threshold), value=nearest(self.value))

    @declare_bug("the threshold was taken as 0, as in relu")
    def threshold_of_zero(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (input > 0),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.threshold(input, self.threshold, self.value)
