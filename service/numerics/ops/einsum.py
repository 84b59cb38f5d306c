"""Sums of products, by an equation."""

import string
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.sparsity import drop_missing, take_elementwise_min
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    Rounding,
    ShapeError,
    declare_bug,
    get_declared_shapes,
    register_op,
)

_LETTERS = set(string.ascii_letters)
_ELLIPSIS = "..."
_MAX_LETTERS = 40


class _ParsedEquation(NamedTuple):
    """What an equation says of given shapes.

    Attributes
    ----------
    letters
        Of each operand: the ellipsis spelled out, and without the axes of length 1 that are broadcast.
    output
        Letters of the output.
    lengths
        Of the axes, by letter.
    """

    operand_letters: list[str]
    output_letters: str
    axis_lengths: dict[str, int]

    def drop_broadcast_axes(self, operands: Sequence[Array]) -> list[Array]:
        """Operands without the axes of length 1 that are broadcast."""
        return [
            each.reshape(each.shape[0], *(self.axis_lengths[letter] for letter in mine))
            for mine, each in zip(self.operand_letters, operands, strict=True)
        ]


@register_op("einsum")
class Einsum(Op):
    """y_out = sum over all other letters of a_... b_..., for an explicit equation of one or two operands.

    Each product a b contributes g a b with the g of its output element, so dL/da is the einsum of g and b onto the
    letters of a. A letter of a that stands in neither g nor b was summed by itself: its gradient is spread over it. A
    letter that a has twice picks the diagonal: off it the gradient is 0. Axes of length 1 are broadcast: they drop out
    of the letters of a. An ellipsis stands for as many letters as there are axes left, the last ones matched first.
    """

    equation: str

    multiplying_slots = MappingProxyType({"operands": "factor"})
    inputs = ("operands*",)
    supports_complex_step = True
    linear_in = MappingProxyType({"operands": ()})
    examples = (
        OpExample(((3, 4), (4, 5)), {"equation": "ij,jk->ik"}),
        OpExample(((2, 3, 4), (2, 4, 5)), {"equation": "bij,bjk->bki"}),
        OpExample(((3, 4), (5,)), {"equation": "ij,k->k"}),
        OpExample(((3, 3), (3, 2)), {"equation": "ii,ij->j"}),
        OpExample(((3, 4), (3, 4)), {"equation": "ij,ij->"}),
        OpExample(((2, 3, 4),), {"equation": "bij->jb"}),
        OpExample(((2, 1, 3, 4), (5, 4, 2)), {"equation": "...ij,...jk->...ki"}),
        OpExample(((3, 1), (4, 5)), {"equation": "ij,jk->ik"}),
        OpExample(((2, 3, 4), (4,)), {"equation": "...i,i->"}),
    )

    def _expand_ellipsis(self, shapes: Sequence[Shape]) -> tuple[list[str], str]:
        """Letters of each operand and of the output, the ellipsis spelled out."""
        left, arrow, output = self.equation.replace(" ", "").partition("->")
        sides = [*left.split(","), output]
        known = set("".join(each.replace(_ELLIPSIS, "", 1) for each in sides))
        if not arrow or not known <= _LETTERS:
            raise ShapeError('an explicit equation of letters, like "ij,jk->ik"')
        if len(sides) - 1 != len(shapes) or len(shapes) > 2:
            raise ShapeError(f"an equation of as many operands as are given, two at most; they are {len(shapes)}")
        covered = [len(shape) - len(side) + 3 for side, shape in zip(sides, shapes, strict=False) if _ELLIPSIS in side]
        most = max(0, *covered) if covered else 0
        if len(known) + most > _MAX_LETTERS:
            raise ShapeError(f"an equation of {_MAX_LETTERS} letters at most")
        spare = "".join(sorted(_LETTERS - known))[:most]
        letters = [
            side.replace(_ELLIPSIS, spare[most - max(0, len(shape) - len(side) + 3) :])
            for side, shape in zip(sides, shapes, strict=False)
        ]
        return letters, output.replace(_ELLIPSIS, spare)

    def _parse_equation(self, shapes: Sequence[Shape]) -> _ParsedEquation:
        letters, output = self._expand_ellipsis(shapes)
        if len(set(output)) < len(output) or not set(output) <= set("".join(letters)):
            raise ShapeError("an output whose letters are different and stand in an operand")
        lengths = self._letter_lengths(letters, shapes)
        kept = [
            "".join(letter for letter, length in zip(mine, shape, strict=True) if length == lengths[letter])
            for mine, shape in zip(letters, shapes, strict=True)
        ]
        return _ParsedEquation(kept, output, lengths)

    @staticmethod
    def _letter_lengths(letters: list[str], shapes: Sequence[Shape]) -> dict[str, int]:
        lengths: dict[str, int] = {}
        for mine, shape in zip(letters, shapes, strict=True):
            if len(mine) != len(shape):
                raise ShapeError(f"an operand with {len(mine)} axes for {mine!r}")
            own: dict[str, int] = {}
            for letter, length in zip(mine, shape, strict=True):
                known = lengths.get(letter, 1)
                if own.setdefault(letter, length) != length or (length != known and 1 not in (length, known)):
                    raise ShapeError(f"axes of one length for {letter!r}, or of length 1")
                lengths[letter] = max(known, length)
        return lengths

    def output_shape(self, *shapes: Shape) -> Shape:
        parts = self._parse_equation(shapes)
        return tuple(parts.axis_lengths[letter] for letter in parts.output_letters)

    def _evaluate_einsum(self, letters: list[str], output: str, *arrays: Array) -> Array:
        tile = min(_LETTERS - set("".join(letters)) - set(output))
        tiles = max(array.shape[0] for array in arrays)
        if any(array.shape[0] != tiles for array in arrays):
            arrays = tuple(np.broadcast_to(array, (tiles, *array.shape[1:])) for array in arrays)
        equation = ",".join(tile + each for each in letters) + "->" + tile + output
        return np.einsum(equation, *arrays, optimize=True)

    def forward(self, *operands: Array) -> Array:
        parts = self._parse_equation(get_declared_shapes(operands))
        return self._evaluate_einsum(parts.operand_letters, parts.output_letters, *parts.drop_broadcast_axes(operands))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        parts = self._parse_equation(get_declared_shapes(inputs))
        plain = parts.drop_broadcast_axes(drop_missing(values))
        return take_elementwise_min(
            *(
                _take_min_onto_output(parts.output_letters, mine, each)
                for mine, each in zip(parts.operand_letters, plain, strict=True)
            )
        )

    def backward(self, gradient: Array, output: Array, *operands: Array) -> Gradients:
        parts = self._parse_equation(get_declared_shapes(operands))
        plain = parts.drop_broadcast_axes(operands)
        shares = (
            self._operand_gradient(gradient, parts.output_letters, position, parts.operand_letters, plain)
            for position in range(len(plain))
        )
        return tuple(
            share.reshape(share.shape[0], *each.shape[1:]) for share, each in zip(shares, operands, strict=True)
        )

    def _operand_gradient(
        self, gradient: Array, out: str, position: int, letters: list[str], operands: Sequence[Array]
    ) -> Array:
        mine = "".join(dict.fromkeys(letters[position]))
        others = [each for i, each in enumerate(letters) if i != position]
        arrays = [each for i, each in enumerate(operands) if i != position]
        reached = "".join(letter for letter in mine if letter in out or any(letter in each for each in others))
        share = self._evaluate_einsum([out, *others], reached, gradient, *arrays)
        lengths = dict(zip(letters[position], operands[position].shape[1:], strict=True))
        spread = share.reshape(share.shape[0], *(lengths[each] if each in reached else 1 for each in mine))
        by_operand = np.zeros((share.shape[0], *operands[position].shape[1:]), dtype=gradient.dtype)
        np.einsum(f"...{letters[position]}->...{mine}", by_operand)[...] = spread
        return by_operand

    def forward_rounding(self, output: Array, *operands: Array) -> Rounding:
        products = self._count_products(get_declared_shapes(operands))
        return Rounding(self.forward(*map(np.abs, operands)), products // count_elements(output.shape[1:]))

    def backward_rounding(self, gradient: Array, output: Array, *operands: Array) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, *map(np.abs, operands))
        products = self._count_products(get_declared_shapes(operands))
        return tuple(
            None if each is None else Rounding(each, max(1, products // count_elements(each.shape[1:])))
            for each in magnitudes
        )

    def _count_products(self, shapes: Sequence[Shape]) -> int:
        """Products that are summed altogether."""
        return count_elements(tuple(self._parse_equation(shapes).axis_lengths.values()))

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        products = self._count_products([shape for shape in shapes if shape is not None])
        return ComputeCost(products, super().estimate_cost(output, *shapes).largest_array)

    @declare_bug("the other factor was left out")
    def factor_forgotten(self, gradient: Array, output: Array, *operands: Array) -> Gradients:
        return self.backward(gradient, output, *map(np.ones_like, operands))

    def torch_forward(self, torch: Any, *operands: Any) -> Any:
        return torch.einsum(self.equation, *operands)


def _take_min_onto_output(out: str, letters: str, values: Array) -> Array:
    """Least of an operand's values for each combination of the letters of the output, with 1 where it lacks one."""
    unique = "".join(dict.fromkeys(letters))
    diagonal = np.einsum(f"...{letters}->...{unique}", values)
    absent = tuple(position + 1 for position, letter in enumerate(unique) if letter not in out)
    kept = [letter for letter in unique if letter in out]
    found = diagonal.min(axis=absent) if absent else diagonal
    ordered = found.transpose(0, *(1 + kept.index(letter) for letter in out if letter in kept))
    return np.expand_dims(ordered, tuple(1 + position for position, letter in enumerate(out) if letter not in kept))
