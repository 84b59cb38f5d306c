"""Moves of a tensor along directions: no op of the model language, and in no registry; differences alone look at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape, broadcast_batch, count_elements
from service.numerics.core.sparsity import take_elementwise_min, take_min_over_elements
from service.numerics.ops.op import ComputeCost, DependencyLabels, Gradients, Op, OpBug, OpExample, Rounding, Slot


@dataclass(frozen=True, kw_only=True)
class DirectionalMove(Op):
    """y = x + u sum_j t_j d_j of moves t, (k,); the directions d_j, (k, *shape), and the unit u are its own."""

    directions: Array = field(repr=False, compare=False)
    unit: float = 1.0

    name: ClassVar[str] = "along"
    inputs: ClassVar[tuple[str, ...]] = ("input", "moves")
    slots: ClassVar[tuple[Slot, ...]] = tuple(map(Slot.parse, ("input", "moves")))
    examples: ClassVar[tuple[OpExample, ...]] = ()
    bugs: ClassVar[Mapping[str, OpBug]] = MappingProxyType({})
    linear_in: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({"input": ("moves",), "moves": ("input",)})

    def output_shape(self, input: Shape, moves: Shape) -> Shape:
        return input

    def forward(self, input: Array, moves: Array) -> Array:
        used = np.flatnonzero(moves.any(axis=0))
        if not used.size:
            return broadcast_batch(input, max(len(input), len(moves)))
        # Most often one direction moves: no copy is made of the others.
        chosen = self.directions if used.size == len(self.directions) else self.directions[used]
        moved = (self.unit * moves[:, used]) @ chosen.reshape(used.size, -1)
        return input + moved.reshape(-1, *input.shape[1:])

    def linear_response(self, position: int, direction: Array, *inputs: Any) -> Array:
        input, _ = inputs
        return self.forward(np.zeros_like(input), direction) if position else direction

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        of_input, of_moves = values
        assert of_input is not None
        assert of_moves is not None
        return take_elementwise_min(of_input, take_min_over_elements(of_moves).reshape(-1, *(1,) * (of_input.ndim - 1)))

    def forward_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        _, moves = inputs
        return Rounding(np.abs(output), 1) if moves.any() else None

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        return ComputeCost(2 * count_elements(output), count_elements(output))

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        raise NotImplementedError("no gradient is asked of it")

    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        raise NotImplementedError("PyTorch never sees it")
