"""Quotients of what a linear op reads, from the quotients of its output.

If y = y0 + sum_e x_e r_e, as in an op that is linear in x, r_e the response of its output to element e moving alone,
then the loss moves with x_e as it does with y along r_e:

    (L(x + h e) - L(x - h e)) / 2h = sum_k r_ek (L(y + h k) - L(y - h k)) / 2h + O(h^2)

and both sides have the same limit. So a weight of a million elements needs no more evaluations of the loss than what
it is multiplied into. No derivative of the op is used, and no transpose of it: the r_ek are read off its forward pass.
An op may write itself out as sums of products (`Op.products`), whose factors they are; else they come from responses
(`Op.response`) to all elements of a colour at once, of which each element k of the output feels one at most.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from service.numerics.gradients.finite_difference.colouring import Colouring
from service.numerics.gradients.finite_difference.noise import NoiseMeter
from service.numerics.gradients.finite_difference.point import Point
from service.numerics.gradients.finite_difference.quotients import Quotients, in_squares, rounding_of_sum
from service.numerics.graph import Node
from service.numerics.ops.op import CALL, Cost, Products
from service.numerics.pausing import pausing
from service.numerics.rounding import SAFETY, root_mean_square
from service.numerics.tiles import Array, Shape, aligned, size

Inputs = tuple[Array | None, ...]

_TILE_ELEMENTS = 2**15
_LOST = 2.0**-1073
"""What a product, and what is said of its error, may lose below the normal numbers together."""
_SWEEPS = 4
"""Of the rounding model, in which responses are worked out again."""
_ROWS = 7
"""Sums for each product: quotients of four steps, noise and rounding, and the product itself."""


class _Block(NamedTuple):
    """Some of the products that an operand is in.

    Attributes
    ----------
    shape
        Of the output.
    indices, factors
        Elements of the operand, by flat index, and what they are multiplied by, each (products, ...): what is behind
        has length 1 along the axes of the output on which they do not depend.
    """

    shape: Shape
    indices: Array
    factors: Array


@dataclass(frozen=True, eq=False)
class Pull:
    """One operand of one linear node.

    Attributes
    ----------
    reader
        Name of the node.
    position
        Of the operand.
    products
        How many the op is written out as, for each element of the output; 0 where it is not.
    colouring
        Of the elements of the operand, by what the elements of the output feel; None where the op is written out.
    forward
        What one forward pass takes.
    outputs
        Elements of the output.
    """

    reader: str
    position: int
    products: int
    colouring: Colouring | None
    forward: Cost
    outputs: int

    @property
    def cost(self) -> int:
        """Multiply-adds that it takes."""
        if self.colouring is None:
            passes = math.ceil(self.products * self.outputs / _TILE_ELEMENTS)
            return _ROWS * self.products * self.outputs + CALL * (self.products + _ROWS * passes)
        count = self.colouring.count
        passes = math.ceil(count / self._length(self.colouring))
        return count * (self.forward.work + _ROWS * self.outputs) + CALL * (3 + self.forward.calls + _ROWS) * passes

    def back(self, point: Point, by_output: Quotients, meter: NoiseMeter) -> Quotients:
        """Quotients of the operand's elements from those of the output's."""
        node = point.nodes[self.reader]
        inputs = point.inputs(node)
        total = _Sum(by_output, size(self._shape(point, node)))
        found = total.quotients(self._factors(point, node, inputs))
        errors = self._errors(point, node, inputs, meter)
        return found if errors is None else replace(found, rounding=found.rounding + total.of_errors(errors))

    def _errors(self, point: Point, node: Node, inputs: Inputs, meter: NoiseMeter) -> Iterator[_Block] | None:
        """What the factors may be off by, since what is upstream of them rounds; None where it does not."""
        own = node.slots[self.position].name
        inexact = {
            position: errors
            for position, operand in enumerate(node.operands)
            if position != self.position
            and isinstance(operand, str)
            and node.slots[position].name not in node.op.linear_in[own]
            and (errors := meter.errors(operand)) is not None
        }
        if not inexact:
            return None
        if self.products:
            # The factors are elements of the other operand.
            sizes = {position: SAFETY * root_mean_square(errors)[None] for position, errors in inexact.items()}
            return self._factors(point, node, tuple(sizes.get(i, each) for i, each in enumerate(inputs)))
        swept = [
            tuple(each if i not in inexact else each + inexact[i][sweep] for i, each in enumerate(inputs))
            for sweep in range(_SWEEPS)
        ]
        return _deviations(self._factors(point, node, inputs), [self._factors(point, node, each) for each in swept])

    def _shape(self, point: Point, node: Node) -> Shape:
        return point.graph.shapes[str(node.operands[self.position])]

    def _factors(self, point: Point, node: Node, inputs: Inputs) -> Iterator[_Block]:
        """All products of the operand's elements, so many at a time."""
        products = node.op.products(self.position, *inputs)
        if products is not None:
            return _blocks(products, max(size(self._shape(point, node)), _TILE_ELEMENTS))
        assert self.colouring is not None
        return self._responses(point, node, inputs, self.colouring)

    def _responses(self, point: Point, node: Node, inputs: Inputs, colouring: Colouring) -> Iterator[_Block]:
        """The responses to the elements of some colours at a time."""
        shape = self._shape(point, node)
        length = self._length(colouring)
        for start in range(0, colouring.count, length):
            colours = np.arange(start, min(start + length, colouring.count))
            directions = colouring.directions(colours).reshape(-1, *shape)
            responses = node.op.response(self.position, directions, *inputs).reshape(len(colours), -1)
            yield _Block(responses.shape[1:], colouring.felt(colours), responses)

    def _length(self, colouring: Colouring) -> int:
        return max(1, _TILE_ELEMENTS // max(self.outputs, size(colouring.shape)))


def _blocks(products: Products, least: int) -> Iterator[_Block]:
    """So many products at a time that they are `least` elements or more."""
    length = math.ceil(least / max(1, size(products.shape)))
    for start in range(0, len(products.indices), length):
        block = slice(start, start + length)
        rank = len(products.shape)
        indices, factors = products.indices[block], products.factors[block]
        yield _Block(products.shape, _stacked(indices, rank), _stacked(factors, rank))


def _stacked(arrays: Sequence[Array], rank: int) -> Array:
    """Arrays of one shape behind an axis that counts them, with axes of length 1 until there are `rank` more."""
    stacked = arrays[0][None] if len(arrays) == 1 else np.array(arrays)
    return aligned(stacked, rank)


def _deviations(at_point: Iterator[_Block], swept: list[Iterator[_Block]]) -> Iterator[_Block]:
    """Deviations of factors in some sweeps from those at the point."""
    for block, *others in zip(at_point, *swept, strict=True):
        deviations = np.stack([each.factors for each in others]) - block.factors
        yield block._replace(factors=SAFETY * root_mean_square(deviations))


class _Sum:
    """Sums of products with the quotients of an output, for each of `count` elements."""

    def __init__(self, by_output: Quotients, count: int) -> None:
        self._count = count
        unit = float(by_output.noise.max(initial=0))
        self._unit = unit if 0 < unit < np.inf else 1.0
        self._by_output = by_output
        self._sizes = np.abs(by_output.values[0])
        self._rounding = by_output.rounding + rounding_of_sum(self._sizes.size) * self._sizes

    def quotients(self, factors: Iterable[_Block]) -> Quotients:
        """Sum up the products of the factors with the quotients, for the elements at the indices."""
        levels = len(self._by_output.values)
        found = np.zeros((levels + 3, self._count))
        for shape, index, factor in pausing(factors):
            squares, rest = in_squares(factor * self._by_output.noise.reshape(shape), self._unit)
            rows = (
                *(factor * each.reshape(shape) for each in self._by_output.values),
                np.abs(factor) * self._rounding.reshape(shape),
                squares,
                *(() if rest is None else (rest,)),
            )
            self._add(found, index, rows)
        # What underflows in a product is lost.
        lost = self._sizes.size * _LOST
        noise = np.sqrt(found[levels + 1]) * self._unit + found[levels + 2] + lost
        return Quotients(found[:levels], noise, found[levels])

    def of_errors(self, errors: Iterable[_Block]) -> Array:
        """What errors of the factors may add up to: they have what is upstream in common."""
        found = np.zeros((1, self._count))
        # A quotient that is 0 as far as is known may be what its noise hides.
        most = self._sizes + self._by_output.noise + self._by_output.rounding
        for shape, index, error in pausing(errors):
            self._add(found, index, (np.abs(error) * most.reshape(shape),))
        return found[0]

    def _add(self, found: Array, index: Array, rows: Sequence[Array]) -> None:
        flat = index.ravel()
        # Along these axes of the output a product is of one element.
        common = tuple(axis for axis, length in enumerate(index.shape) if length < rows[0].shape[axis])
        for total, row in zip(found, rows, strict=False):
            row = np.add.reduce(row, axis=common) if common else row
            total += np.bincount(flat, row.ravel(), self._count + 1)[:-1]
