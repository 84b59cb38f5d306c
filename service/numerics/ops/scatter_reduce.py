"""Reductions of elements that an index sends to one position."""

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from service.numerics.core.batching import Array, Shape, broadcast_batch, count_elements
from service.numerics.ops.element_moves import NO_ELEMENT
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    OpExample,
    Rounding,
    declare_bug,
    declare_bug_named,
    register_op,
)
from service.numerics.ops.scatter import PositionIndex, cut_to_index
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_among_elements


class _Members(NamedTuple):
    """The elements that count, of an input and a source behind it, both flat.

    Attributes
    ----------
    numbers
        Numbers of the elements, (m,).
    targets
        Flat position of the output of each, (m,).
    input_size
        Number of the input's elements, and of positions.
    """

    numbers: Array
    targets: Array
    input_size: int

    def join(self, operation: np.ufunc, values: Array, identity: float) -> Array:
        """Return the join of the values at each position, (K, positions), given (K, m)."""
        result = np.full((len(values), self.input_size), identity, values.dtype)
        positions: Any = (slice(None), self.targets)
        operation.at(result, positions, values)
        return result

    def count(self) -> Array:
        """Return the number of elements at each position."""
        return np.bincount(self.targets, minlength=self.input_size)


@register_op("scatter_reduce")
class ScatterReduce(PositionIndex):
    """Reduction into positions: y[q] = sum, prod, mean, amax or amin of x[q] and the src[p] that go to q.

    p goes to its own position with the coordinate `dim` replaced by i[p]. Without include_self x[q] counts only where
    no element goes. With n elements at q, and v any of them:
        sum: dL/dv = g        mean: dL/dv = g / n        prod: dL/dv = g times the product of the other elements
        amax, amin: dL/dv = g where v is y, in equal parts at several equal ones, else 0
    """

    dim: int
    reduce: Literal["sum", "prod", "mean", "amax", "amin"]
    include_self: bool = True

    positional = ("input", "dim", "index", "src", "reduce")
    linear_in = MappingProxyType({})
    numpy_calls = 2
    scratch_arrays = 3
    examples = (
        OpExample(((3, 4), (3, 6), (3, 6)), {"dim": 1, "reduce": "sum"}, index_limits={"index": 4}),
        OpExample(
            ((3, 4), (2, 4), (3, 5)), {"dim": 0, "reduce": "mean", "include_self": False}, index_limits={"index": 3}
        ),
        OpExample(((2, 4), (2, 5), (2, 5)), {"dim": 1, "reduce": "prod"}, index_limits={"index": 4}),
        OpExample(((5,), (7,), (7,)), {"dim": 0, "reduce": "amax"}, index_limits={"index": 5}),
        OpExample(
            ((3, 2), (4, 2), (4, 2)), {"dim": 0, "reduce": "amin", "include_self": False}, index_limits={"index": 3}
        ),
    )

    def _list_members(self, input: Array, index: Array, src: Array) -> _Members:
        shape, size = input.shape[1:], count_elements(input.shape[1:])
        picked = self.pick(np.arange(size).reshape(shape), index[0])
        targets = np.full(src.shape[1:], NO_ELEMENT)
        targets[tuple(slice(length) for length in picked.shape)] = picked
        own = np.arange(size)
        if not self.include_self:
            own[picked.ravel()] = NO_ELEMENT
        all_targets = np.concatenate([own, targets.ravel()])
        numbers = np.flatnonzero(all_targets != NO_ELEMENT)
        return _Members(numbers, all_targets[numbers], size)

    @staticmethod
    def _join_flat(input: Array, src: Array) -> Array:
        """Return the elements of both, flat, (K, n)."""
        tiles = max(len(input), len(src))
        return np.concatenate([broadcast_batch(array.reshape(len(array), -1), tiles) for array in (input, src)], axis=1)

    def _take_members(self, members: _Members, input: Array, src: Array) -> Array:
        return self._join_flat(input, src)[:, members.numbers]

    @property
    def _extreme(self) -> tuple[np.ufunc, float]:
        """Return the function that finds an extreme element, and its value for none."""
        return (np.maximum, -np.inf) if self.reduce == "amax" else (np.minimum, np.inf)

    def select_branch(self, input: Array, index: Array, src: Array) -> Array:
        """Return the share of each member in the output; 1 in a product."""
        members = self._list_members(input, index, src)
        if self.reduce in ("sum", "prod"):
            return np.ones((1, len(members.targets)))
        if self.reduce == "mean":
            return 1 / members.count()[members.targets][None]
        values = self._take_members(members, input, src)
        is_extreme = np.equal(values, members.join(*self._extreme_of(values))[:, members.targets]).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return is_extreme / members.join(np.add, is_extreme, 0)[:, members.targets]

    def _extreme_of(self, values: Array) -> tuple[np.ufunc, Array, float]:
        operation, none = self._extreme
        return operation, values, none

    def forward_on_branch(self, branch: Array, input: Array, index: Array, src: Array) -> Array:
        members = self._list_members(input, index, src)
        values = self._take_members(members, input, src)
        if self.reduce == "prod":
            joined = members.join(np.multiply, values, 1)
        else:
            shares = branch.astype(values.dtype, copy=False)
            joined = members.join(np.add, np.where(shares == 0, shares, values * shares), 0)
        return joined.reshape(len(values), *input.shape[1:])

    def forward(self, input: Array, index: Array, src: Array) -> Array:
        members = self._list_members(input, index, src)
        values = self._take_members(members, input, src)
        if self.reduce in ("amax", "amin"):
            joined = members.join(*self._extreme_of(values))
        elif self.reduce == "prod":
            joined = members.join(np.multiply, values, 1)
        else:
            joined = members.join(np.add, values, 0)
            joined = joined / members.count().astype(values.dtype) if self.reduce == "mean" else joined
        return joined.reshape(len(values), *input.shape[1:])

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, _, src_labels = values
        assert input_labels is not None
        assert src_labels is not None
        members = self._list_members(*inputs)
        labels = members.join(np.minimum, self._take_members(members, input_labels, src_labels), np.inf)
        return labels.reshape(len(labels), *inputs[0].shape[1:])

    def _multiply_others(self, members: _Members, values: Array) -> Array:
        """Return the product of the other elements at the position of each."""
        is_zero = values == 0
        others = np.where(is_zero, values.dtype.type(1), values)
        product = members.join(np.multiply, others, 1)[:, members.targets]
        zeros = members.join(np.add, is_zero.astype(np.int64), 0)[:, members.targets] - is_zero
        return np.where(zeros > 0, values.dtype.type(0), product / others)

    def _split(self, by_member: Array, members: _Members, input: Array, src: Array) -> Gradients:
        """Return the gradients of the input and the source, given those of the members."""
        flat = np.zeros((len(by_member), members.input_size + count_elements(src.shape[1:])), by_member.dtype)
        flat[:, members.numbers] = by_member
        by_input, by_src = flat[:, : members.input_size], flat[:, members.input_size :]
        return by_input.reshape(-1, *input.shape[1:]), None, by_src.reshape(-1, *src.shape[1:])

    def _take_gradients(self, gradient: Array, members: _Members) -> Array:
        return gradient.reshape(len(gradient), -1)[:, members.targets]

    def backward(self, gradient: Array, output: Array, input: Array, index: Array, src: Array) -> Gradients:
        members = self._list_members(input, index, src)
        g = self._take_gradients(gradient, members)
        if self.reduce == "prod":
            by_member = g * self._multiply_others(members, self._take_members(members, input, src))
        else:
            by_member = g * self.select_branch(input, index, src).astype(g.dtype, copy=False)
        return self._split(by_member, members, input, src)

    def list_subgradient_choices(
        self, input_errors: Sequence[Array | None], input: Array, index: Array, src: Array
    ) -> SubgradientChoices | None:
        """Return weights that sum to one of the elements that attain an extreme."""
        if self.reduce not in ("amax", "amin"):
            return None
        members = self._list_members(input, index, src)
        errors = [
            np.broadcast_to(np.zeros(()) if error is None else error[:1], (1, *array.shape[1:]))
            for error, array in ((input_errors[0], input), (input_errors[2], src))
        ]
        reach = self._take_members(members, errors[0], errors[1])[0]
        values = self._take_members(members, input[:1], src[:1])[0] * (1 if self.reduce == "amax" else -1)
        threshold = members.join(np.maximum, (values - reach)[None], -np.inf)[0, members.targets]
        largest = members.join(np.maximum, values[None], -np.inf)[0, members.targets]
        near = np.flatnonzero(values + reach >= threshold)
        near = near[np.argsort(members.targets[near], kind="stable")]
        outputs, numbers = members.targets[near], members.numbers[near]
        shares = self.select_branch(input[:1], index, src[:1])[0, near]
        choices = choose_among_elements(outputs, outputs, numbers, shares, values[near] == largest[near])
        if choices is None:
            return None
        is_of_src = choices.entry_elements >= members.input_size
        return replace(
            choices,
            entry_positions=np.where(is_of_src, 2, 0),
            entry_elements=choices.entry_elements - members.input_size * is_of_src,
        )

    def _count_largest_group(self, members: _Members) -> int:
        return int(members.count().max(initial=1))

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        if self.reduce in ("amax", "amin"):
            return None
        input, index, src = inputs
        count = self._count_largest_group(self._list_members(*inputs))
        return Rounding(np.abs(self.forward(np.abs(input), index, np.abs(src))), count)

    def estimate_rounding_on_branch(self, branch: Array, output: Array, *inputs: Any) -> Rounding:
        return Rounding(np.abs(output), self._count_largest_group(self._list_members(*inputs)))

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        if self.reduce == "sum":
            return (None, None, None)
        by_input, _, by_src = self.backward(np.abs(gradient), output, *inputs)
        assert by_input is not None
        assert by_src is not None
        # PyTorch divides the product by the element.
        count = self._count_largest_group(self._list_members(*inputs)) + 3 if self.reduce == "prod" else 1
        return Rounding(np.abs(by_input), count), None, Rounding(np.abs(by_src), count)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        size = sum(count_elements(shape) for shape in shapes if shape is not None)
        return ComputeCost(self.numpy_calls * size, size, self.numpy_calls)

    @declare_bug_named("to_every_element", "the gradient went to every element that takes part, whole")
    def give_every_member(self, gradient: Array, output: Array, input: Array, index: Array, src: Array) -> Gradients:
        members = self._list_members(input, index, src)
        return self._split(self._take_gradients(gradient, members), members, input, src)

    @declare_bug("the gradient of the input was kept as it came, where the source takes part")
    def kept_where_replaced(self, gradient: Array, output: Array, input: Array, index: Array, src: Array) -> Gradients:
        return gradient, *self.backward(gradient, output, input, index, src)[1:]

    @declare_bug("the product of the other elements was taken without the input's own")
    def own_element_forgotten(
        self, gradient: Array, output: Array, input: Array, index: Array, src: Array
    ) -> Gradients:
        by_input, _, by_src = self.backward(gradient, output, input, index, src)
        if self.reduce != "prod":
            return by_input, None, by_src
        return by_input, None, self.backward(gradient, output, np.ones_like(input), index, src)[2]

    def torch_forward(self, torch: Any, input: Any, index: Any, src: Any) -> Any:
        include_self = self.include_self
        if not include_self and self.reduce in ("amax", "amin"):
            # PyTorch's gradient counts the element of the input among equal ones even if it takes no part.
            is_reached = torch.zeros(input.shape, dtype=torch.bool).scatter(self.dim, index, True)
            input = torch.where(is_reached, torch.full_like(input, self._extreme[1]), input)
            include_self = True
        source = cut_to_index(src, index)
        return torch.scatter_reduce(input, self.dim, index, source, self.reduce, include_self=include_self)
