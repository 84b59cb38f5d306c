"""Moves of a tensor along directions: no op of the model language, and in no registry; differences alone look at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from service.numerics.ops.op import Case, Cost, Gradients, Mutant, Op, Rounding, Slot, Spreading
from service.numerics.reach import joined, least_of_all
from service.numerics.tiles import Array, Shape, repeated, size


@dataclass(frozen=True, kw_only=True)
class Along(Op):
    """y = x + u sum_j t_j d_j of moves t, (k,); the directions d_j, (k, *shape), and the unit u are its own."""

    directions: Array = field(repr=False, compare=False)
    unit: float = 1.0

    name: ClassVar[str] = "along"
    inputs: ClassVar[tuple[str, ...]] = ("input", "moves")
    slots: ClassVar[tuple[Slot, ...]] = tuple(map(Slot.parse, ("input", "moves")))
    cases: ClassVar[tuple[Case, ...]] = ()
    mutants: ClassVar[Mapping[str, Mutant]] = MappingProxyType({})
    linear_in: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({"input": ("moves",), "moves": ("input",)})

    def output_shape(self, input: Shape, moves: Shape) -> Shape:
        return input

    def forward(self, input: Array, moves: Array) -> Array:
        used = np.flatnonzero(moves.any(axis=0))
        if not used.size:
            return repeated(input, max(len(input), len(moves)))
        # Most often one direction moves: no copy is made of the others.
        chosen = self.directions if used.size == len(self.directions) else self.directions[used]
        moved = (self.unit * moves[:, used]) @ chosen.reshape(used.size, -1)
        return input + moved.reshape(-1, *input.shape[1:])

    def response(self, position: int, direction: Array, *inputs: Any) -> Array:
        input, _ = inputs
        return self.forward(np.zeros_like(input), direction) if position else direction

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        of_input, of_moves = values
        assert of_input is not None
        assert of_moves is not None
        return joined(of_input, least_of_all(of_moves).reshape(-1, *(1,) * (of_input.ndim - 1)))

    def rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        _, moves = inputs
        return Rounding(np.abs(output), 1) if moves.any() else None

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        return Cost(2 * size(output), size(output))

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        raise NotImplementedError("no gradient is asked of it")

    def twin(self, torch: Any, *inputs: Any) -> Any:
        raise NotImplementedError("PyTorch never sees it")
