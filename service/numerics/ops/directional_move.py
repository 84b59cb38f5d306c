"""Moves of a tensor along directions.

The op is no part of the model language, and in no registry: only differences use it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape, broadcast_batch, count_elements
from service.numerics.core.sparsity import take_elementwise_min, take_min_over_elements
from service.numerics.ops.op import ComputeCost, DependencyLabels, Gradients, Op, OpBug, OpExample, Rounding, Slot


@dataclass(frozen=True, kw_only=True)
class DirectionalMove(Op):
    """A move y = x + u sum_j t_j d_j by moves t, (k,), at 0.

    The directions d_j, (k, *shape), and the unit u are attributes.
    """

    directions: Array = field(repr=False, compare=False)
    unit: float = 1.0

    name: ClassVar[str] = "along"
    inputs: ClassVar[tuple[str, ...]] = ("input", "moves")
    slots: ClassVar[tuple[Slot, ...]] = tuple(map(Slot.parse, ("input", "moves")))
    examples: ClassVar[tuple[OpExample, ...]] = ()
    bugs: ClassVar[Mapping[str, OpBug]] = MappingProxyType({})
    linear_in: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({"input": ("moves",), "moves": ("input",)})

    def infer_output_shape(self, input: Shape, moves: Shape) -> Shape:
        return input

    def forward(self, input: Array, moves: Array) -> Array:
        active_directions = np.flatnonzero(moves.any(axis=0))
        if not active_directions.size:
            return broadcast_batch(input, max(len(input), len(moves)))
        # Most often one direction moves: the others need no copy.
        chosen = (
            self.directions if active_directions.size == len(self.directions) else self.directions[active_directions]
        )
        move_sums = (self.unit * moves[:, active_directions]) @ chosen.reshape(active_directions.size, -1)
        return input + move_sums.reshape(-1, *input.shape[1:])

    def compute_linear_response(self, position: int, direction: Array, *inputs: Any) -> Array:
        input, _ = inputs
        if not position:
            return direction
        if len(self.directions) > 1:
            return self.forward(np.zeros_like(input), direction)
        moves = (self.unit * direction).reshape(-1, *(1,) * (input.ndim - 1))
        return moves * self.directions

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, move_labels = values
        assert input_labels is not None
        assert move_labels is not None
        return take_elementwise_min(
            input_labels, take_min_over_elements(move_labels).reshape(-1, *(1,) * (input_labels.ndim - 1))
        )

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        _, moves = inputs
        return Rounding(np.abs(output), 1) if moves.any() else None

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        return ComputeCost(2 * count_elements(output), count_elements(output))

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradient itself for the tensor, and u d_j . g for each move."""
        products = gradient.reshape(len(gradient), -1) @ self.directions.reshape(len(self.directions), -1).T
        return gradient, self.unit * products

    def backward_for(self, wanted: Sequence[bool], gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self.backward(gradient, output, *inputs) if wanted[1] else (gradient, None)

    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        raise NotImplementedError("a move is only differenced, and has no counterpart in PyTorch")
