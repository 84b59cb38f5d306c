"""Normalisations of groups of elements, then scaling and shifting.

Each group is centred by its mean and divided by its standard deviation.
"""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Len

from service.numerics.core.batching import Array, Shape, align_rank, count_elements, sum_broadcast_axes
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_axes
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaOp
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    ShapeError,
    declare_bug_named,
    make_form,
    register_form,
    register_op,
)
from service.numerics.ops.partial_sums import bound_sum
from service.numerics.ops.rounding_errors import ErrorModel

Positive = Annotated[int, Ge(1)]
NotNegativeFloat = Annotated[float, Ge(0)]
_RECIPROCAL_ROOT_ROUNDINGS = 3
"""Roundings of a reciprocal root."""


def _split_operands(
    input: Array, weight: Array | None = None, bias: Array | None = None
) -> tuple[Array, Array | None, Array | None]:
    return input, weight, bias


def _correct_bias(variance: Array, count: int) -> Array:
    """Return the variance with the divisor N - 1; that of one number alone is NaN, as PyTorch's is."""
    return variance * (variance.dtype.type(count) / variance.dtype.type(count - 1))


def _get_array(array: Array | None) -> Array:
    assert array is not None
    return array


_PUBLISHED = {
    "input:term_missing:z mean(h z)": (
        "missing_variance_path",
        "the variance was treated as a constant, though it depends on the input",
    ),
    "input:factor_missing:r": (
        "channel_factor_missing",
        "the division by the standard deviation was left out on the way to the input",
    ),
    "input:wrong_factor:g for every h": ("channel_factor_missing", "the weight was left out on the way to the input"),
}


_LOOK_ALIKES_OF_R = {
    "r_without_eps": "eps was left out of r",
    "r_of_deviation_plus_eps": "eps was added to the standard deviation, and not to the variance,",
    "r_unbiased": "the variance was divided by N - 1 instead of N",
}


def declare_form(
    gradients: Mapping[str, str],
    published: Mapping[str, tuple[str, str]],
    omitted: tuple[str, ...],
    look_alikes_of_z: Mapping[str, str],
) -> BackwardForm:
    """Return the form of a normalisation.

    In the formulas x are the elements of a group, c = x - m, z = c r, g the incoming gradient and h = g w.
    """
    return BackwardForm(
        gradients,
        look_alikes={
            "z": {**look_alikes_of_z, "z_weighted": "the weight was applied to z"},
            "r": _LOOK_ALIKES_OF_R,
            "h": {"g": "the weight was left out of one h", "h_weighted_twice": "the weight was applied twice to one h"},
            "mean": {"sum": "the sum over the group stood for its mean"},
        },
        stand_ins={
            "h": {"g": "the weight was left out", "h_weighted_twice": "the weight was applied twice to every h"},
            "r": _LOOK_ALIKES_OF_R,
            "mean": {
                "sum": "the sum over the group stood for its mean everywhere",
                "mean_by_group_count": "sums over a group were divided by the number of groups",
            },
        },
        layouts=("ungroup", "to_weight", "to_bias"),
        upstream=("g", "h"),
        published=published,
        omitted=omitted,
    )


_WEIGHT_FORMULA = "to_weight(ungroup(g * z))"
_CENTRED_FORM = declare_form(
    {
        "input": "ungroup(r * (h - mean(h) - z * mean(h * z)))",
        "weight": _WEIGHT_FORMULA,
        "bias": "to_bias(ungroup(g))",
    },
    _PUBLISHED
    | {
        "input:term_missing:mean(h)": (
            "missing_mean_path",
            "the mean was treated as a constant, though it depends on the input",
        ),
    },
    # The mean of z is 0, c is z times a number of the group, and a weight of h is one of z.
    omitted=("input:factor_missing:h", "input:wrong_factor:c for z again", "input:wrong_factor:z_weighted for z again"),
    look_alikes_of_z={"c": "c = x - m stood for z = c r", "x": "x stood for z = (x - m) r"},
)
_UNCENTRED_FORM = declare_form(
    {"input": "ungroup(r * (h - z * mean(h * z)))", "weight": _WEIGHT_FORMULA},
    _PUBLISHED,
    omitted=(
        "input:wrong_factor:x for z again",
        "input:wrong_factor:z_weighted for z again",
        "input:wrong_reduction:sum for mean in mean(h z)",
    ),
    look_alikes_of_z={"x": "x stood for z = x r"},
)


class Normalisation(FormulaOp):
    """A normalisation y = w z + b, z = (x - m) r with r = 1 / sqrt(v + eps).

    m is the mean and v the biased variance of each group of N elements.

    Notes
    -----
    With h = g w, g = dL/dy, and mean(.) over the group:
        dL/dx = r (h - mean(h) - z mean(h z))
        dL/dw = sum g z,  dL/db = sum g,  over the elements that share each parameter
    """

    multiplying_slots = MappingProxyType({"weight": "factor"})
    inputs = ("input", "weight?", "bias?")
    supports_complex_step = True
    linear_in = MappingProxyType({"weight": ("bias",), "bias": ("weight",)})
    is_centred = True

    @property
    def _epsilon(self) -> float:
        return self.eps  # type: ignore[attr-defined]  # every normalisation has it

    @abstractmethod
    def _group_elements(self, x: Array) -> Array:
        """Return x with each group along the last axis, (K, groups, N)."""

    @abstractmethod
    def _ungroup_elements(self, grouped: Array, x: Array) -> Array:
        """Return a grouped array in the shape of x, with tiles of its own."""

    @abstractmethod
    def _broadcast_parameter(self, parameter: Array, x: Array) -> Array:
        """Return a weight or bias broadcastable to x."""

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, *parameters = values
        assert input_labels is not None
        grouped_labels = self._group_elements(input_labels)
        group_labels = self._ungroup_elements(
            np.broadcast_to(take_min_over_axes(grouped_labels, grouped_labels.ndim - 1), grouped_labels.shape),
            input_labels,
        )
        return take_elementwise_min(
            group_labels, *(self._broadcast_parameter(labels, input_labels) for labels in drop_missing(parameters))
        )

    def compute_linear_response(self, position: int, direction: Array, *inputs: Any) -> Array:
        if position < 2:
            return super().compute_linear_response(position, direction, *inputs)
        # A weight that is left out is 1, not 0: the response of the bias has to be named.
        bias_response = self._broadcast_parameter(direction, inputs[0])
        return np.broadcast_to(bias_response, (len(bias_response), *inputs[0].shape[1:]))

    def _subtract_mean(self, grouped: Array) -> Array:
        return grouped - grouped.mean(axis=-1, keepdims=True) if self.is_centred else grouped

    def _compute_inverse_deviation(self, centred_values: Array) -> Array:
        """Return r."""
        return 1 / np.sqrt(
            np.square(centred_values).mean(axis=-1, keepdims=True) + centred_values.dtype.type(self._epsilon)
        )

    def _normalise(self, x: Array) -> tuple[Array, Array]:
        """Return z and r, grouped."""
        centred_values = self._subtract_mean(self._group_elements(x))
        inverse_deviation = self._compute_inverse_deviation(centred_values)
        return centred_values * inverse_deviation, inverse_deviation

    def forward(self, input: Array, weight: Array | None = None, bias: Array | None = None) -> Array:
        output = self._ungroup_elements(self._normalise(input)[0], input)
        if weight is not None:
            output = output * self._broadcast_parameter(weight, input)
        return output if bias is None else output + self._broadcast_parameter(bias, input)

    def make_scope(
        self, gradient: Array, output: Array, input: Array, weight: Array | None = None, bias: Array | None = None
    ) -> Scope:
        scope = Scope()
        value = scope.compute

        def multiply_by_weight(upstream: Array) -> Array:
            return upstream if weight is None else upstream * self._broadcast_parameter(weight, input)

        return scope.add_quantities(
            x=lambda: self._group_elements(input),
            c=lambda: self._subtract_mean(value("x")),
            v=lambda: np.square(value("c")).mean(axis=-1, keepdims=True),
            r=lambda: self._compute_inverse_deviation(value("c")),
            r_without_eps=lambda: 1 / np.sqrt(value("v")),
            r_of_deviation_plus_eps=lambda: 1 / (np.sqrt(value("v")) + value("v").dtype.type(self._epsilon)),
            r_unbiased=lambda: 1 / np.sqrt(_correct_bias(value("v"), value("x").shape[-1]) + self._epsilon),
            z=lambda: value("c") * value("r"),
            z_weighted=lambda: self._group_elements(multiply_by_weight(self._ungroup_elements(value("z"), input))),
            g=lambda: self._group_elements(gradient),
            h=lambda: self._group_elements(multiply_by_weight(gradient)),
            h_weighted_twice=lambda: self._group_elements(multiply_by_weight(multiply_by_weight(gradient))),
        ).add_functions(
            mean=lambda array: array.mean(axis=-1, keepdims=True),
            sum=lambda array: array.sum(axis=-1, keepdims=True),
            mean_by_group_count=lambda array: array.sum(axis=-1, keepdims=True) / array.shape[-2],
            ungroup=lambda array: self._ungroup_elements(array, input),
            to_weight=lambda array: _get_array(self._compute_parameter_gradient(array, weight, input)),
            to_bias=lambda array: _get_array(self._compute_parameter_gradient(array, bias, input)),
        )

    def _compute_parameter_gradient(self, products: Array, parameter: Array | None, x: Array) -> Array | None:
        """Return the sum over the elements that share each element of a parameter."""
        if parameter is None:
            return None
        shape = self._broadcast_parameter(parameter, x).shape[1:]
        total = sum_broadcast_axes(products, (1,) * (products.ndim - 1 - len(shape)) + shape)
        return total.reshape(total.shape[:1] + parameter.shape[1:])

    def _normalise_with_errors(
        self, errors: ErrorModel, x: Array, *, is_backward: bool = False
    ) -> tuple[Array, Array, Array]:
        """Return z and r with errors, and the own error of each z, grouped.

        Notes
        -----
        With N elements in a group:
            m    off as a sum of N, one shift of the group. The variance does not see it, its derivative being the sum
                 of the x - m
            v    off relatively by u sqrt(N), and r by half of that and by u: one factor of the group
            v    in one pass, mean(x^2) - m^2, by u (mean(x^2) + m^2). That is allowed as far as it does no more than
                 the shift by m does, so as long as m is below some sqrt(N) deviations: beyond it is unstable
            z    off by u r sqrt(x^2 + m^2 + (x - m)^2) for each element: x r - m r as well as (x - m) r
        A backward pass may have m and r as the forward pass stored them: PyTorch's on a CPU stores them in the dtype of
        x. The variance is that of the mean before it was stored.

        References
        ----------
        Higham 2002, section 1.9 and problem 1.10, for the variance in two passes and in one.
        """
        groups = self._group_elements(x)
        mean, mean_magnitude = np.zeros((1, 1, 1)), np.abs(groups).mean(axis=-1, keepdims=True)
        if self.is_centred:
            mean = groups.mean(axis=-1, keepdims=True)
            mean = errors(mean, bound_sum(groups) / groups.shape[-1] + np.abs(mean))
        centred_values = groups - mean
        variance = np.square(centred_values).mean(axis=-1, keepdims=True)
        variance_error = variance
        if self.is_centred:
            deviations = np.sqrt(variance)
            one_pass = variance + 2 * np.square(mean)
            variance_error = variance_error + np.minimum(
                one_pass / math.sqrt(groups.shape[-1]), 2 * deviations * mean_magnitude
            )
        variance = errors(variance, variance_error, groups.shape[-1])
        inverse_deviation = errors(
            1 / np.sqrt(variance + centred_values.dtype.type(self._epsilon)), terms=_RECIPROCAL_ROOT_ROUNDINGS
        )
        own_error = (
            np.sqrt(np.square(centred_values) + np.square(groups) + np.square(mean))
            if self.is_centred
            else np.abs(centred_values)
        )
        if is_backward and self.inner_casts:
            centred_values = centred_values - (errors.cast("mean", mean) - mean)
            inverse_deviation = errors.cast("rstd", inverse_deviation)
        return centred_values * inverse_deviation, inverse_deviation, own_error * inverse_deviation

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        input, weight, bias = _split_operands(*inputs)
        z, _, own_error = self._normalise_with_errors(errors, input)
        output, magnitude = self._ungroup_elements(z, input), self._ungroup_elements(own_error + np.abs(z), input)
        if weight is not None:
            parameter_values = self._broadcast_parameter(weight, input)
            output, magnitude = output * parameter_values, magnitude * np.abs(parameter_values)
        if bias is not None:
            parameter_values = self._broadcast_parameter(bias, input)
            output, magnitude = output + parameter_values, magnitude + np.abs(parameter_values)
        return errors(output, magnitude)

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with the errors of the textbook's steps.

        Notes
        -----
        With h = g w, N elements in a group and o the own error of each element of z in units of u:
            z          off by u o, for each element
            mean(h)    off as a sum of N, once for the group
            mean(h z)  off as a sum of N, and by u mean(abs(h) o), once for the group: libraries compute it as r (mean(h
                       x) - m mean(h))
            dx         off by u r (abs(h) + abs(mean(h)) + abs(z mean(h z))), times sqrt(2) for two roundings each
        """
        input, weight, bias = _split_operands(*inputs)
        z, inverse_deviation, own_error = self._normalise_with_errors(errors, input, is_backward=True)
        z = errors(z, own_error)
        h = self._group_elements(gradient if weight is None else gradient * self._broadcast_parameter(weight, input))
        count, gradient_product = z.shape[-1], h * z
        mean_error = bound_sum(gradient_product) / count
        mean_error = mean_error + (np.abs(h) * own_error).mean(axis=-1, keepdims=True)
        mean_product = errors(gradient_product.mean(axis=-1, keepdims=True), mean_error)
        group_gradient, magnitude = h - z * mean_product, np.abs(h) + np.abs(z * mean_product)
        if self.is_centred:
            mean = errors(h.mean(axis=-1, keepdims=True), bound_sum(h) / count)
            group_gradient, magnitude = group_gradient - mean, magnitude + np.abs(mean)
        by_input = self._ungroup_elements(
            errors(inverse_deviation * group_gradient, np.abs(inverse_deviation) * magnitude, 2), input
        )
        products = gradient * self._ungroup_elements(z, input)
        by_weight, by_bias = (
            self._compute_parameter_gradient_with_errors(errors, parameter_products, parameter, input)
            for parameter_products, parameter in ((products, weight), (gradient, bias))
        )
        return (by_input, by_weight, by_bias)[: len(self.slots)]

    def _compute_parameter_gradient_with_errors(
        self, errors: ErrorModel, products: Array, parameter: Array | None, x: Array
    ) -> Array | None:
        total, magnitude = (
            self._compute_parameter_gradient(summands, parameter, x) for summands in (products, np.abs(products))
        )
        if total is None or parameter is None:
            return None
        return errors(total, magnitude, 1 + count_elements(x.shape[1:]) // count_elements(parameter.shape[1:]))


class CentredNormalisation(Normalisation):
    """A normalisation that subtracts the mean."""

    backward_form = _CENTRED_FORM
    inner_casts = ("mean", "rstd")

    @declare_bug_named(
        "missing_mean_path", "the mean was treated as a constant, and the variance too, though both depend on the input"
    )
    def omit_mean_and_variance_paths(
        self, gradient: Array, output: Array, input: Array, weight: Array | None = None, bias: Array | None = None
    ) -> Gradients:
        value = self.make_scope(gradient, output, input, weight, bias).compute
        by_input = self._ungroup_elements(value("r") * value("h"), input)
        return (by_input, *self.backward(gradient, output, input, weight, bias)[1:])

    @declare_bug_named(
        "missing_variance_path",
        "the variance was treated as a constant, and the mean too, though both depend on the input",
    )
    def omit_variance_and_mean_paths(
        self, gradient: Array, output: Array, input: Array, weight: Array | None = None, bias: Array | None = None
    ) -> Gradients:
        return self.omit_mean_and_variance_paths(gradient, output, input, weight, bias)


class TrailingAxesNormalisation(Normalisation):
    """A normalisation over the trailing axes of `normalized_shape`."""

    normalized_shape: Any

    def _get_trailing_shape(self) -> Shape:
        return (self.normalized_shape,) if isinstance(self.normalized_shape, int) else tuple(self.normalized_shape)

    def infer_output_shape(self, input: Shape, *parameters: Shape | None) -> Shape:
        trailing = self._get_trailing_shape()
        if not trailing or input[len(input) - len(trailing) :] != trailing:
            raise ShapeError(f"an input (..., {', '.join(map(str, trailing))}), as normalized_shape says")
        if any(shape is not None and shape != trailing for shape in parameters):
            raise ShapeError(f"a weight and a bias of shape {list(trailing)}")
        return input

    def _group_elements(self, x: Array) -> Array:
        return x.reshape(x.shape[0], -1, count_elements(self._get_trailing_shape()))

    def _ungroup_elements(self, grouped: Array, x: Array) -> Array:
        return grouped.reshape(grouped.shape[:1] + x.shape[1:])

    def _broadcast_parameter(self, parameter: Array, x: Array) -> Array:
        return align_rank(parameter, x.ndim - 1)


@register_op("layer_norm")
class LayerNorm(TrailingAxesNormalisation, CentredNormalisation):
    """Layer normalisation over the trailing axes of `normalized_shape`.

    y = w z + b with z = (x - m) r, r = 1 / sqrt(v + eps). m and v are mean and biased variance of the N elements of
    these axes. With g = dL/dy, h = g w, mean(.) over these axes, w and b of normalized_shape:
        dz_i/dx_j = r ([i = j] - 1/N - z_i z_j / N),  so
        dL/dx = r (h - mean(h) - z mean(h z))
        dL/dw = sum g z,  dL/db = sum g,  over the leading axes
    """

    numpy_calls = 10
    normalized_shape: Positive | Annotated[list[Positive], Len(1)]
    eps: NotNegativeFloat = 1e-5

    inputs = ("input", "weight?", "bias?")
    positional = ("input", "normalized_shape", "weight", "bias", "eps")
    examples = (
        OpExample(((3, 4), (4,), (4,)), {"normalized_shape": 4}),
        OpExample(((2, 3, 4), (3, 4), None), {"normalized_shape": [3, 4], "eps": 1e-3}),
        OpExample(((2, 5), None, None), {"normalized_shape": [5]}),
    )

    def count_stored_terms(self, position: int, *inputs: Array | None) -> int:
        # A CPU adds up the rows of both parameters' gradients in the dtype of the tensors.
        x, parameter = inputs[0], inputs[position]
        assert x is not None
        return 1 if not position or parameter is None else x[0].size // parameter[0].size

    def measure_stored_sums(self, position: int, gradient: Array, output: Array, *inputs: Any) -> Array | None:
        terms = self._group_elements(gradient[:1])
        if position == 1:
            terms = terms * self._normalise(inputs[0][:1])[0]
        partial_sums = np.cumsum(terms, axis=1)
        return np.sqrt(np.square(partial_sums).sum(axis=1)).reshape(1, *self._get_trailing_shape())

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        return torch.nn.functional.layer_norm(input, self._get_trailing_shape(), weight, bias, self.eps)


@register_op("rms_norm")
class RmsNorm(TrailingAxesNormalisation):
    """Division by the root mean square over the trailing axes of `normalized_shape`.

    y = w z with z = x r, r = 1 / sqrt(mean(x^2) + eps). The default of eps is the machine epsilon of the dtype in which
    PyTorch computes: float32 at least. With g = dL/dy, h = g w, mean(.) over these axes:
        dz_i/dx_j = r ([i = j] - z_i z_j / N),  so
        dL/dx = r (h - z mean(h z))
        dL/dw = sum g z,  over the leading axes
    """

    numpy_calls = 6
    normalized_shape: Positive | Annotated[list[Positive], Len(1)]
    eps: NotNegativeFloat | None = None

    inputs = ("input", "weight?")
    positional = ("input", "normalized_shape", "weight", "eps")
    linear_in = MappingProxyType({"weight": ()})
    is_centred = False
    backward_form = _UNCENTRED_FORM
    examples = (
        OpExample(((3, 4), (4,)), {"normalized_shape": 4}),
        OpExample(((2, 3, 4), None), {"normalized_shape": [3, 4], "eps": 1e-3}),
    )

    @property
    def _epsilon(self) -> float:
        return 0.0 if self.eps is None else self.eps

    def resolve_dtype_defaults(self, epsilon: float) -> Op:
        return dataclasses.replace(self, eps=epsilon) if self.eps is None else self

    def torch_forward(self, torch: Any, input: Any, weight: Any) -> Any:
        return torch.nn.functional.rms_norm(input, self._get_trailing_shape(), weight, self._epsilon)


class ChannelNormalisation(CentredNormalisation):
    """A normalisation whose weight and bias have one element for each channel."""

    def _check_channels(self, input: Shape, parameters: tuple[Shape | None, ...]) -> None:
        if any(shape is not None and shape != input[1:2] for shape in parameters):
            raise ShapeError(f"a weight and a bias of shape {list(input[1:2])}, one for each channel")

    def _broadcast_parameter(self, parameter: Array, x: Array) -> Array:
        return parameter.reshape(parameter.shape[0], 1, -1, *(1,) * (x.ndim - 3))


@register_form("batch_norm", "of the batch")
class BatchNormOfBatch(ChannelNormalisation):
    """Batch normalisation by the statistics of the batch itself."""

    numpy_calls = 11
    training: bool = True
    eps: NotNegativeFloat = 1e-5

    # A weight is the same for a whole group.
    backward_form = dataclasses.replace(
        _CENTRED_FORM, omitted=(*_CENTRED_FORM.omitted, "input:wrong_factor:z_weighted for z")
    )
    inputs = ("input", "weight?", "bias?")

    def infer_output_shape(self, input: Shape, *parameters: Shape | None) -> Shape:
        if len(input) < 2:
            raise ShapeError("an input (B, C, ...)")
        if count_elements(input) == input[1]:
            raise ShapeError("more than one element in each channel, for its variance")
        self._check_channels(input, parameters)
        return input

    def _group_elements(self, x: Array) -> Array:
        return np.moveaxis(x, 2, 1).reshape(x.shape[0], x.shape[2], -1)

    def _ungroup_elements(self, grouped: Array, x: Array) -> Array:
        channels_first = grouped.reshape(grouped.shape[0], x.shape[2], x.shape[1], *x.shape[3:])
        return np.moveaxis(channels_first, 1, 2)

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        return torch.nn.functional.batch_norm(input, None, None, weight, bias, training=True, eps=self.eps)


@register_op("batch_norm")
class BatchNorm(BatchNormOfBatch):
    """Batch normalisation of each channel over the batch and its positions.

    y = w z + b with z = (x - m) r, r = 1 / sqrt(v + eps). The statistics are those of the batch itself, as in training:
    m and v are mean and biased variance of the N elements of channel c in x (B, C, ...). With g = dL/dy, h = g w,
    mean(.) over a channel, w and b (C,):
        dz_i/dx_j = r ([i = j] - 1/N - z_i z_j / N),  so
        dL/dx = r (h - mean(h) - z mean(h z))
        dL/dw_c = sum g z,  dL/db_c = sum g,  over the channel
    With training=false m and v are running_mean and running_var, which no x moves, so dL/dx = r h. As inputs they have
    gradients as well, unlike in PyTorch: dL/dm_c = -sum r h, dL/dv_c = -sum r^2 h z / 2.
    """

    training: bool = True
    eps: NotNegativeFloat = 1e-5

    inputs = ("input", "weight?", "bias?", "running_mean?", "running_var?")
    positional = ("input",)
    examples = (
        OpExample(((5, 3), (3,), (3,), None, None)),
        OpExample(((3, 2, 4), None, (2,), None, None), {"eps": 1e-3}),
        OpExample(((2, 3, 2, 2), (3,), None, None, None)),
    )

    def infer_output_shape(self, input: Shape, *parameters: Shape | None) -> Shape:
        affine, statistics = parameters[:2], parameters[2:]
        if self.training:
            if any(shape is not None for shape in statistics):
                raise ShapeError("running_mean and running_var with training=false alone: a batch has its own")
            return super().infer_output_shape(input, *affine)
        if len(input) < 2:
            raise ShapeError("an input (B, C, ...)")
        if len(statistics) < 2 or any(shape != input[1:2] for shape in statistics):
            raise ShapeError(f"with training=false a running_mean and a running_var of shape {list(input[1:2])}")
        self._check_channels(input, affine)
        return input

    def select_form(self, *shapes: Shape | None) -> Op:
        if self.training:
            return BatchNormOfBatch(eps=self.eps)
        return make_form("batch_norm", "of running statistics", eps=self.eps)

    def torch_forward(
        self,
        torch: Any,
        input: Any,
        weight: Any,
        bias: Any,
        running_mean: Any = None,
        running_var: Any = None,
    ) -> Any:
        if self.training:
            return super().torch_forward(torch, input, weight, bias)
        if not (running_mean.requires_grad or running_var.requires_grad):
            return torch.nn.functional.batch_norm(input, running_mean, running_var, weight, bias, eps=self.eps)
        # PyTorch's own function has no derivative by its statistics.
        shape = (-1, *(1,) * (input.ndim - 2))
        factor = torch.rsqrt(running_var + self.eps) * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - running_mean * factor
        return input * factor.reshape(shape) + shift.reshape(shape)


@register_op("group_norm")
class GroupNorm(ChannelNormalisation):
    """Normalisation of each of `num_groups` groups of channels of each sample.

    y = w z + b with z = (x - m) r, r = 1 / sqrt(v + eps). m and v are mean and biased variance of the N elements of a
    group in x (B, C, ...). With g = dL/dy, h = g w, mean(.) over a group, w and b (C,):
        dz_i/dx_j = r ([i = j] - 1/N - z_i z_j / N),  so
        dL/dx = r (h - mean(h) - z mean(h z))
        dL/dw_c = sum g z,  dL/db_c = sum g,  over channel c of all samples
    """

    numpy_calls = 10
    num_groups: Positive
    eps: NotNegativeFloat = 1e-5

    inputs = ("input", "weight?", "bias?")
    positional = ("input", "num_groups", "weight", "bias", "eps")
    examples = (
        OpExample(((2, 4, 3), (4,), (4,)), {"num_groups": 2}),
        OpExample(((2, 3, 2, 2), None, None), {"num_groups": 1, "eps": 1e-3}),
        OpExample(((2, 6), (6,), None), {"num_groups": 2}),
        OpExample(((3, 4), None, (4,)), {"num_groups": 1}),
    )

    def infer_output_shape(self, input: Shape, *parameters: Shape | None) -> Shape:
        if len(input) < 2 or input[1] % self.num_groups:
            raise ShapeError(f"an input (B, C, ...) with C divisible by num_groups={self.num_groups}")
        if count_elements(input) == self.num_groups:
            # PyTorch takes groups of one element if there are several samples.
            raise ShapeError("more than one element in each group, for its variance")
        self._check_channels(input, parameters)
        return input

    def _group_elements(self, x: Array) -> Array:
        return x.reshape(x.shape[0], x.shape[1] * self.num_groups, -1)

    def _ungroup_elements(self, grouped: Array, x: Array) -> Array:
        return grouped.reshape(grouped.shape[:1] + x.shape[1:])

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        if weight is None and bias is not None:
            # PyTorch 2.13 has no derivative by a bias alone in float32.
            weight = torch.ones_like(bias)
        return torch.nn.functional.group_norm(input, self.num_groups, weight, bias, self.eps)
