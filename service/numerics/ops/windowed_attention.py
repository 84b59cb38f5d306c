"""Attention as fused kernels compute it: a window of keys, capped scores, sinks."""

import dataclasses
import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt

from service.numerics.core.batching import (
    Array,
    Shape,
    align_rank,
    count_elements,
    count_repeats,
    is_broadcastable,
    sum_broadcast_axes,
)
from service.numerics.core.sparsity import take_elementwise_min, take_min_over_axes
from service.numerics.ops.activation import Tanh
from service.numerics.ops.attention import add_underflow_loss, multiply_with_errors
from service.numerics.ops.capped_scores import NO_ENDS, CappedScores, Ends, Weights, Window, find_seen_keys
from service.numerics.ops.multipliers import Multiplier, declare_factor
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    OpExample,
    SensitiveArgument,
    ShapeError,
    declare_bug,
    declare_bug_named,
    register_op,
)
from service.numerics.ops.partial_sums import bound_product, bound_sum
from service.numerics.ops.rounding_errors import ErrorModel

_SOFTMAX_CALLS = 12
"""Calls of NumPy over all weights, beside the products of matrices."""


@register_op("windowed_attention")
class WindowedAttention(CappedScores):
    """Attention in a window: y = P v, P = softmax over the keys of S = c tanh(s q k^T / c) + M + B, and a sink.

    q is (..., L, E), k (..., S, E), v (..., S, V). s is `scale`, 1 / sqrt(E) by default, and c is `softcap`; without
    one S = s q k^T + M + B. M is the attn_mask, of floats or -inf where a boolean is false, and B a bias of floats.
    `window` = [left, right] leaves query i the keys from i + S - L - left to i + S - L + right, -1 for no limit. A sink
    z, one for each head, is one more logit of the softmax, without a value: P_ij = exp(S_ij) / (exp(z) + sum_j
    exp(S_ij)). A row without keys has P = 0. With g = dL/dy, u = S - M - B and Q = exp(z) / (exp(z) + sum_j exp(S_ij)):
        dL/dv = P^T g
        dL/dP = g v^T,  D_i = sum_j P_ij dL/dP_ij,  dL/dS = P * (dL/dP - D)
        dL/dM = dL/dB = dL/dS, summed over the axes of a broadcast;  dL/dz = -sum_i Q_i D_i
        dL/dq = s T k,  dL/dk = s T^T q,  T = dL/dS * (1 - (u / c)^2), or T = dL/dS without a cap
    """

    window: Window | None = None
    softcap: Annotated[float, Gt(0)] | None = None
    scale: float | None = None

    scratch_arrays = 8
    product_slots = ("query", "key", "value")
    casts_own_gradient = True
    inner_casts = ("p", "ds")
    inputs = ("query", "key", "value", "attn_mask?:float|bool", "bias?", "sinks?")
    positional = ("query", "key", "value", "attn_mask")
    supports_complex_step = True
    linear_in = MappingProxyType({"value": ()})
    examples = (
        OpExample(((2, 3, 4), (2, 5, 4), (2, 5, 2), None, (3, 5), (2,)), {"window": [1, 0], "softcap": 3.0}),
        OpExample(((1, 2, 3, 2), (1, 2, 4, 2), (1, 2, 4, 3), (2, 1, 4), None, None), bool_slots=("attn_mask",)),
        OpExample(((2, 3, 2), (2, 3, 2), (2, 3, 2), (3, 3), None, (2,)), {"window": [-1, 1], "scale": 0.3}),
        OpExample(((4, 2), (3, 2), (3, 1), None, None, None), {"window": [0, 0], "softcap": 2.0}),
    )

    def infer_output_shape(self, query: Shape, key: Shape, value: Shape, *others: Shape | None) -> Shape:
        ranks = {len(query), len(key), len(value)}
        if len(ranks) > 1 or min(ranks) < 2 or not query[:-2] == key[:-2] == value[:-2]:
            raise ShapeError("query (..., L, E), key (..., S, E), value (..., S, V) with the same leading axes")
        if query[-1] != key[-1] or key[-2] != value[-2]:
            raise ShapeError("query and key of the same length E, key and value of the same number S")
        weights = (*query[:-1], key[-2])
        for name, shape in zip(("an attn_mask", "a bias"), others, strict=False):
            if shape is not None and not is_broadcastable(shape, weights):
                raise ShapeError(f"{name} that broadcasts to {list(weights)}")
        if others[2] is not None and not is_broadcastable(others[2], query[:-2]):
            raise ShapeError(f"sinks that broadcast to the leading axes {list(query[:-2])}, one for each head")
        return (*query[:-1], value[-1])

    def get_sensitive_argument(self, *inputs: Any) -> SensitiveArgument:
        return SensitiveArgument(self.append_sink(self.compute_scores(inputs), inputs[5]), -1)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        query, key, value, mask, bias, sinks = values
        assert query is not None
        assert key is not None
        assert value is not None
        rank = query.ndim
        labels = [
            take_min_over_axes(query, rank - 1),
            take_min_over_axes(key, (rank - 2, rank - 1)),
            take_min_over_axes(value, rank - 2),
        ]
        weights_shape = (*inputs[0].shape[1:-1], inputs[1].shape[-2])
        for addend in (mask, bias):
            if addend is not None:
                spread = np.broadcast_to(align_rank(addend, rank - 1), (len(addend), *weights_shape))
                labels.append(take_min_over_axes(spread, rank - 1))
        if sinks is not None:
            labels.append(align_rank(sinks, rank - 3)[..., None, None])
        return take_elementwise_min(*labels)

    def forward(self, *inputs: Any) -> Array:
        return self.compute_weights(inputs, inputs[5]).keys @ inputs[2]

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self._differentiate(gradient, inputs, self.compute_weights(inputs, inputs[5]))

    def _differentiate(
        self, gradient: Array, inputs: Sequence[Any], weights: Weights, row_means: Array | None = None
    ) -> Gradients:
        """Return the gradients for given weights, and the row means D for one that is left out."""
        query, key, value, *_ = inputs
        p = weights.keys
        by_p = gradient @ np.swapaxes(value, -1, -2)
        if row_means is None:
            row_means = (p * by_p).sum(axis=-1, keepdims=True)
        by_scores = p * (by_p - row_means)
        by_products = by_scores
        if self.softcap is not None:
            argument = self.compute_products(query, key) / query.dtype.type(self.softcap)
            by_products = by_scores * Tanh().evaluate_derivative(argument, np.tanh(argument))
        by_products = by_products * self.get_score_scale(query)
        by_sinks = None if weights.sink is None else -weights.sink * row_means
        return (
            by_products @ key,
            np.swapaxes(by_products, -1, -2) @ query,
            np.swapaxes(p, -1, -2) @ gradient,
            *(_sum_to_mask(by_scores, addend) for addend in inputs[3:5]),
            None if by_sinks is None else sum_broadcast_axes(by_sinks.sum(axis=(-1, -2)), inputs[5].shape[1:]),
        )

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        weights, _ = self.compute_weights_with_errors(errors, inputs, is_recomputed=False)
        return multiply_with_errors(errors, errors.cast("p", weights.keys), inputs[2])

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with the errors of primitives, and of recomputing kernels.

        Notes
        -----
        The steps are those of `ScaledDotProductAttention`, with D from the rounded y. The slope of the cap is off as
        that of `tanh` is. The gradient of a sink, a sum over N rows, is off by u sqrt(N) sum_i abs(Q_i D_i).
        """
        query, key, value, mask, bias, sinks = inputs
        weights, products = self.compute_weights_with_errors(errors, inputs, is_recomputed=True)
        p = weights.keys
        factor = errors.cast_factor("gradient", gradient)
        by_p = factor @ np.swapaxes(value, -1, -2)
        terms = gradient * output
        row_means = errors(terms.sum(axis=-1, keepdims=True), bound_sum(terms) + bound_sum(p * by_p))
        sizes = bound_product(gradient, np.swapaxes(value, -1, -2)) + np.abs(by_p) + np.abs(row_means)
        by_scores = errors(p * (by_p - row_means), add_underflow_loss(p, errors) * sizes)
        by_products = by_scores
        if self.softcap is not None:
            argument = errors(products / self.softcap)
            (behind_cap,) = Tanh().backward_with_errors(errors, by_scores, np.tanh(argument), argument)
            assert behind_cap is not None
            by_products = behind_cap
        by_products = errors.cast("ds", by_products) * self.get_score_scale(query)
        by_sinks = None
        if weights.sink is not None:
            products_of_sink = weights.sink * row_means
            by_sinks = _sum_with_errors(
                errors,
                -products_of_sink[..., 0].sum(axis=-1),
                sinks.shape[1:],
                (np.abs(products_of_sink[..., 0]).sum(axis=-1)),
                query.shape[-2],
            )
        return (
            multiply_with_errors(errors, by_products, key),
            multiply_with_errors(errors, np.swapaxes(by_products, -1, -2), query),
            multiply_with_errors(errors, np.swapaxes(errors.cast("p", p), -1, -2), factor),
            *(
                None
                if addend is None or addend.dtype == np.bool_
                else _sum_with_errors(errors, by_scores, addend.shape[1:], np.abs(by_scores))
                for addend in (mask, bias)
            ),
            by_sinks,
        )

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        query, key = shapes[0], shapes[1]
        assert query is not None
        assert key is not None
        weights = count_elements(query[:-1]) * (key[-2] + 1)
        work = weights * (query[-1] + output[-1] + _SOFTMAX_CALLS)
        return ComputeCost(work, max(weights, super().estimate_cost(output, *shapes).largest_array), _SOFTMAX_CALLS)

    def list_gradient_multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        return [declare_factor(float(self.get_score_scale(inputs[0])), positions=(0, 1))]

    def _recompute_weights(self, inputs: Sequence[Any], ends: Ends, mask: Array | None) -> Weights:
        """Return the weights of another mask with the row statistics of the right one, as kernels recompute them."""
        scores = self.append_sink(self.compute_scores(inputs), inputs[5])
        largest = scores.max(axis=-1, keepdims=True)
        largest = np.where(largest == -np.inf, 0, largest)
        total = np.exp(scores - largest).sum(axis=-1, keepdims=True)
        wrong = self.append_sink(self.compute_scores((*inputs[:3], mask, *inputs[4:]), ends), inputs[5])
        return self.split_sink(np.exp(wrong - largest) / np.where(total == 0, 1, total), inputs[5])

    def _differentiate_in_moved_window(
        self, gradient: Array, output: Array, inputs: Sequence[Any], left_move: int, right_move: int
    ) -> Gradients:
        left, right = self.ends
        ends = (None if left is None else left + left_move, None if right is None else right + right_move)
        weights = self._recompute_weights(inputs, ends, inputs[3])
        return self._differentiate(gradient, inputs, weights, (gradient * output).sum(axis=-1, keepdims=True))

    @declare_bug_named("window_off_by_one", "the window began one key too early in the backward pass")
    def begin_too_early(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self._differentiate_in_moved_window(gradient, output, inputs, 1, 0)

    @declare_bug_named("window_off_by_one", "the window began one key too late in the backward pass")
    def begin_too_late(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self._differentiate_in_moved_window(gradient, output, inputs, -1, 0)

    @declare_bug_named("window_off_by_one", "the window ended one key too late in the backward pass")
    def end_too_late(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self._differentiate_in_moved_window(gradient, output, inputs, 0, 1)

    @declare_bug_named("window_off_by_one", "the window ended one key too early in the backward pass")
    def end_too_early(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self._differentiate_in_moved_window(gradient, output, inputs, 0, -1)

    @declare_bug("the window and the mask were left out of the backward pass")
    def mask_forgotten(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        weights = self._recompute_weights(inputs, NO_ENDS, None)
        row_means = (gradient * output).sum(axis=-1, keepdims=True)
        results = self._differentiate(gradient, inputs, weights, row_means)
        return (*results[:3], self.backward(gradient, output, *inputs)[3], *results[4:])

    @declare_bug("the derivative of the cap, 1 - tanh^2, was left out")
    def softcap_derivative_missing(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        uncapped = dataclasses.replace(self, softcap=None)
        return uncapped._differentiate(gradient, inputs, self.compute_weights(inputs, inputs[5]))

    @declare_bug("the sinks were left out of the softmax in the backward pass")
    def sinks_forgotten(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        results = self._differentiate(gradient, inputs, self.compute_weights(inputs, None))
        return (*results[:5], None if inputs[5] is None else 0 * inputs[5])

    @declare_bug_named("detached", "the weights of the values were treated as constants")
    def hold_weights_constant(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        by_value = self.backward(gradient, output, *inputs)[2]
        others = (None if array is None or array.dtype == np.bool_ else 0 * array for array in inputs[3:])
        return 0 * inputs[0], 0 * inputs[1], by_value, *others

    @declare_bug_named("softmax_jacobian_diagonal_only", "the row mean was not subtracted behind the softmax")
    def skip_mean_subtraction(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        weights = self.compute_weights(inputs, inputs[5])
        results = self._differentiate(gradient, inputs, weights, np.zeros_like(weights.keys[..., :1]))
        return (*results[:5], self.backward(gradient, output, *inputs)[5])

    @declare_bug_named("scaled", "the factor 1/sqrt(d) of the scores was left out", is_declared_as_multiplier=True)
    def forget_scale(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        by_query, by_key, *others = self.backward(gradient, output, *inputs)
        assert by_query is not None
        assert by_key is not None
        return by_query / self.get_score_scale(inputs[0]), by_key / self.get_score_scale(inputs[0]), *others

    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        query, key, value, mask, bias, sinks = inputs
        scale = 1 / math.sqrt(max(1, query.shape[-1])) if self.scale is None else self.scale
        scores = query @ key.transpose(-1, -2) * scale
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        seen = torch.from_numpy(find_seen_keys(*scores.shape[-2:], *self.ends).copy())
        for addend in (mask, bias):
            if addend is not None and addend.dtype != torch.bool:
                scores = scores + addend
            elif addend is not None:
                seen = seen & addend
        scores = scores.masked_fill(~seen, -math.inf)
        if sinks is not None:
            column = sinks.unsqueeze(-1).unsqueeze(-1).expand(*scores.shape[:-1], 1)
            return torch.softmax(torch.cat((scores, column), -1), -1)[..., :-1] @ value
        has_no_key = (scores == -math.inf).all(-1, keepdim=True)
        return torch.softmax(scores.masked_fill(has_no_key, 0), -1).masked_fill(has_no_key, 0) @ value


def _sum_to_mask(by_scores: Array, mask: Array | None) -> Array | None:
    return None if mask is None or mask.dtype == np.bool_ else sum_broadcast_axes(by_scores, mask.shape[1:])


def _sum_with_errors(errors: ErrorModel, terms: Array, shape: Shape, sizes: Array, count: int = 1) -> Array:
    """Return the sum of terms over the axes of a broadcast from `shape`, each itself a sum of `count` terms."""
    repeats = count_repeats(terms.shape[1:], shape)
    return errors(sum_broadcast_axes(terms, shape), sum_broadcast_axes(sizes, shape), count * repeats)
