"""Reductions over axes: `dim` is an axis, a list of axes, or left out for all."""

import dataclasses
import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements, sum_by_blocks
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
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.correction import choose_correction
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.multipliers import Multiplier, declare_count_multipliers, declare_division, declare_factor
from service.numerics.ops.op import (
    DependencyLabels,
    DtypeName,
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
    """A reduction over the axes `dim`, which stay with length 1 if `keepdim`.

    N is the number of elements behind each element of y.
    """

    dim: Any
    keepdim: bool

    inputs = ("input",)
    examples = (
        OpExample(((3, 4),)),
        OpExample(((2, 3, 4),), {"dim": 1}),
        OpExample(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
        OpExample(((),)),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
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
        return self._shape_result(take_min_over_axes(of_input, self._get_batched_axes(of_input)), of_input)

    def _get_batched_axes(self, input: Array) -> tuple[int, ...]:
        """Return the reduced axes behind the tile axis."""
        return shift_past_batch_axis(normalize_axes(self.dim, input.ndim - 1))

    def _count_reduced(self, input: Array) -> int:
        return count_elements(tuple(input.shape[axis] for axis in self._get_batched_axes(input)))

    def _restore_axes(self, array: Array, input: Array) -> Array:
        return restore_reduced_axes(array, input.shape[1:], normalize_axes(self.dim, input.ndim - 1))

    def _shape_result(self, reduced_array: Array, input: Array) -> Array:
        return reduced_array.reshape(reduced_array.shape[:1] + self.infer_output_shape(input.shape[1:]))

    def _get_output_flat_indices(self, input: Array) -> Array:
        """Return for each element of one tile the flat index of its output, flat."""
        kept_shape = reduce_shape(input.shape[1:], normalize_axes(self.dim, input.ndim - 1), True)
        return np.broadcast_to(np.arange(count_elements(kept_shape)).reshape(kept_shape), input.shape[1:]).ravel()

    def _list_choices_at_maximum(
        self, input_errors: Array, sizes: Array, signs: Sequence[float], shares: Array, input: Array
    ) -> SubgradientChoices | None:
        """Return choices among the elements that attain a largest signed size, or None.

        Parameters
        ----------
        input_errors
            Largest error of each element of the input.
        sizes
            Sizes of the elements. With two signs their absolute values compete.
        signs
            Signs that multiply the sizes: (1,) for a maximum, (1, -1) for a largest absolute value.
        shares
            Share that the backward pass gives to each element.
        input
            The input, (1, ...).
        """
        input_errors = np.broadcast_to(input_errors, input.shape)
        threshold = np.max(
            np.abs(sizes) - input_errors if len(signs) > 1 else sizes - input_errors,
            axis=self._get_batched_axes(input),
            keepdims=True,
        )
        largest = np.max(np.abs(sizes) if len(signs) > 1 else sizes, axis=self._get_batched_axes(input), keepdims=True)
        is_near = np.stack([(sign * sizes + input_errors >= threshold)[0].ravel() for sign in signs], axis=1)
        is_tied = np.stack([(sign * sizes == largest)[0].ravel() for sign in signs], axis=1)
        element_signs = np.sign(sizes[0].ravel()) if len(signs) > 1 else 1.0
        weights = np.maximum(np.multiply.outer(shares[0].ravel() * element_signs, signs), 0)
        if len(signs) > 1:
            # At 0 both signs get half of the share, and their gradients cancel.
            weights = np.where((sizes[0].ravel() == 0)[:, None], np.abs(shares[0].ravel())[:, None] / 2, weights)
        outputs = self._get_output_flat_indices(input)
        elements, sign_indices = np.nonzero(is_near)
        output_order = np.argsort(outputs[elements], kind="stable")
        elements, sign_indices = elements[output_order], sign_indices[output_order]
        alternatives = elements, sign_indices
        return choose_among_elements(
            outputs[elements],
            outputs[elements],
            elements,
            weights[alternatives],
            is_tied[alternatives],
            np.array(signs)[sign_indices],
        )

    def _torch_dim(self, torch_input: Any) -> tuple[int, ...]:
        return normalize_axes(self.dim, torch_input.ndim)


class ReductionFormula(FormulaBugs, ReductionOp):
    """A reduction with a formula in g, spread over the reduced axes, the input x and the N elements of each group."""

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        (input,) = inputs
        return Scope().add_quantities(
            g=lambda: np.broadcast_to(self._restore_axes(gradient, input), gradient.shape[:1] + input.shape[1:]),
            x=lambda: input,
            y=lambda: self._restore_axes(output, input),
            N=lambda: float(self._count_reduced(input)),
            N_less_1=lambda: float(self._count_reduced(input) - 1),
            N_of_all=lambda: float(count_elements(input.shape[1:])),
            N_of_others=lambda: float(count_elements(input.shape[1:]) / max(1, self._count_reduced(input))),
            m=lambda: self._average(input, self._get_batched_axes(input)),
            m_of_all=lambda: self._average(input, tuple(range(1, input.ndim))),
            e=lambda: np.exp(input),
            p=lambda: np.exp(input - self._restore_axes(output, input)),
        )

    @staticmethod
    def _average(input: Array, axes: tuple[int, ...]) -> Array:
        return input.mean(axis=axes, keepdims=True)


_LOOK_ALIKES_OF_N = {
    "N_less_1": "N - 1 stood for N",
    "N_of_all": "the number of all elements stood for that of a group, N",
    "N_of_others": "the number of groups stood for the elements of a group, N",
}


def _flatten_batch_elements(values: DependencyLabels) -> Array:
    (of_input,) = values
    assert of_input is not None
    return of_input.reshape(len(of_input), -1)


@register_op("sum")
class Sum(ReductionFormula):
    """Sum: y = sum x.

    Each element enters once, so dL/dx = g, spread over the summed axes.
    """

    dim: AxisSelection = None
    keepdim: bool = False
    dtype: DtypeName | None = None

    supports_complex_step = True
    ends_in_sum = True
    backward_form = BackwardForm(
        {"input": "g"}, alternatives={"input": {"g * x": "the gradient was multiplied by the input"}}
    )

    linear_in = MappingProxyType({"input": ()})

    def forward(self, input: Array) -> Array:
        return self._shape_result(sum_by_blocks(input, self._get_batched_axes(input)), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        spread = self._restore_axes(gradient, input)
        return (np.broadcast_to(spread, gradient.shape[:1] + input.shape[1:]),)

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), max(0, self._count_reduced(input) - 1))

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[None]:
        return (None,)

    def split_terms(self, output: Array | None, input: Array) -> Array:
        return input.reshape(input.shape[0], -1)

    def propagate_to_terms(self, output_labels: Array, values: DependencyLabels, *inputs: Any) -> Array:
        return _flatten_batch_elements(values)

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return declare_count_multipliers("sum", tuple(input.shape[axis] for axis in self._get_batched_axes(input)))

    @declare_bug_named(
        "scaled", "the mean was used where the forward pass takes the sum", is_declared_as_multiplier=True
    )
    def averaged(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) / self._count_reduced(input) + 0 * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.sum(input, self._torch_dim(input), self.keepdim)


@register_op("mean")
class Mean(ReductionFormula):
    """Mean: y = sum x / N, dL/dx = g / N, spread over the summed axes."""

    dim: AxisSelection = None
    keepdim: bool = False
    dtype: DtypeName | None = None

    supports_complex_step = True
    ends_in_sum = True
    backward_form = BackwardForm(
        {"input": "g / N"},
        look_alikes={"N": _LOOK_ALIKES_OF_N},
        alternatives={"input": {"g * x / N": "the gradient was multiplied by the input"}},
        multipliers=("N",),
    )

    linear_in = MappingProxyType({"input": ()})

    def forward(self, input: Array) -> Array:
        return self._shape_result(
            sum_by_blocks(input, self._get_batched_axes(input)) / self._count_reduced(input), input
        )

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        spread = self._restore_axes(gradient, input) / self._count_reduced(input)
        return (np.broadcast_to(spread, gradient.shape[:1] + input.shape[1:]),)

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), self._count_reduced(input))

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, 1),)

    def split_terms(self, output: Array | None, input: Array) -> Array:
        return input.reshape(input.shape[0], -1) / input[0].size

    def propagate_to_terms(self, output_labels: Array, values: DependencyLabels, *inputs: Any) -> Array:
        return _flatten_batch_elements(values)

    def estimate_terms_rounding(self, terms: Array, *inputs: Any) -> Rounding:
        return Rounding(np.abs(terms), 1)

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return declare_count_multipliers("mean", tuple(input.shape[axis] for axis in self._get_batched_axes(input)))

    @declare_bug_named("scaled", "the division by the number of elements was left out", is_declared_as_multiplier=True)
    def skip_division(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) + 0 * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.mean(input, self._torch_dim(input), self.keepdim)


@register_op("var")
class Var(ReductionFormula):
    """Variance: y = sum (x - m)^2 / (N - correction), m the mean.

    dL/dx = g 2 (x - m) / (N - correction). The mean's own derivative drops out, since sum (x - m) = 0. `unbiased` is
    PyTorch's older name for a correction of 1 or 0.
    """

    positional = ("input", "dim")
    numpy_calls = 4
    dim: AxisSelection = None
    correction: float | None = 1
    keepdim: bool = False
    unbiased: bool | None = None

    supports_complex_step = True
    backward_form = BackwardForm(
        {"input": "g * 2 * (x - m) / (N - c)"},
        look_alikes={"m": {"m_of_all": "the mean of all elements was subtracted"}, "N": _LOOK_ALIKES_OF_N},
        declared={"input": ["g * 2 * x / (N - c)"]},
    )
    examples = (
        OpExample(((3, 4),)),
        OpExample(((2, 3, 4),), {"dim": 1, "correction": 0}),
        OpExample(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        return super().make_scope(gradient, output, *inputs).add_quantities(c=lambda: np.float64(self._correction))

    @property
    def _correction(self) -> float:
        return choose_correction(self.correction, self.unbiased)

    def infer_output_shape(self, input: Shape) -> Shape:
        axes = normalize_axes(self.dim, len(input))
        count = count_elements(tuple(input[axis] for axis in axes))
        if count <= self._correction:
            raise ShapeError(f"more than {self._correction:g} elements for the variance, and has {count}")
        return reduce_shape(input, axes, self.keepdim)

    def _subtract_mean(self, input: Array) -> Array:
        return input - input.sum(axis=self._get_batched_axes(input), keepdims=True) / self._count_reduced(input)

    def forward(self, input: Array) -> Array:
        squares = np.square(self._subtract_mean(input)).sum(axis=self._get_batched_axes(input), keepdims=True)
        return self._shape_result(squares / (self._count_reduced(input) - self._correction), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        factor = 2 / (self._count_reduced(input) - self._correction)
        return (self._restore_axes(gradient, input) * (self._subtract_mean(input) * input.dtype.type(factor)),)

    def _subtract_mean_with_errors(self, errors: ErrorModel, input: Array) -> Array:
        axes, count = self._get_batched_axes(input), self._count_reduced(input)
        last_axes = tuple(range(input.ndim - len(axes), input.ndim))
        groups = np.moveaxis(input, axes, last_axes).reshape(*self._get_kept_shape(input), count)
        partial_sum_size = np.expand_dims(bound_sum(groups)[..., 0], axes) / count
        mean = input.sum(axis=axes, keepdims=True) / count
        return input - errors(mean, partial_sum_size + np.abs(mean))

    def _get_kept_shape(self, input: Array) -> Shape:
        return tuple(length for axis, length in enumerate(input.shape) if axis not in self._get_batched_axes(input))

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        """Return the output with the errors of the mean and of the sum.

        The mean m is off as a sum of N, which its derivative, 0, hides. The sum is off by u sqrt(N).
        """
        (input,) = inputs
        squares = np.square(self._subtract_mean_with_errors(errors, input)).sum(
            axis=self._get_batched_axes(input), keepdims=True
        )
        output = self._shape_result(squares / (self._count_reduced(input) - self._correction), input)
        return errors(output, terms=self._count_reduced(input) + 3)

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradient with the errors of the mean and of three operations.

        All x - m share the error of m, a sum of N. Each has three errors of its own.
        """
        (input,) = inputs
        centred = self._subtract_mean_with_errors(errors, input)
        factor = 2 / (self._count_reduced(input) - self._correction)
        return (errors(self._restore_axes(gradient, input) * (centred * factor), terms=3),)

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(2), declare_division(self._count_reduced(input) - self._correction)]

    @declare_bug("N + 1 took the place of the divisor N - correction")
    def divided_by_all(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (
            self._restore_axes(gradient, input) * self._subtract_mean(input) * 2 / (self._count_reduced(input) + 1),
        )

    @declare_bug("the mean was not subtracted")
    def mean_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) * input * 2 / (self._count_reduced(input) - self._correction),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.var(input, self._torch_dim(input), correction=self._correction, keepdim=self.keepdim)


@register_op("amax")
class Amax(ReductionOp):
    """Maximum: y = max x.

    dL/dx = g at the largest element, in equal parts at several equal ones.
    """

    dim: AxisSelection = None
    keepdim: bool = False

    def select_branch(self, input: Array) -> Array:
        """Return the share of each element in the largest."""
        largest = input == input.max(axis=self._get_batched_axes(input), keepdims=True)
        return largest / largest.sum(axis=self._get_batched_axes(input), keepdims=True)

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Return weights that sum to one of the elements that attain the largest."""
        assert input_errors[0] is not None
        return self._list_choices_at_maximum(input_errors[0], input, (1.0,), self.select_branch(input), input)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        return self._shape_result((input * branch).sum(axis=self._get_batched_axes(input), keepdims=True), input)

    def forward(self, input: Array) -> Array:
        return self._shape_result(input.max(axis=self._get_batched_axes(input), keepdims=True), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) * self.select_branch(input).astype(gradient.dtype),)

    def estimate_forward_rounding(self, output: Array, input: Array) -> None:
        return None

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array) -> Rounding:
        # The mean of several equal elements rounds. A single element is only moved.
        is_mean = np.max(np.abs(branch) * (1 - np.abs(branch)) > 0, axis=self._get_batched_axes(input), keepdims=True)
        return Rounding(np.abs(output) * self._shape_result(is_mean, input), self._count_reduced(input))

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, 1),)

    @declare_bug("the gradient of the maximum went to every element")
    def to_every_element(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) + 0 * input,)

    @declare_bug_named(
        "to_every_element",
        "the whole gradient of the maximum went to every element that attains it, where several do",
        shows_only_at_ties=True,
    )
    def give_every_largest(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) * (input == self._restore_axes(output, input)),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.amax(input, self._torch_dim(input), self.keepdim)


_LEAST_KEPT_ERROR = 2.0**-18 * 2.0**-53
"""Bound of an error, as a part of its number, that is still felt once the rounding model has enlarged it to 2**-30."""


@register_op("logsumexp")
class LogSumExp(ReductionFormula):
    """Logarithm of a sum of exponentials: y = log sum exp(x).

    It is computed as m + log sum exp(x - m), m the largest element. dL/dx = g exp(x - y).
    """

    numpy_calls = 5
    dim: int | list[int]
    keepdim: bool = False

    supports_complex_step = True
    backward_form = BackwardForm(
        {"input": "g * p"},
        declared={"input": ["g * e"]},
        look_alikes={"p": {"x": "the input x stood for p = exp(x - y)"}},
    )
    examples = (
        OpExample(((3, 4),), {"dim": 1}),
        OpExample(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
        OpExample(((5,),), {"dim": 0}, low=-40, high=40),
    )

    def get_sensitive_argument(self, input: Array) -> SensitiveArgument:
        return SensitiveArgument(input, self._get_batched_axes(input))

    def forward(self, input: Array) -> Array:
        m = analytic_continuation.take_largest_real_part(input, self._get_batched_axes(input))
        return self._shape_result(
            m + np.log(np.exp(input - m).sum(axis=self._get_batched_axes(input), keepdims=True)), input
        )

    def _compute_softmax_weights(self, input: Array) -> Array:
        e = np.exp(input - input.max(axis=self._get_batched_axes(input), keepdims=True))
        return e / e.sum(axis=self._get_batched_axes(input), keepdims=True)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) * self._compute_softmax_weights(input),)

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        largest = input.max(axis=self._get_batched_axes(input), keepdims=True)
        # The relative error of an exponential is the error of its argument, and that of the library.
        carried_error = (self._compute_softmax_weights(input) * (largest - input + 2)).sum(
            axis=self._get_batched_axes(input), keepdims=True
        )
        log_sum_error = self._shape_result(carried_error, input) + math.sqrt(self._count_reduced(input))
        return Rounding(np.abs(output) + log_sum_error, 1)

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        """Return the output with the errors of y = m + log S.

        They are no larger than log S, since m is a number of the dtype. The sum m + log S is rounded once, by u abs(y)
        at most, for which `MEAN_ROUNDING` stands. A log S of 1e-44 is lost beside m, and with it each difference of y:
        that has an error as large as its derivative. An error so small would itself be lost when it is added to y, so
        that the bound is `_LEAST_KEPT_ERROR` abs(y) at least.
        """
        (input,) = inputs
        output = self.forward(input)
        logarithm = self._shape_result(self._compute_log_sum(input), input)
        most = np.where(logarithm > 0, np.maximum(logarithm, _LEAST_KEPT_ERROR * np.abs(output)), 0)
        log_sum_error = self.estimate_forward_rounding(output, input).magnitude - np.abs(output)
        output = errors(output, MEAN_ROUNDING * np.abs(output), most=most)
        return errors(output, log_sum_error, most=most)

    def _compute_log_sum(self, input: Array) -> Array:
        """Return log S, to its last digits where S rounds to 1 and y to m: log1p of S without one largest element."""
        axes = self._get_batched_axes(input)
        largest = input.max(axis=axes, keepdims=True)
        is_largest = input == largest
        others = np.where(is_largest, 0, np.exp(input - largest)).sum(axis=axes, keepdims=True)
        return np.log1p(others + (is_largest.sum(axis=axes, keepdims=True) - 1))

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradient with the errors of p = exp(x - y).

        The y is a rounded one, so p is off by u p (abs(x - y) + 3) for each element.
        """
        (input,) = inputs
        argument = input - self._restore_axes(output, input)
        p = np.exp(argument)
        g = self._restore_axes(gradient, input)
        return (errors(g * p, np.abs(g) * (p * (np.abs(argument) + 3) + errors.underflow_loss)),)

    @declare_bug("the exponentials were not divided by their sum")
    def not_normalised(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) * np.exp(input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.logsumexp(input, self._torch_dim(input), self.keepdim)


@register_op("vector_norm")
class VectorNorm(ReductionOp):
    """Vector norm: y = (sum abs(x)^p)^(1/p) with p = ord.

    dL/dx = g sign(x) (abs(x) / y)^(p-1), 0 where x or y = 0. For p = 1 that is g sign(x). For p = inf (max abs) and
    -inf (min abs) it is g sign(x) at the elements that attain the norm, in equal parts. For p = 0 y is the number of
    elements that are not 0, and dL/dx = 0.
    """

    numpy_calls = 6
    ord: vector_norm.NormOrder = 2
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
        """Return the sign of each element, times its share or the size of its vector.

        Extreme norms (p = inf and -inf) have shares, smooth ones sizes.
        """
        if self._order in (0, 1):
            return np.sign(input)
        return (
            np.sign(input) * self._compute_extreme_norm_shares(input)
            if np.isinf(self._order)
            else vector_norm.select_norm_branch(input, self._get_batched_axes(input))
        )

    def select_branch_beside(self, branch: Array, *inputs: Any) -> Array:
        (x,) = inputs
        return (
            vector_norm.choose_piece_beside(branch, x, self._get_batched_axes(x))
            if -np.inf < self._order < 0
            else self.select_branch(x)
        )

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Return the choices at a vector of 0, or at a tie of the extreme norms.

        Notes
        -----
        For p >= 1 they follow from the unit ball of the dual norm, which they are for 1 < p < inf. A norm with p < 0 is
        0 wherever an element is: its choices are those of a smallest size, among the elements that are 0. With 0 < p <
        1 derivatives grow beyond all bounds beside 0, and there is no such set. With p = 0 there is nothing to choose.
        """
        assert input_errors[0] is not None
        input_error = np.broadcast_to(input_errors[0], input.shape)
        if self._order == np.inf:
            return self._list_choices_at_maximum(
                input_error, input, (1.0, -1.0), self._compute_extreme_norm_shares(input), input
            )
        outputs, x = self._get_output_flat_indices(input), input[0].ravel()
        is_zero = np.abs(x) <= input_error[0].ravel()
        if self._order == 1:
            positions = np.flatnonzero(is_zero)
            share = (1 + np.sign(x[positions])) / 2
            return choose_between_derivatives(
                outputs[positions], share, x[positions] == 0, [(0, positions, -1.0)], [(0, positions, 1.0)]
            )
        if self._order < 1:
            return self._list_choices_at_minimum(input_error, input) if self._order < 0 else None
        has_zero_vector = np.bincount(outputs, is_zero) == np.bincount(outputs)
        positions = np.flatnonzero(has_zero_vector[outputs])
        positions = positions[np.argsort(outputs[positions], kind="stable")]
        (gradient,) = self.backward(np.ones_like(self.forward(input)), self.forward(input), input)
        assert gradient is not None
        unit_outputs = outputs[positions]
        return choose_among_elements(
            unit_outputs,
            unit_outputs,
            positions,
            gradient.ravel()[positions],
            x[positions] == 0,
            ball_order=self._order / (self._order - 1),
        )

    def _list_choices_at_minimum(self, input_error: Array, input: Array) -> SubgradientChoices | None:
        """Return weights that sum to one of the elements that attain the smallest size.

        With p > -inf that size is 0. An element that is 0 stands with both signs. They share the weight that the
        backward pass gives to no other.
        """
        (gradient,) = self.backward(np.ones_like(self.forward(input)), self.forward(input), input)
        assert gradient is not None
        sizes, outputs, x, gradient_shares = (
            np.abs(input),
            self._get_output_flat_indices(input),
            input[0].ravel(),
            gradient[0].ravel(),
        )
        threshold = (
            np.min(sizes + input_error, axis=self._get_batched_axes(input), keepdims=True)
            if np.isinf(self._order)
            else 0.0
        )
        may_be_zero, is_near = ((sizes - input_error <= limit)[0].ravel() for limit in (0.0, threshold))
        elements, sign_indices = np.nonzero(
            is_near[:, None] & np.stack([(x > 0) | may_be_zero, (x < 0) | may_be_zero], axis=1)
        )
        output_order = np.argsort(outputs[elements], kind="stable")
        elements, sign_indices = elements[output_order], sign_indices[output_order]
        unit_outputs, signs, has_both_signs = (
            outputs[elements],
            np.array([1.0, -1.0])[sign_indices],
            may_be_zero[elements],
        )
        own_weights = np.maximum(gradient_shares[elements] * signs, 0)
        counts, weight_sums = (
            np.bincount(unit_outputs, has_both_signs, int(outputs.max()) + 1),
            np.bincount(unit_outputs, own_weights, int(outputs.max()) + 1),
        )
        weights = (
            own_weights
            + has_both_signs * np.maximum(1 - weight_sums, 0)[unit_outputs] / np.maximum(counts, 1)[unit_outputs]
        )
        is_smallest = sizes == (
            np.min(sizes, axis=self._get_batched_axes(input), keepdims=True) if np.isinf(self._order) else 0.0
        )
        return choose_among_elements(
            unit_outputs, unit_outputs, elements, weights, is_smallest[0].ravel()[elements], signs
        )

    def _compute_extreme_norm_shares(self, input: Array) -> Array:
        absolute = np.abs(input)
        extreme = np.max if self._order > 0 else np.min
        attains_extreme = absolute == extreme(absolute, axis=self._get_batched_axes(input), keepdims=True)
        return attains_extreme / attains_extreme.sum(axis=self._get_batched_axes(input), keepdims=True)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        if self._order == 0:
            return self._count_nonzero(branch, input)
        if np.isinf(self._order) or self._order == 1:
            return self._shape_result((input * branch).sum(axis=self._get_batched_axes(input), keepdims=True), input)
        return self._shape_result(
            vector_norm.evaluate_norm_on_branch(self._order, branch, input, self._get_batched_axes(input)), input
        )

    def _count_nonzero(self, elements: Array, input: Array) -> Array:
        """Return the number of elements that are not 0."""
        return self._shape_result((elements != 0).sum(axis=self._get_batched_axes(input), keepdims=True), input).astype(
            input.dtype
        )

    def forward(self, input: Array) -> Array:
        if self._order == 0:
            return self._count_nonzero(input, input)
        absolute = np.abs(input)
        if np.isinf(self._order):
            extreme = np.max if self._order > 0 else np.min
            return self._shape_result(extreme(absolute, axis=self._get_batched_axes(input), keepdims=True), input)
        return self._shape_result(
            vector_norm.compute_p_norm(self._order, absolute, self._get_batched_axes(input)), input
        )

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        g = self._restore_axes(gradient, input)
        if np.isinf(self._order):
            return (g * (np.sign(input) * self._compute_extreme_norm_shares(input)).astype(g.dtype),)
        if self._order in (0, 1):
            return (g * np.sign(input) * input.dtype.type(self._order),)
        return (
            g
            * np.sign(input)
            * vector_norm.differentiate_norm(self._order, np.abs(input), self._get_batched_axes(input)),
        )

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        if np.isinf(self._order) or self._order == 0:
            return Rounding(np.abs(output), 1)
        return Rounding(
            np.abs(output) * vector_norm.estimate_root_error(self._order, output),
            vector_norm.count_norm_rounding_terms(self._order, self._count_reduced(input)),
        )

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(gradient, output, input)
        assert by_input is not None
        if not np.isfinite(self._order) or self._order == 0:
            return (Rounding(np.abs(by_input), 8),)
        root = vector_norm.estimate_root_error(self._order, self._restore_axes(output, input))
        return (Rounding(np.abs(by_input) * (1 + abs(self._order - 1) * root), 8),)

    @declare_bug("the division by the norm was left out")
    def not_divided_by_the_norm(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        axes = self._torch_dim(input)
        if np.isinf(self._order) or self._order in (0, 1):
            return torch.linalg.vector_norm(input, self._order, axes, self.keepdim)
        unit = vector_norm.choose_torch_scaling_unit(torch, input, self._order, axes)
        norm = torch.linalg.vector_norm(input / unit, self._order, axes, keepdim=True) * unit
        return norm if self.keepdim else norm.reshape(torch.linalg.vector_norm(input.detach(), 2, axes).shape)


@register_op("cumsum")
class Cumsum(Op):
    """Cumulative sum along one axis: y_i = sum_{j <= i} x_j.

    dL/dx_j = sum_{i >= j} g_i, the same sum from the other end.
    """

    dim: int
    dtype: DtypeName | None = None

    inputs = ("input",)
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})
    examples = (OpExample(((3, 4),), {"dim": 1}), OpExample(((2, 3, 4),), {"dim": -2}), OpExample(((5,),), {"dim": 0}))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (of_input,) = values
        assert of_input is not None
        return (
            of_input if of_input.ndim == 1 else np.minimum.accumulate(of_input, axis=self._get_batched_axis(of_input))
        )

    def infer_output_shape(self, input: Shape) -> Shape:
        normalize_axis(self.dim, len(input))
        return input

    def _get_batched_axis(self, array: Array) -> int:
        return normalize_axis(self.dim, array.ndim - 1) + 1

    def forward(self, input: Array) -> Array:
        return np.cumsum(input, axis=self._get_batched_axis(input)) if input.ndim > 1 else input

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        if input.ndim == 1:
            return (gradient,)
        axis = self._get_batched_axis(input)
        return (np.flip(np.cumsum(np.flip(gradient, axis), axis=axis), axis),)

    def _get_axis_length(self, input: Array) -> int:
        return input.shape[self._get_batched_axis(input)] if input.ndim > 1 else 1

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), self._get_axis_length(input))

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, self._get_axis_length(input)),)

    @declare_bug("the sum was taken from the front instead of from the end")
    def from_the_front(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self.forward(gradient),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.cumsum(input, self.dim)
