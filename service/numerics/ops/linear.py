"""Products of matrices and sums of products."""

import string
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from service.numerics.ops.op import Case, Cost, Gradients, Op, Rounding, ShapeError, Spreading, mutant, op, shapes_of
from service.numerics.reach import given, joined, least
from service.numerics.tiles import Array, Shape, aligned, size, unbroadcast


@op("linear")
class Linear(Op):
    """y = x W^T + b on the last axis.

    With g = dL/dy and n over the leading axes of x:
        dL/dx = g W               (..., in)
        dL/dW = sum_n g_n^T x_n   (out, in)
        dL/db = sum_n g_n         (out,)
    """

    inputs = ("input", "weight", "bias?")
    linear_in = MappingProxyType({"input": ("bias",), "weight": ("bias",), "bias": ("input",)})
    cases = (
        Case(((5, 4), (3, 4), (3,))),
        Case(((2, 5, 4), (1, 4), None)),
        Case(((4,), (3, 4), (3,))),
        Case(((4,), (4,), ())),
        Case(((3, 4), (4,), ())),
    )

    def output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        if not input or len(weight) not in (1, 2) or weight[-1] != input[-1]:
            raise ShapeError("input (..., in) with weight (out, in) or (in,)")
        if bias is not None and bias != weight[:-1]:
            raise ShapeError(f"a bias of shape {list(weight[:-1])}")
        return input[:-1] + weight[:-1]

    @staticmethod
    def _flat(x: Array, weight: Array) -> tuple[Array, Array]:
        """Flatten x to (K, n, in) and the weight to (K, out, in)."""
        return x.reshape(x.shape[0], -1, x.shape[-1]), weight.reshape(weight.shape[0], -1, weight.shape[-1])

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        x, w = self._flat(input, weight)
        y = x @ np.swapaxes(w, 1, 2)
        output = y.reshape(y.shape[:1] + input.shape[1:-1] + weight.shape[1:-1])
        return output if bias is None else output + aligned(bias, output.ndim - 1)

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        of_input, of_weight, *of_bias = given(values)
        rank = of_input.ndim - 2
        rows = least(of_input, of_input.ndim - 1) if of_weight.ndim == 3 else of_input.min(axis=-1)
        parameters = (aligned(each, rank + of_weight.ndim - 2) for each in (of_weight.min(axis=-1), *of_bias))
        return joined(rows, *parameters)

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        x, w = self._flat(input, weight)
        g = gradient.reshape(gradient.shape[0], x.shape[1], w.shape[1])
        by_input, by_weight = g @ w, np.swapaxes(g, 1, 2) @ x
        by_bias = None if bias is None else g.sum(axis=1).reshape(g.shape[:1] + bias.shape[1:])
        return (
            by_input.reshape(by_input.shape[:1] + input.shape[1:]),
            by_weight.reshape(by_weight.shape[:1] + weight.shape[1:]),
            by_bias,
        )

    def rounding(self, output: Array, input: Array, weight: Array, bias: Array | None) -> Rounding:
        magnitude = self.forward(np.abs(input), np.abs(weight), None if bias is None else np.abs(bias))
        return Rounding(magnitude, input.shape[-1] + 1)

    def backward_rounding(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, np.abs(input), np.abs(weight), bias)
        rows = size(input.shape[1:-1])
        terms = (size(weight.shape[1:-1]), rows, rows)
        return tuple(
            None if magnitude is None else Rounding(magnitude, count)
            for magnitude, count in zip(magnitudes, terms, strict=True)
        )

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        assert shapes[0] is not None
        return Cost(size(output) * shapes[0][-1], super().cost(output, *shapes).elements)

    @mutant
    def averaged_over_rows(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        rows = size(input.shape[1:-1])
        by_input, by_weight, by_bias = self.backward(gradient, output, input, weight, bias)
        assert by_weight is not None
        return by_input, by_weight / rows, None if by_bias is None else by_bias / rows

    @mutant
    def backwards_through_the_features(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        return self.backward(gradient, output, np.flip(input, -1), np.flip(weight, -1), bias)

    def twin(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        if weight.ndim == 1:
            # PyTorch's documentation takes this form; its matrix product does not, with a bias.
            bias = None if bias is None else bias.reshape(1)
            return torch.nn.functional.linear(input, weight[None], bias)[..., 0]
        return torch.nn.functional.linear(input, weight, bias)


@op("matmul")
class Matmul(Op):
    """y = a b, products of matrices, with leading axes broadcast; a 1-D operand is a row, or a column.

    With g = dL/dy, the leading axes of each operand that was broadcast summed:
        dL/da = g b^T        dL/db = a^T g
    """

    inputs = ("input", "other")
    linear_in = MappingProxyType({"input": (), "other": ()})
    cases = (
        Case(((3, 4), (4, 5))),
        Case(((2, 1, 3, 4), (5, 4, 2))),
        Case(((4,), (4,))),
        Case(((4,), (2, 4, 3))),
        Case(((2, 3, 4), (4,))),
    )

    def output_shape(self, input: Shape, other: Shape) -> Shape:
        if not input or not other or input[-1] != other[0 if len(other) == 1 else -2]:
            raise ShapeError("(..., n, k) with (..., k, m), or a vector (k,) on either side")
        try:
            leading = np.broadcast_shapes(input[:-2], other[:-2])
        except ValueError:
            raise ShapeError("leading axes that broadcast together") from None
        rows = input[-2:-1] if len(input) > 1 else ()
        columns = other[-1:] if len(other) > 1 else ()
        return leading + rows + columns

    @staticmethod
    def _matrices(input: Array, other: Array) -> tuple[Array, Array]:
        """Make matrices of vectors, and give both as many leading axes."""
        a = input[:, None, :] if input.ndim == 2 else input
        b = other[:, :, None] if other.ndim == 2 else other
        rank = max(a.ndim, b.ndim) - 1
        return aligned(a, rank), aligned(b, rank)

    def forward(self, input: Array, other: Array) -> Array:
        a, b = self._matrices(input, other)
        y = a @ b
        return y.reshape(y.shape[:1] + self.output_shape(input.shape[1:], other.shape[1:]))

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        a, b = self._matrices(*given(values))
        reached = joined(least(a, a.ndim - 1), least(b, b.ndim - 2))
        return reached.reshape(len(reached), *self.output_shape(*shapes_of(inputs)))

    def backward(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = self._matrices(input, other)
        g = gradient.reshape(
            gradient.shape[:1] + np.broadcast_shapes(a.shape[1:-2], b.shape[1:-2]) + (a.shape[-2], b.shape[-1])
        )
        by_a = unbroadcast(g @ np.swapaxes(b, -1, -2), a.shape[1:])
        by_b = unbroadcast(np.swapaxes(a, -1, -2) @ g, b.shape[1:])
        return (
            by_a.reshape(by_a.shape[:1] + input.shape[1:]),
            by_b.reshape(by_b.shape[:1] + other.shape[1:]),
        )

    def rounding(self, output: Array, input: Array, other: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input), np.abs(other)), input.shape[-1])

    def backward_rounding(
        self, gradient: Array, output: Array, input: Array, other: Array
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, np.abs(input), np.abs(other))
        products = size(output.shape[1:]) * input.shape[-1]
        return tuple(
            None if magnitude is None else Rounding(magnitude, products // size(each.shape[1:]))
            for magnitude, each in zip(magnitudes, (input, other), strict=True)
        )

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        assert shapes[0] is not None
        return Cost(size(output) * shapes[0][-1], super().cost(output, *shapes).elements)

    @mutant
    def backwards_through_what_is_summed(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        flipped = np.flip(input, -1), np.flip(other, 1 if other.ndim == 2 else -2)
        return self.backward(gradient, output, *flipped)

    def twin(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.matmul(input, other)


_LETTERS = set(string.ascii_letters)
_ELLIPSIS = "..."
_MOST_LETTERS = 40


class _Parts(NamedTuple):
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

    letters: list[str]
    output: str
    lengths: dict[str, int]

    def plain(self, operands: Sequence[Array]) -> list[Array]:
        """Operands without the axes of length 1 that are broadcast."""
        return [
            each.reshape(each.shape[0], *(self.lengths[letter] for letter in mine))
            for mine, each in zip(self.letters, operands, strict=True)
        ]


@op("einsum")
class Einsum(Op):
    """y_out = sum over all other letters of a_... b_..., for an explicit equation of one or two operands.

    Each product a b contributes g a b with the g of its output element, so dL/da is the einsum of g and b onto the
    letters of a. A letter of a that stands in neither g nor b was summed by itself: its gradient is spread over it. A
    letter that a has twice picks the diagonal: off it the gradient is 0. Axes of length 1 are broadcast: they drop out
    of the letters of a. An ellipsis stands for as many letters as there are axes left, the last ones matched first.
    """

    equation: str

    inputs = ("operands*",)
    linear_in = MappingProxyType({"operands": ()})
    cases = (
        Case(((3, 4), (4, 5)), {"equation": "ij,jk->ik"}),
        Case(((2, 3, 4), (2, 4, 5)), {"equation": "bij,bjk->bki"}),
        Case(((3, 4), (5,)), {"equation": "ij,k->k"}),
        Case(((3, 3), (3, 2)), {"equation": "ii,ij->j"}),
        Case(((3, 4), (3, 4)), {"equation": "ij,ij->"}),
        Case(((2, 3, 4),), {"equation": "bij->jb"}),
        Case(((2, 1, 3, 4), (5, 4, 2)), {"equation": "...ij,...jk->...ki"}),
        Case(((3, 1), (4, 5)), {"equation": "ij,jk->ik"}),
        Case(((2, 3, 4), (4,)), {"equation": "...i,i->"}),
    )

    def _spelled(self, shapes: Sequence[Shape]) -> tuple[list[str], str]:
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
        if len(known) + most > _MOST_LETTERS:
            raise ShapeError(f"an equation of {_MOST_LETTERS} letters at most")
        spare = "".join(sorted(_LETTERS - known))[:most]
        letters = [
            side.replace(_ELLIPSIS, spare[most - max(0, len(shape) - len(side) + 3) :])
            for side, shape in zip(sides, shapes, strict=False)
        ]
        return letters, output.replace(_ELLIPSIS, spare)

    def _parts(self, shapes: Sequence[Shape]) -> _Parts:
        letters, output = self._spelled(shapes)
        if len(set(output)) < len(output) or not set(output) <= set("".join(letters)):
            raise ShapeError("an output whose letters are different and stand in an operand")
        lengths = self._lengths(letters, shapes)
        kept = [
            "".join(letter for letter, length in zip(mine, shape, strict=True) if length == lengths[letter])
            for mine, shape in zip(letters, shapes, strict=True)
        ]
        return _Parts(kept, output, lengths)

    @staticmethod
    def _lengths(letters: list[str], shapes: Sequence[Shape]) -> dict[str, int]:
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
        parts = self._parts(shapes)
        return tuple(parts.lengths[letter] for letter in parts.output)

    def _einsum(self, letters: list[str], output: str, *arrays: Array) -> Array:
        tile = min(_LETTERS - set("".join(letters)) - set(output))
        tiles = max(array.shape[0] for array in arrays)
        if any(array.shape[0] != tiles for array in arrays):
            arrays = tuple(np.broadcast_to(array, (tiles, *array.shape[1:])) for array in arrays)
        equation = ",".join(tile + each for each in letters) + "->" + tile + output
        return np.einsum(equation, *arrays, optimize=True)

    def forward(self, *operands: Array) -> Array:
        parts = self._parts(shapes_of(operands))
        return self._einsum(parts.letters, parts.output, *parts.plain(operands))

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        parts = self._parts(shapes_of(inputs))
        plain = parts.plain(given(values))
        return joined(*(_onto(parts.output, mine, each) for mine, each in zip(parts.letters, plain, strict=True)))

    def backward(self, gradient: Array, output: Array, *operands: Array) -> Gradients:
        parts = self._parts(shapes_of(operands))
        plain = parts.plain(operands)
        shares = (self._share(gradient, parts.output, position, parts.letters, plain) for position in range(len(plain)))
        return tuple(
            share.reshape(share.shape[0], *each.shape[1:]) for share, each in zip(shares, operands, strict=True)
        )

    def _share(self, gradient: Array, out: str, position: int, letters: list[str], operands: Sequence[Array]) -> Array:
        mine = "".join(dict.fromkeys(letters[position]))
        others = [each for i, each in enumerate(letters) if i != position]
        arrays = [each for i, each in enumerate(operands) if i != position]
        reached = "".join(letter for letter in mine if letter in out or any(letter in each for each in others))
        share = self._einsum([out, *others], reached, gradient, *arrays)
        lengths = dict(zip(letters[position], operands[position].shape[1:], strict=True))
        spread = share.reshape(share.shape[0], *(lengths[each] if each in reached else 1 for each in mine))
        by_operand = np.zeros((share.shape[0], *operands[position].shape[1:]), dtype=gradient.dtype)
        np.einsum(f"...{letters[position]}->...{mine}", by_operand)[...] = spread
        return by_operand

    def rounding(self, output: Array, *operands: Array) -> Rounding:
        products = self._products(shapes_of(operands))
        return Rounding(self.forward(*map(np.abs, operands)), products // size(output.shape[1:]))

    def backward_rounding(self, gradient: Array, output: Array, *operands: Array) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, *map(np.abs, operands))
        products = self._products(shapes_of(operands))
        return tuple(
            None if each is None else Rounding(each, max(1, products // size(each.shape[1:]))) for each in magnitudes
        )

    def _products(self, shapes: Sequence[Shape]) -> int:
        """Products that are summed altogether."""
        return size(tuple(self._parts(shapes).lengths.values()))

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        products = self._products([shape for shape in shapes if shape is not None])
        return Cost(products, super().cost(output, *shapes).elements)

    @mutant
    def factor_forgotten(self, gradient: Array, output: Array, *operands: Array) -> Gradients:
        return self.backward(gradient, output, *map(np.ones_like, operands))

    def twin(self, torch: Any, *operands: Any) -> Any:
        return torch.einsum(self.equation, *operands)


def _onto(out: str, letters: str, values: Array) -> Array:
    """Least of an operand's values for each combination of the letters of the output, with 1 where it lacks one."""
    unique = "".join(dict.fromkeys(letters))
    diagonal = np.einsum(f"...{letters}->...{unique}", values)
    absent = tuple(position + 1 for position, letter in enumerate(unique) if letter not in out)
    kept = [letter for letter in unique if letter in out]
    found = diagonal.min(axis=absent) if absent else diagonal
    ordered = found.transpose(0, *(1 + kept.index(letter) for letter in out if letter in kept))
    return np.expand_dims(ordered, tuple(1 + position for position, letter in enumerate(out) if letter not in kept))
