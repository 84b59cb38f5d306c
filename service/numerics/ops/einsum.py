"""Sums of products that an equation names."""

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
_MAX_OPERANDS = 16


class _ParsedEquation(NamedTuple):
    """An equation with the shapes of its operands.

    Attributes
    ----------
    operand_letters
        Letters of each operand, with the ellipsis spelled out and without the broadcast axes of length 1.
    output_letters
        Letters of the output.
    axis_lengths
        Lengths of the axes, by letter.
    """

    operand_letters: list[str]
    output_letters: str
    axis_lengths: dict[str, int]

    def drop_broadcast_axes(self, operands: Sequence[Array]) -> list[Array]:
        """Return the operands without their broadcast axes of length 1."""
        return [
            operand.reshape(operand.shape[0], *(self.axis_lengths[letter] for letter in letters))
            for letters, operand in zip(self.operand_letters, operands, strict=True)
        ]


@register_op("einsum")
class Einsum(Op):
    """Sum of products by an equation of the letters of its operands.

    y_out = sum over all other letters of a_... b_... c_... Each product contributes g times its other factors, with the
    g of its output element, so dL/da is the einsum of g and all other operands onto the letters of a. A letter of a
    that stands in none of them was summed by itself: its gradient is spread over it. A letter that a has twice picks
    the diagonal: off it the gradient is 0. Axes of length 1 are broadcast: they drop out of the letters of a. An
    ellipsis stands for as many letters as there are axes left, the last ones matched first. Without an arrow the output
    has the letters that stand once, in order of the alphabet, behind the ellipsis.
    """

    equation: str

    multiplying_slots = MappingProxyType({"operands": "factor"})
    inputs = ("operands*",)
    product_slots = ("operands",)
    positional = ("equation", "operands")
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
        OpExample(((2, 3), (3, 4), (4,), (2,)), {"equation": "ij,jk,k,i->ik"}),
        OpExample(((3, 3, 2),), {"equation": "bb..."}),
    )

    def _expand_ellipsis(self, shapes: Sequence[Shape]) -> tuple[list[str], str]:
        """Return the letters of each operand and of the output, without the ellipsis."""
        operands_text, arrow, output = self.equation.replace(" ", "").partition("->")
        if not arrow:
            output = _list_implicit_output(operands_text)
        sides = [*operands_text.split(","), output]
        used_letters = set("".join(side.replace(_ELLIPSIS, "", 1) for side in sides))
        if not used_letters <= _LETTERS:
            raise ShapeError('an equation of letters, like "ij,jk->ik"')
        if len(sides) - 1 != len(shapes) or len(shapes) > _MAX_OPERANDS:
            raise ShapeError(
                f"an equation with as many operands as the node has, {_MAX_OPERANDS} at most; it has {len(shapes)}"
            )
        ellipsis_ranks = [
            len(shape) - len(side) + 3 for side, shape in zip(sides, shapes, strict=False) if _ELLIPSIS in side
        ]
        largest_ellipsis_rank = max(0, *ellipsis_ranks) if ellipsis_ranks else 0
        if len(used_letters) + largest_ellipsis_rank > _MAX_LETTERS:
            raise ShapeError(f"an equation of {_MAX_LETTERS} letters at most")
        spare_letters = "".join(sorted(_LETTERS - used_letters))[:largest_ellipsis_rank]
        operand_letters = [
            side.replace(_ELLIPSIS, spare_letters[largest_ellipsis_rank - max(0, len(shape) - len(side) + 3) :])
            for side, shape in zip(sides, shapes, strict=False)
        ]
        return operand_letters, output.replace(_ELLIPSIS, spare_letters)

    def _parse_equation(self, shapes: Sequence[Shape]) -> _ParsedEquation:
        letters, output = self._expand_ellipsis(shapes)
        if len(set(output)) < len(output) or not set(output) <= set("".join(letters)):
            raise ShapeError("an output of different letters, each of which stands in an operand")
        lengths = self._get_letter_lengths(letters, shapes)
        kept_letters = [
            "".join(letter for letter, length in zip(own_letters, shape, strict=True) if length == lengths[letter])
            for own_letters, shape in zip(letters, shapes, strict=True)
        ]
        return _ParsedEquation(kept_letters, output, lengths)

    @staticmethod
    def _get_letter_lengths(letters: list[str], shapes: Sequence[Shape]) -> dict[str, int]:
        lengths: dict[str, int] = {}
        for own_letters, shape in zip(letters, shapes, strict=True):
            if len(own_letters) != len(shape):
                raise ShapeError(f"an operand with {len(own_letters)} axes for {own_letters!r}")
            own_lengths: dict[str, int] = {}
            for letter, length in zip(own_letters, shape, strict=True):
                known_length = lengths.get(letter, 1)
                if own_lengths.setdefault(letter, length) != length or (
                    length != known_length and 1 not in (length, known_length)
                ):
                    raise ShapeError(f"axes of one length for {letter!r}, or of length 1")
                lengths[letter] = length if known_length == 1 else known_length
        return lengths

    def infer_output_shape(self, *shapes: Shape) -> Shape:
        equation = self._parse_equation(shapes)
        return tuple(equation.axis_lengths[letter] for letter in equation.output_letters)

    def _evaluate_einsum(self, letters: list[str], output: str, *arrays: Array) -> Array:
        batch_letter = min(_LETTERS - set("".join(letters)) - set(output))
        batch_size = max(array.shape[0] for array in arrays)
        if any(array.shape[0] != batch_size for array in arrays):
            arrays = tuple(np.broadcast_to(array, (batch_size, *array.shape[1:])) for array in arrays)
        equation = (
            ",".join(batch_letter + operand_letters for operand_letters in letters) + "->" + batch_letter + output
        )
        return np.einsum(equation, *arrays, optimize=True)

    def forward(self, *operands: Array) -> Array:
        parsed = self._parse_equation(get_declared_shapes(operands))
        return self._evaluate_einsum(
            parsed.operand_letters, parsed.output_letters, *parsed.drop_broadcast_axes(operands)
        )

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        parsed = self._parse_equation(get_declared_shapes(inputs))
        labels = parsed.drop_broadcast_axes(drop_missing(values))
        return take_elementwise_min(
            *(
                _take_min_onto_output(parsed.output_letters, letters, operand_labels)
                for letters, operand_labels in zip(parsed.operand_letters, labels, strict=True)
            )
        )

    def backward(self, gradient: Array, output: Array, *operands: Array) -> Gradients:
        parsed = self._parse_equation(get_declared_shapes(operands))
        unbroadcast_operands = parsed.drop_broadcast_axes(operands)
        gradients = (
            self._compute_operand_gradient(
                gradient, parsed.output_letters, position, parsed.operand_letters, unbroadcast_operands
            )
            for position in range(len(unbroadcast_operands))
        )
        return tuple(
            operand_gradient.reshape(operand_gradient.shape[0], *operand.shape[1:])
            for operand_gradient, operand in zip(gradients, operands, strict=True)
        )

    def _compute_operand_gradient(
        self, gradient: Array, out: str, position: int, letters: list[str], operands: Sequence[Array]
    ) -> Array:
        unique_letters = "".join(dict.fromkeys(letters[position]))
        other_letters = [other for i, other in enumerate(letters) if i != position]
        other_operands = [other for i, other in enumerate(operands) if i != position]
        reached_letters = "".join(
            letter for letter in unique_letters if letter in out or any(letter in other for other in other_letters)
        )
        reached_gradient = self._evaluate_einsum([out, *other_letters], reached_letters, gradient, *other_operands)
        lengths = dict(zip(letters[position], operands[position].shape[1:], strict=True))
        spread_gradient = reached_gradient.reshape(
            reached_gradient.shape[0],
            *(lengths[letter] if letter in reached_letters else 1 for letter in unique_letters),
        )
        by_operand = np.zeros((reached_gradient.shape[0], *operands[position].shape[1:]), dtype=gradient.dtype)
        np.einsum(f"...{letters[position]}->...{unique_letters}", by_operand)[...] = spread_gradient
        return by_operand

    def estimate_forward_rounding(self, output: Array, *operands: Array) -> Rounding:
        products = self._count_products(get_declared_shapes(operands))
        return Rounding(self.forward(*map(np.abs, operands)), products // count_elements(output.shape[1:]))

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, *operands: Array
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, *map(np.abs, operands))
        products = self._count_products(get_declared_shapes(operands))
        return tuple(
            None if magnitude is None else Rounding(magnitude, max(1, products // count_elements(magnitude.shape[1:])))
            for magnitude in magnitudes
        )

    def _count_products(self, shapes: Sequence[Shape]) -> int:
        """Return the number of products in all sums together."""
        return count_elements(tuple(self._parse_equation(shapes).axis_lengths.values()))

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        products = self._count_products([shape for shape in shapes if shape is not None])
        return ComputeCost(products, super().estimate_cost(output, *shapes).largest_array)

    @declare_bug("the other factor was left out")
    def factor_forgotten(self, gradient: Array, output: Array, *operands: Array) -> Gradients:
        return self.backward(gradient, output, *map(np.ones_like, operands))

    def torch_forward(self, torch: Any, *operands: Any) -> Any:
        return torch.einsum(self.equation, *operands)


def _list_implicit_output(operands_text: str) -> str:
    """Return the output of an equation without an arrow: the ellipsis, and the letters that stand once."""
    letters = operands_text.replace(",", "").replace(".", "")
    once = "".join(letter for letter in sorted(set(letters)) if letters.count(letter) == 1)
    return (_ELLIPSIS if _ELLIPSIS in operands_text else "") + once


def _take_min_onto_output(out: str, letters: str, values: Array) -> Array:
    """Return the least of an operand's values for each index of the output.

    Axes that the operand lacks have length 1.
    """
    unique = "".join(dict.fromkeys(letters))
    diagonal = np.einsum(f"...{letters}->...{unique}", values)
    absent_axes = tuple(position + 1 for position, letter in enumerate(unique) if letter not in out)
    kept_letters = [letter for letter in unique if letter in out]
    least_values = diagonal.min(axis=absent_axes) if absent_axes else diagonal
    ordered_values = least_values.transpose(
        0, *(1 + kept_letters.index(letter) for letter in out if letter in kept_letters)
    )
    return np.expand_dims(
        ordered_values, tuple(1 + position for position, letter in enumerate(out) if letter not in kept_letters)
    )
