"""Reductions over axes: `dim` is an axis, a list of axes, or left out for all."""

import dataclasses
import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.sparsity import take_min_over_axes
from service.numerics.ops import analytic_continuation, vector_norm
from service.numerics.ops.axes import (
    AxisSelection,
    normalize_axes,
    normalize_axis,
    reduce_shape,
    restore_reduced_axes,
    shift_past_batch_axis,
)
from service.numerics.ops.multipliers import Multiplier, declare_count_multipliers, declare_division, declare_factor
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    SensitiveArgument,
    ShapeError,
    declare_bug,
    declare_bug_named,
    register_op,
)
from service.numerics.ops.partial_sums import bound_sum
from service.numerics.ops.rounding_errors import MEAN_ROUNDING, ErrorModel, Rounding
from service.numerics.ops.subgradient_choices import (
    SubgradientChoices,
    choose_among_elements,
    choose_between_derivatives,
)


class ReductionOp(Op):
    """y over the axes `dim`, which stay with length 1 if `keepdim`. With N = the elements behind each of y."""

    dim: Any
    keepdim: bool

    inputs = ("input",)
    examples = (
        OpExample(((3, 4),)),
        OpExample(((2, 3, 4),), {"dim": 1}),
        OpExample(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
        OpExample(((),)),
    )

    def output_shape(self, input: Shape) -> Shape:
        return reduce_shape(input, normalize_axes(self.dim, len(input)), self.keepdim)

    def resolve_shape_defaults(self, *shapes: Shape | None) -> Op:
        input = shapes[0]
        assert input is not None
        return (
            dataclasses.replace(cast("Any", self), dim=list(normalize_axes(None, len(input))))
            if self.dim is None
            else self
        )

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (of_input,) = values
        assert of_input is not None
        return self._shape_result(take_min_over_axes(of_input, self._batched_axes(of_input)), of_input)

    def _batched_axes(self, input: Array) -> tuple[int, ...]:
        """Axes behind the tile axis."""
        return shift_past_batch_axis(normalize_axes(self.dim, input.ndim - 1))

    def _reduced_count(self, input: Array) -> int:
        return count_elements(tuple(input.shape[each] for each in self._batched_axes(input)))

    def _restore_axes(self, array: Array, input: Array) -> Array:
        return restore_reduced_axes(array, input.shape[1:], normalize_axes(self.dim, input.ndim - 1))

    def _shape_result(self, reduced_array: Array, input: Array) -> Array:
        return reduced_array.reshape(reduced_array.shape[:1] + self.output_shape(input.shape[1:]))

    def _output_flat_indices(self, input: Array) -> Array:
        """Flat index of the element of the output that each element of the input enters, flat, of one tile."""
        kept = reduce_shape(input.shape[1:], normalize_axes(self.dim, input.ndim - 1), True)
        return np.broadcast_to(np.arange(count_elements(kept)).reshape(kept), input.shape[1:]).ravel()

    def _choices_at_maximum(
        self, input_errors: Array, sizes: Array, signs: Sequence[float], shares: Array, input: Array
    ) -> SubgradientChoices | None:
        """Choices among what attains the largest of `sizes` times each of the signs, given the share of each."""
        input_errors = np.broadcast_to(input_errors, input.shape)
        least = np.max(
            np.abs(sizes) - input_errors if len(signs) > 1 else sizes - input_errors,
            axis=self._batched_axes(input),
            keepdims=True,
        )
        largest = np.max(np.abs(sizes) if len(signs) > 1 else sizes, axis=self._batched_axes(input), keepdims=True)
        near = np.stack([(sign * sizes + input_errors >= least)[0].ravel() for sign in signs], axis=1)
        tied = np.stack([(sign * sizes == largest)[0].ravel() for sign in signs], axis=1)
        of_sign = np.sign(sizes[0].ravel()) if len(signs) > 1 else 1.0
        weights = np.maximum(np.multiply.outer(shares[0].ravel() * of_sign, signs), 0)
        if len(signs) > 1:
            # At 0 the signs share alike, and cancel.
            weights = np.where((sizes[0].ravel() == 0)[:, None], np.abs(shares[0].ravel())[:, None] / 2, weights)
        outputs = self._output_flat_indices(input)
        elements, which = np.nonzero(near)
        order = np.argsort(outputs[elements], kind="stable")
        elements, which = elements[order], which[order]
        chosen = elements, which
        return choose_among_elements(
            outputs[elements], outputs[elements], elements, weights[chosen], tied[chosen], np.array(signs)[which]
        )

    def _torch_dim(self, torch_input: Any) -> tuple[int, ...]:
        return normalize_axes(self.dim, torch_input.ndim)


def _flatten_batch_elements(values: DependencyLabels) -> Array:
    (of_input,) = values
    assert of_input is not None
    return of_input.reshape(len(of_input), -1)


@register_op("sum")
class Sum(ReductionOp):
    """y = sum x: each element enters once, so dL/dx = g, spread over the axes that were summed."""

    dim: AxisSelection = None
    keepdim: bool = False

    supports_complex_step = True
    ends_in_sum = True

    linear_in = MappingProxyType({"input": ()})

    def forward(self, input: Array) -> Array:
        return self._shape_result(input.sum(axis=self._batched_axes(input), keepdims=True), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        spread = self._restore_axes(gradient, input)
        return (np.broadcast_to(spread, gradient.shape[:1] + input.shape[1:]),)

    def forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), max(0, self._reduced_count(input) - 1))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[None]:
        return (None,)

    def split_terms(self, output: Array | None, input: Array) -> Array:
        return input.reshape(input.shape[0], -1)

    def propagate_to_terms(self, output_labels: Array, values: DependencyLabels, *inputs: Any) -> Array:
        return _flatten_batch_elements(values)

    def gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return declare_count_multipliers("sum", tuple(input.shape[each] for each in self._batched_axes(input)))

    @declare_bug_named("scaled", is_declared_as_multiplier=True)
    def averaged(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The mean was taken where the forward pass takes the sum."""
        return (self._restore_axes(gradient, input) / self._reduced_count(input) + 0 * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.sum(input, self._torch_dim(input), self.keepdim)


@register_op("mean")
class Mean(ReductionOp):
    """y = sum x / N: dL/dx = g / N, spread over the axes that were summed."""

    dim: AxisSelection = None
    keepdim: bool = False

    supports_complex_step = True
    ends_in_sum = True

    linear_in = MappingProxyType({"input": ()})

    def forward(self, input: Array) -> Array:
        return self._shape_result(
            input.sum(axis=self._batched_axes(input), keepdims=True) / self._reduced_count(input), input
        )

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        spread = self._restore_axes(gradient, input) / self._reduced_count(input)
        return (np.broadcast_to(spread, gradient.shape[:1] + input.shape[1:]),)

    def forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), self._reduced_count(input))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, 1),)

    def split_terms(self, output: Array | None, input: Array) -> Array:
        return input.reshape(input.shape[0], -1) / input[0].size

    def propagate_to_terms(self, output_labels: Array, values: DependencyLabels, *inputs: Any) -> Array:
        return _flatten_batch_elements(values)

    def terms_rounding(self, terms: Array, *inputs: Any) -> Rounding:
        return Rounding(np.abs(terms), 1)

    def gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return declare_count_multipliers("mean", tuple(input.shape[each] for each in self._batched_axes(input)))

    @declare_bug_named("scaled", is_declared_as_multiplier=True)
    def not_divided(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The number of elements was left out that the mean divides by."""
        return (self._restore_axes(gradient, input) + 0 * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.mean(input, self._torch_dim(input), self.keepdim)


@register_op("var")
class Var(ReductionOp):
    """y = sum (x - m)^2 / (N - correction), m the mean: dL/dx = g 2 (x - m) / (N - correction).

    The mean's own derivative drops out, since sum (x - m) = 0.
    """

    numpy_calls = 4
    dim: AxisSelection = None
    correction: float = 1
    keepdim: bool = False

    supports_complex_step = True
    examples = (
        OpExample(((3, 4),)),
        OpExample(((2, 3, 4),), {"dim": 1, "correction": 0}),
        OpExample(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
    )

    def output_shape(self, input: Shape) -> Shape:
        over = normalize_axes(self.dim, len(input))
        count = count_elements(tuple(input[each] for each in over))
        if count <= self.correction:
            raise ShapeError(f"more than {self.correction:g} elements to take the variance of; there are {count}")
        return reduce_shape(input, over, self.keepdim)

    def _subtract_mean(self, input: Array) -> Array:
        return input - input.sum(axis=self._batched_axes(input), keepdims=True) / self._reduced_count(input)

    def forward(self, input: Array) -> Array:
        squares = np.square(self._subtract_mean(input)).sum(axis=self._batched_axes(input), keepdims=True)
        return self._shape_result(squares / (self._reduced_count(input) - self.correction), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        factor = 2 / (self._reduced_count(input) - self.correction)
        return (self._restore_axes(gradient, input) * (self._subtract_mean(input) * input.dtype.type(factor)),)

    def _subtract_mean_with_errors(self, errors: ErrorModel, input: Array) -> Array:
        over, count = self._batched_axes(input), self._reduced_count(input)
        behind = tuple(range(input.ndim - len(over), input.ndim))
        lined = np.moveaxis(input, over, behind).reshape(*self._get_kept_shape(input), count)
        size_ = np.expand_dims(bound_sum(lined)[..., 0], over) / count
        mean = input.sum(axis=over, keepdims=True) / count
        return input - errors(mean, size_ + np.abs(mean))

    def _get_kept_shape(self, input: Array) -> Shape:
        return tuple(length for axis, length in enumerate(input.shape) if axis not in self._batched_axes(input))

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        """Add errors: m is off as a sum of N, which its derivative, 0, hides; the sum by u sqrt(N)."""
        (input,) = inputs
        squares = np.square(self._subtract_mean_with_errors(errors, input)).sum(
            axis=self._batched_axes(input), keepdims=True
        )
        output = self._shape_result(squares / (self._reduced_count(input) - self.correction), input)
        return errors(output, terms=self._reduced_count(input) + 3)

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Add errors: all x - m share that of m, a sum of N; each has three of its own."""
        (input,) = inputs
        centred = self._subtract_mean_with_errors(errors, input)
        factor = 2 / (self._reduced_count(input) - self.correction)
        return (errors(self._restore_axes(gradient, input) * (centred * factor), terms=3),)

    def gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(2), declare_division(self._reduced_count(input) - self.correction)]

    @declare_bug
    def divided_by_all(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The number that it is divided by was taken one too large."""
        return (
            self._restore_axes(gradient, input) * self._subtract_mean(input) * 2 / (self._reduced_count(input) + 1),
        )

    @declare_bug
    def mean_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The mean was not subtracted."""
        return (self._restore_axes(gradient, input) * input * 2 / (self._reduced_count(input) - self.correction),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.var(input, self._torch_dim(input), correction=self.correction, keepdim=self.keepdim)


@register_op("amax")
class Amax(ReductionOp):
    """y = max x: dL/dx = g at the largest element, in equal parts where several are."""

    dim: AxisSelection = None
    keepdim: bool = False

    def select_branch(self, input: Array) -> Array:
        """Share of each element in the largest."""
        largest = input == input.max(axis=self._batched_axes(input), keepdims=True)
        return largest / largest.sum(axis=self._batched_axes(input), keepdims=True)

    def subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Weights that sum to one of the elements that attain the largest."""
        assert input_errors[0] is not None
        return self._choices_at_maximum(input_errors[0], input, (1.0,), self.select_branch(input), input)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        return self._shape_result((input * branch).sum(axis=self._batched_axes(input), keepdims=True), input)

    def forward(self, input: Array) -> Array:
        return self._shape_result(input.max(axis=self._batched_axes(input), keepdims=True), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) * self.select_branch(input).astype(gradient.dtype),)

    def forward_rounding(self, output: Array, input: Array) -> None:
        return None

    def rounding_on_branch(self, branch: Array, output: Array, input: Array) -> Rounding:
        # The mean of several that are equal rounds; one alone is only moved.
        several = np.max(np.abs(branch) * (1 - np.abs(branch)) > 0, axis=self._batched_axes(input), keepdims=True)
        return Rounding(np.abs(output) * self._shape_result(several, input), self._reduced_count(input))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, 1),)

    @declare_bug
    def to_every_element(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The gradient of the maximum went to every element."""
        return (self._restore_axes(gradient, input) + 0 * input,)

    @declare_bug_named("to_every_element", shows_only_at_ties=True)
    def to_every_largest(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The whole gradient of the maximum went to every element that attains it, where several do."""
        return (self._restore_axes(gradient, input) * (input == self._restore_axes(output, input)),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.amax(input, self._torch_dim(input), self.keepdim)


@register_op("logsumexp")
class LogSumExp(ReductionOp):
    """y = log sum exp(x) = m + log sum exp(x - m), m the largest: dL/dx = g exp(x - y)."""

    numpy_calls = 5
    dim: int | list[int]
    keepdim: bool = False

    supports_complex_step = True
    examples = (
        OpExample(((3, 4),), {"dim": 1}),
        OpExample(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
        OpExample(((5,),), {"dim": 0}, low=-40, high=40),
    )

    def sensitive_argument(self, input: Array) -> SensitiveArgument:
        return SensitiveArgument(input, self._batched_axes(input))

    def forward(self, input: Array) -> Array:
        m = analytic_continuation.take_largest_real_part(input, self._batched_axes(input))
        return self._shape_result(
            m + np.log(np.exp(input - m).sum(axis=self._batched_axes(input), keepdims=True)), input
        )

    def _softmax_weights(self, input: Array) -> Array:
        e = np.exp(input - input.max(axis=self._batched_axes(input), keepdims=True))
        return e / e.sum(axis=self._batched_axes(input), keepdims=True)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) * self._softmax_weights(input),)

    def forward_rounding(self, output: Array, input: Array) -> Rounding:
        largest = input.max(axis=self._batched_axes(input), keepdims=True)
        # An exponential is off relatively by what its argument is off by, and by that of the library.
        carried = (self._softmax_weights(input) * (largest - input + 2)).sum(
            axis=self._batched_axes(input), keepdims=True
        )
        size_ = self._shape_result(carried, input) + math.sqrt(self._reduced_count(input))
        return Rounding(np.abs(output) + size_, 1)

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        """Add errors: y = m + log S by no more than log S, since m is a number.

        The sum is rounded once to a number, by u abs(y) at most, which `ONE_ROUNDING` stands for.
        """
        (input,) = inputs
        output = self.forward(input)
        # Not y - m, which is 0 where y is rounded to m.
        shares = np.exp(input - input.max(axis=self._batched_axes(input), keepdims=True))
        logarithm = self._shape_result(np.log(shares.sum(axis=self._batched_axes(input), keepdims=True)), input)
        size_ = self.forward_rounding(output, input).magnitude - np.abs(output)
        output = errors(output, MEAN_ROUNDING * np.abs(output), most=logarithm)
        return errors(output, size_, most=logarithm)

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Add errors: p = exp(x - y), of the y that was rounded, is off by u p (abs(x - y) + 3) for each element."""
        (input,) = inputs
        argument = input - self._restore_axes(output, input)
        p = np.exp(argument)
        g = self._restore_axes(gradient, input)
        return (errors(g * p, np.abs(g) * (p * (np.abs(argument) + 3) + errors.underflow_loss)),)

    @declare_bug
    def not_normalised(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The exponentials were not divided by their sum."""
        return (self._restore_axes(gradient, input) * np.exp(input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.logsumexp(input, self._torch_dim(input), self.keepdim)


@register_op("vector_norm")
class VectorNorm(ReductionOp):
    """y = (sum abs(x)^p)^(1/p) with p = ord: dL/dx = g sign(x) (abs(x) / y)^(p-1), 0 where x or y = 0.

    For p = 1 that is g sign(x); for p = inf (max abs) and -inf (min abs) g sign(x) at the elements that attain it, in
    equal parts. For p = 0 y is how many elements are not 0, and dL/dx = 0.
    """

    numpy_calls = 6
    ord: float | Literal["inf", "-inf", "Infinity", "-Infinity"] = 2
    dim: AxisSelection = None
    keepdim: bool = False

    examples = (
        OpExample(((3, 4),)),
        OpExample(((2, 3, 4),), {"dim": 1, "ord": 1}),
        OpExample(((2, 3, 4),), {"dim": [0, -1], "keepdim": True, "ord": 3}),
        OpExample(((2, 5),), {"dim": 1, "ord": "inf"}),
    )

    @property
    def _order(self) -> float:
        return float(self.ord)

    @property
    def largest_power(self) -> float:
        return vector_norm.get_power(self._order)

    def select_branch(self, input: Array) -> Array:
        """Sign of each element, and in the extreme norms its share; in smooth ones the size of its vector."""
        if self._order in (0, 1):
            return np.sign(input)
        return (
            np.sign(input) * self._extreme_norm_shares(input)
            if np.isinf(self._order)
            else vector_norm.select_norm_branch(input, self._batched_axes(input))
        )

    def select_branch_beside(self, own: Array, *inputs: Any) -> Array:
        (x,) = inputs
        return (
            vector_norm.choose_piece_beside(own, x, self._batched_axes(x))
            if -np.inf < self._order < 0
            else self.select_branch(x)
        )

    def subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """The unit ball of the dual norm for a vector that is 0, and what follows from it for p = 1 and inf.

        Of p < 0, which is 0 wherever an element is, it is what a smallest size may hand back, of any element that is 0.
        Of 0 < p < 1 derivatives grow beyond all bounds beside 0, and there is no such set; of p = 0 there is nothing.
        """
        assert input_errors[0] is not None
        reach = np.broadcast_to(input_errors[0], input.shape)
        if self._order == np.inf:
            return self._choices_at_maximum(reach, input, (1.0, -1.0), self._extreme_norm_shares(input), input)
        outputs, x = self._output_flat_indices(input), input[0].ravel()
        near = np.abs(x) <= reach[0].ravel()
        if self._order == 1:
            places = np.flatnonzero(near)
            share = (1 + np.sign(x[places])) / 2
            return choose_between_derivatives(
                outputs[places], share, x[places] == 0, [(0, places, -1.0)], [(0, places, 1.0)]
            )
        if self._order < 1:
            return self._takes_smallest(reach, input) if self._order < 0 else None
        whole = np.bincount(outputs, near) == np.bincount(outputs)
        places = np.flatnonzero(whole[outputs])
        places = places[np.argsort(outputs[places], kind="stable")]
        (own,) = self.backward(np.ones_like(self.forward(input)), self.forward(input), input)
        assert own is not None
        of = outputs[places]
        return choose_among_elements(
            of, of, places, own.ravel()[places], x[places] == 0, ball_order=self._order / (self._order - 1)
        )

    def _takes_smallest(self, reach: Array, input: Array) -> SubgradientChoices | None:
        """Weights that sum to one of the elements that attain the smallest size, and of p > -inf are 0, with signs.

        Of an element that is 0 with both signs, which share what the backward pass gives to neither.
        """
        (own,) = self.backward(np.ones_like(self.forward(input)), self.forward(input), input)
        assert own is not None
        sizes, outputs, x, share = np.abs(input), self._output_flat_indices(input), input[0].ravel(), own[0].ravel()
        least = np.min(sizes + reach, axis=self._batched_axes(input), keepdims=True) if np.isinf(self._order) else 0.0
        zero, near = ((sizes - reach <= each)[0].ravel() for each in (0.0, least))
        elements, which = np.nonzero(near[:, None] & np.stack([(x > 0) | zero, (x < 0) | zero], axis=1))
        order = np.argsort(outputs[elements], kind="stable")
        elements, which = elements[order], which[order]
        of, signs, both = outputs[elements], np.array([1.0, -1.0])[which], zero[elements]
        taken = np.maximum(share[elements] * signs, 0)
        counts, total = np.bincount(of, both, int(outputs.max()) + 1), np.bincount(of, taken, int(outputs.max()) + 1)
        weights = taken + both * np.maximum(1 - total, 0)[of] / np.maximum(counts, 1)[of]
        smallest = sizes == (
            np.min(sizes, axis=self._batched_axes(input), keepdims=True) if np.isinf(self._order) else 0.0
        )
        return choose_among_elements(of, of, elements, weights, smallest[0].ravel()[elements], signs)

    def _extreme_norm_shares(self, input: Array) -> Array:
        absolute = np.abs(input)
        extreme = np.max if self._order > 0 else np.min
        attained = absolute == extreme(absolute, axis=self._batched_axes(input), keepdims=True)
        return attained / attained.sum(axis=self._batched_axes(input), keepdims=True)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        if self._order == 0:
            return self._count_nonzero(branch, input)
        if np.isinf(self._order) or self._order == 1:
            return self._shape_result((input * branch).sum(axis=self._batched_axes(input), keepdims=True), input)
        return self._shape_result(
            vector_norm.evaluate_norm_on_branch(self._order, branch, input, self._batched_axes(input)), input
        )

    def _count_nonzero(self, elements: Array, input: Array) -> Array:
        """How many elements are not 0."""
        return self._shape_result((elements != 0).sum(axis=self._batched_axes(input), keepdims=True), input).astype(
            input.dtype
        )

    def forward(self, input: Array) -> Array:
        if self._order == 0:
            return self._count_nonzero(input, input)
        absolute = np.abs(input)
        if np.isinf(self._order):
            extreme = np.max if self._order > 0 else np.min
            return self._shape_result(extreme(absolute, axis=self._batched_axes(input), keepdims=True), input)
        return self._shape_result(vector_norm.p_norm(self._order, absolute, self._batched_axes(input)), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        g = self._restore_axes(gradient, input)
        if np.isinf(self._order):
            return (g * (np.sign(input) * self._extreme_norm_shares(input)).astype(g.dtype),)
        if self._order in (0, 1):
            return (g * np.sign(input) * input.dtype.type(self._order),)
        return (
            g * np.sign(input) * vector_norm.differentiate_norm(self._order, np.abs(input), self._batched_axes(input)),
        )

    def forward_rounding(self, output: Array, input: Array) -> Rounding:
        if np.isinf(self._order) or self._order == 0:
            return Rounding(np.abs(output), 1)
        return Rounding(
            np.abs(output) * vector_norm.estimate_root_error(self._order, output),
            vector_norm.count_norm_rounding_terms(self._order, self._reduced_count(input)),
        )

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(gradient, output, input)
        assert by_input is not None
        if not np.isfinite(self._order) or self._order == 0:
            return (Rounding(np.abs(by_input), 8),)
        root = vector_norm.estimate_root_error(self._order, self._restore_axes(output, input))
        return (Rounding(np.abs(by_input) * (1 + abs(self._order - 1) * root), 8),)

    @declare_bug
    def not_divided_by_the_norm(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """It was not divided by the norm."""
        return (self._restore_axes(gradient, input) * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        over = self._torch_dim(input)
        if np.isinf(self._order) or self._order in (0, 1):
            return torch.linalg.vector_norm(input, self._order, over, self.keepdim)
        unit = vector_norm.choose_torch_scaling_unit(torch, input, self._order, over)
        found = torch.linalg.vector_norm(input / unit, self._order, over, keepdim=True) * unit
        return found if self.keepdim else found.reshape(torch.linalg.vector_norm(input.detach(), 2, over).shape)


@register_op("cumsum")
class Cumsum(Op):
    """y_i = sum_{j <= i} x_j along one axis: dL/dx_j = sum_{i >= j} g_i, the same sum from the other end."""

    dim: int

    inputs = ("input",)
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})
    examples = (OpExample(((3, 4),), {"dim": 1}), OpExample(((2, 3, 4),), {"dim": -2}), OpExample(((5,),), {"dim": 0}))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (of_input,) = values
        assert of_input is not None
        return of_input if of_input.ndim == 1 else np.minimum.accumulate(of_input, axis=self._batched_axis(of_input))

    def output_shape(self, input: Shape) -> Shape:
        normalize_axis(self.dim, len(input))
        return input

    def _batched_axis(self, array: Array) -> int:
        return normalize_axis(self.dim, array.ndim - 1) + 1

    def forward(self, input: Array) -> Array:
        return np.cumsum(input, axis=self._batched_axis(input)) if input.ndim > 1 else input

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        if input.ndim == 1:
            return (gradient,)
        along = self._batched_axis(input)
        return (np.flip(np.cumsum(np.flip(gradient, along), axis=along), along),)

    def _axis_length(self, input: Array) -> int:
        return input.shape[self._batched_axis(input)] if input.ndim > 1 else 1

    def forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), self._axis_length(input))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, self._axis_length(input)),)

    @declare_bug
    def from_the_front(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sum was taken from the front instead of from the end."""
        return (self.forward(gradient),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.cumsum(input, self.dim)
