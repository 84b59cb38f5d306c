"""Quotients of a linear op's operand, from the quotients of its output.

If y = y0 + sum_e x_e r_e, as in an op that is linear in x, r_e the response of its output to element e moving alone,
then the loss moves with x_e as it does with y along r_e:

    (L(x + h e) - L(x - h e)) / 2h = sum_k r_ek (L(y + h k) - L(y - h k)) / 2h + O(h^2)

and both sides have the same limit. So a weight of a million elements needs no more evaluations of the loss than the
output of its op. No derivative of the op is used, and no transpose of it: the r_ek are read off its forward pass. An op
may write itself out as sums of products (`Op.expand_products`), whose factors they are. Else they come from responses
(`Op.compute_linear_response`) to all elements of a colour at once, of which each element k of the output feels one at
most.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.core.batching import MAX_TILE_ELEMENTS, Array, Shape, align_rank, count_elements
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.colouring import Colouring
from service.numerics.gradients.finite_difference.noise_meter import NoiseMeter
from service.numerics.gradients.finite_difference.quotient_sum import ProductBlock, QuotientSum
from service.numerics.gradients.finite_difference.quotients import (
    DifferenceQuotients,
)
from service.numerics.model.graph import Node
from service.numerics.model.monte_carlo import compute_root_mean_square
from service.numerics.model.rounding import SAFETY_FACTOR
from service.numerics.ops.op import WORK_PER_CALL, ComputeCost, ProductExpansion

OperandArrays = tuple[Array | None, ...]

_PULLBACK_SWEEPS = 4
"""Sweeps of the rounding model in which responses are computed again."""
_SUMS_PER_PRODUCT = 7
"""Sums for each product: quotients of four steps, noise and rounding, and the product itself."""


@dataclass(frozen=True, eq=False)
class LinearPullback:
    """One operand of one linear node.

    Attributes
    ----------
    reader_name
        Name of the node.
    position
        Position of the operand.
    product_count
        Number of products for each element of the output; 0 for an op that is not written out.
    colouring
        Colouring of the operand's elements, by those that elements of the output feel; None for an op that is written
        out.
    forward_cost
        Cost of one forward pass.
    output_count
        Number of elements of the output.
    """

    reader_name: str
    position: int
    product_count: int
    colouring: Colouring | None
    forward_cost: ComputeCost
    output_count: int

    @property
    def work(self) -> int:
        """Return the multiply-adds of the pullback."""
        if self.colouring is None:
            passes = math.ceil(self.product_count * self.output_count / MAX_TILE_ELEMENTS)
            return _SUMS_PER_PRODUCT * self.product_count * self.output_count + WORK_PER_CALL * (
                self.product_count + _SUMS_PER_PRODUCT * passes
            )
        count = self.colouring.colour_count
        passes = math.ceil(count / self._count_colours_per_block(self.colouring))
        return (
            count * (self.forward_cost.work + _SUMS_PER_PRODUCT * self.output_count)
            + WORK_PER_CALL * (3 + self.forward_cost.calls + _SUMS_PER_PRODUCT) * passes
        )

    def pull_back_quotients(
        self, point: BasePoint, by_output: DifferenceQuotients, meter: NoiseMeter
    ) -> DifferenceQuotients:
        """Return the operand's quotients from those of the output."""
        node = point.nodes[self.reader_name]
        inputs = point.get_operand_arrays(node)
        quotient_sum = QuotientSum(by_output, count_elements(self._output_shape(point, node)))
        quotients = quotient_sum.sum_quotients(self._iterate_products(point, node, inputs))
        errors = self._estimate_factor_errors(point, node, inputs, meter)
        return (
            quotients
            if errors is None
            else replace(quotients, rounding_error=quotients.rounding_error + quotient_sum.sum_errors(errors))
        )

    def _estimate_factor_errors(
        self, point: BasePoint, node: Node, inputs: OperandArrays, meter: NoiseMeter
    ) -> Iterator[ProductBlock] | None:
        """Return the errors of the factors, or None for exact ones.

        Everything upstream of a factor rounds.
        """
        slot_name = node.operand_slots[self.position].name
        inexact = {
            position: errors
            for position, operand in enumerate(node.operands)
            if position != self.position
            and isinstance(operand, str)
            and node.operand_slots[position].name not in node.op.linear_in[slot_name]
            and (errors := meter.estimate_rounding_errors(operand)) is not None
        }
        if not inexact:
            return None
        if self.product_count:
            # The factors are elements of the other operand.
            sizes = {
                position: SAFETY_FACTOR * compute_root_mean_square(errors)[None] for position, errors in inexact.items()
            }
            return self._iterate_products(
                point, node, tuple(sizes.get(index, array) for index, array in enumerate(inputs))
            )
        inputs_in_sweeps = [
            tuple(
                array if index not in inexact else array + inexact[index][sweep] for index, array in enumerate(inputs)
            )
            for sweep in range(_PULLBACK_SWEEPS)
        ]
        return _iterate_sweep_deviations(
            self._iterate_products(point, node, inputs),
            [self._iterate_products(point, node, sweep_inputs) for sweep_inputs in inputs_in_sweeps],
        )

    def _output_shape(self, point: BasePoint, node: Node) -> Shape:
        return point.graph.shapes[str(node.operands[self.position])]

    def _iterate_products(self, point: BasePoint, node: Node, inputs: OperandArrays) -> Iterator[ProductBlock]:
        """Yield all products of the operand's elements, some at a time."""
        products = node.op.expand_products(self.position, *inputs)
        if products is not None:
            return _split_products(products, max(count_elements(self._output_shape(point, node)), MAX_TILE_ELEMENTS))
        assert self.colouring is not None
        return self._iterate_responses(point, node, inputs, self.colouring)

    def _iterate_responses(
        self, point: BasePoint, node: Node, inputs: OperandArrays, colouring: Colouring
    ) -> Iterator[ProductBlock]:
        """Yield the responses to the elements of some colours at a time."""
        shape = self._output_shape(point, node)
        length = self._count_colours_per_block(colouring)
        for start in range(0, colouring.colour_count, length):
            colours = np.arange(start, min(start + length, colouring.colour_count))
            directions = colouring.colour_directions(colours).reshape(-1, *shape)
            responses = node.op.compute_linear_response(self.position, directions, *inputs).reshape(len(colours), -1)
            yield ProductBlock(responses.shape[1:], colouring.find_felt_elements(colours), responses)

    def _count_colours_per_block(self, colouring: Colouring) -> int:
        return max(1, MAX_TILE_ELEMENTS // max(self.output_count, count_elements(colouring.shape)))


def _split_products(products: ProductExpansion, min_elements: int) -> Iterator[ProductBlock]:
    """Yield blocks of products, each of `min_elements` elements or more."""
    length = math.ceil(min_elements / max(1, count_elements(products.shape)))
    for start in range(0, len(products.indices), length):
        block = slice(start, start + length)
        rank = len(products.shape)
        indices, factors = products.indices[block], products.factors[block]
        yield ProductBlock(products.shape, _stack_with_rank(indices, rank), _stack_with_rank(factors, rank))


def _stack_with_rank(arrays: Sequence[Array], rank: int) -> Array:
    """Return arrays of one shape stacked behind a new first axis.

    Axes of length 1 follow it until there are `rank` more.
    """
    stacked = arrays[0][None] if len(arrays) == 1 else np.array(arrays)
    return align_rank(stacked, rank)


def _iterate_sweep_deviations(
    at_point: Iterator[ProductBlock], blocks_in_sweeps: list[Iterator[ProductBlock]]
) -> Iterator[ProductBlock]:
    """Yield the deviations of factors in some sweeps from those at the point."""
    for block, *sweep_blocks in zip(at_point, *blocks_in_sweeps, strict=True):
        deviations = np.stack([sweep_block.factors for sweep_block in sweep_blocks]) - block.factors
        yield block._replace(factors=SAFETY_FACTOR * compute_root_mean_square(deviations))
