"""Attention by scaled products of queries and keys."""

import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Lt

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
from service.numerics.ops import analytic_continuation
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.multipliers import Multiplier, declare_factor
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    SensitiveArgument,
    ShapeError,
    declare_bug,
    declare_bug_named,
    make_form,
    register_form,
    register_op,
)
from service.numerics.ops.partial_sums import bound_product, bound_sum
from service.numerics.ops.rounding_errors import ErrorModel
from service.numerics.ops.softmax import softmax_with_errors

_SOFTMAX_CALLS = 8
"""Calls of NumPy over all weights, beside the products of matrices."""


@register_op("scaled_dot_product_attention")
class ScaledDotProductAttention(FormulaBugs):
    """Attention: y = P v, P = softmax over the last axis of S = s q k^T + M.

    q is (..., L, E), k (..., S, E) and v (..., S, V). The factor s is `scale`, 1 / sqrt(E) by default. M is a mask of
    floats, or -inf where a mask of booleans is false. With `is_causal` it is -inf above the diagonal. A row that is
    masked whole has P = 0. With g = dL/dy:
        dL/dv = P^T g
        dL/dP = g v^T,  dL/dS = P * (dL/dP - sum_j P_ij dL/dP_ij)
        dL/dq = s dL/dS k,  dL/dk = s dL/dS^T q
        dL/dM = dL/dS, summed over the axes along which M was broadcast
    Leading axes of q, k and v are broadcast. With `enable_gqa` each head of k and v, on the third axis from the end,
    serves several heads of q in a row. The gradient of what is broadcast or shared is summed over its copies.
    """

    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False
    dropout_p: Annotated[float, Ge(0), Lt(1)] = 0.0

    scratch_arrays = 6
    inputs = ("query", "key", "value", "attn_mask?:float|bool")
    positional = ("query", "key", "value", "attn_mask")
    product_slots = ("query", "key", "value")
    casts_own_gradient = True
    inner_casts = ("p", "ds")
    supports_complex_step = True
    linear_in = MappingProxyType({"value": ()})
    examples = (
        OpExample(((3, 4), (5, 4), (5, 2), None)),
        OpExample(((2, 3, 4), (2, 3, 4), (2, 3, 5), None), {"is_causal": True}),
        OpExample(((2, 1, 3, 4), (2, 1, 5, 4), (2, 1, 5, 2), (3, 5)), {"scale": 0.3}),
        OpExample(((1, 2, 3, 2), (1, 2, 4, 2), (1, 2, 4, 3), (2, 1, 4)), bool_slots=("attn_mask",)),
    )
    # In the formulas dS = dL/dS and dP = dL/dP.
    backward_form = BackwardForm(
        {
            "query": "s * (dS @ k)",
            "key": "s * (T(dS) @ q)",
            "value": "T(P) @ g",
            "attn_mask": "to_mask(dS)",
        },
        definitions={"dS": "P * (dP - sum(P * dP))"},
        look_alikes={
            "k": {"q": "q stood for k"},
            "q": {"k": "k stood for q"},
            "sum": {
                "mean": "the mean over the keys stood for the sum",
                "sum_over_queries": "the sum was taken over the queries",
            },
        },
        stand_ins={
            "P": {
                "P_without_scale": "the scores were not multiplied by s when P was computed again",
                "P_over_queries": "the softmax was taken over the queries",
            },
            "dP": {"dP_of_output": "the output stood for v in dP = g v^T"},
        },
        alternatives={
            "value": {"P @ g": "P was not transposed"},
            "query": {"s * (T(dS) @ k)": "dS was transposed"},
            "key": {"s * (dS @ q)": "dS was not transposed"},
        },
        layouts=("to_mask",),
        multipliers=("s",),
        published={
            "dS:reduction_missing:sum(P dP)": (
                "softmax_jacobian_diagonal_only",
                "only the diagonal p (1 - p) of the Jacobian of softmax was used",
            ),
            "dS:term_missing:sum(P dP)": (
                "softmax_jacobian_diagonal_only",
                "only the first part of the Jacobian of softmax, diag(p) - p p^T, was used",
            ),
        },
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        query, key, value, mask = inputs
        scope = Scope().add_quantities(
            g=lambda: gradient,
            q=lambda: query,
            k=lambda: key,
            s=lambda: self._get_score_scale(query),
            P=lambda: self._compute_softmax(self._compute_masked_scores(query, key, mask)),
            P_without_scale=lambda: self._compute_softmax(
                dataclasses.replace(self, scale=1.0)._compute_masked_scores(query, key, mask)
            ),
            P_over_queries=lambda: np.swapaxes(
                self._compute_softmax(np.swapaxes(self._compute_masked_scores(query, key, mask), -1, -2)), -1, -2
            ),
            dP=lambda: gradient @ np.swapaxes(value, -1, -2),
            dP_of_output=lambda: gradient @ np.swapaxes(output, -1, -2),
        )
        return scope.add_functions(
            sum=lambda array: array.sum(axis=-1, keepdims=True),
            mean=lambda array: array.mean(axis=-1, keepdims=True),
            sum_over_queries=lambda array: array.sum(axis=-2, keepdims=True),
            to_mask=lambda array: sum_broadcast_axes(array, mask.shape[1:]),
        )

    def infer_output_shape(self, query: Shape, key: Shape, value: Shape, attn_mask: Shape | None) -> Shape:
        if self.dropout_p:
            raise ShapeError(
                "dropout_p=0: a check needs the elements that are dropped. Write the steps, with the mask over"
                " 1 - dropout_p as a tensor: p = softmax(scores, -1), d = mul(p, mask), y = matmul(d, value)"
            )
        if min(len(query), len(key), len(value)) < 2:
            raise ShapeError("query (..., L, E), key (..., S, E), value (..., S, V)")
        if query[-1] != key[-1] or key[-2] != value[-2]:
            raise ShapeError("query and key of the same length E, key and value of the same number S")
        leading = self._infer_leading_axes(query, key, value)
        weights = (*leading, query[-2], key[-2])
        if attn_mask is not None:
            self._check_mask(weights, attn_mask)
        return (*leading, query[-2], value[-1])

    def _infer_leading_axes(self, query: Shape, key: Shape, value: Shape) -> Shape:
        """Return the axes in front of the last two, to which all three are broadcast."""
        leading = [query[:-2], key[:-2], value[:-2]]
        if self.enable_gqa:
            if any(not axes for axes in leading):
                raise ShapeError(
                    "query (..., H, L, E), key and value with enable_gqa, heads on the third axis from the end"
                )
            heads = query[-3]
            if any(not axes[-1] or heads % axes[-1] for axes in leading):
                raise ShapeError("a number of heads of key and of value that divides that of query, for enable_gqa")
            leading = [(*axes[:-1], heads) for axes in leading]
        try:
            return np.broadcast_shapes(*leading)
        except ValueError:
            raise ShapeError(
                "query (..., L, E), key (..., S, E), value (..., S, V) with leading axes that broadcast together"
            ) from None

    def select_form(self, *shapes: Shape | None) -> Op:
        query, key, value, _ = shapes
        assert query is not None
        assert key is not None
        assert value is not None
        if query[:-2] == key[:-2] == value[:-2]:
            return self
        return make_form(self.name, "of copies", is_causal=self.is_causal, scale=self.scale, enable_gqa=self.enable_gqa)

    def resolve_shape_defaults(self, *shapes: Shape | None) -> Op:
        query = shapes[0]
        assert query is not None
        return dataclasses.replace(self, scale=1 / math.sqrt(max(1, query[-1]))) if self.scale is None else self

    def _check_mask(self, weights: Shape, mask: Shape) -> None:
        if self.is_causal:
            raise ShapeError("either an attn_mask or is_causal")
        if not is_broadcastable(mask, weights):
            raise ShapeError(f"an attn_mask that broadcasts to {list(weights)}")

    def _get_score_scale(self, query: Array) -> Any:
        return query.dtype.type(1 / math.sqrt(query.shape[-1]) if self.scale is None else self.scale)

    def _compute_masked_scores(self, query: Array, key: Array, mask: Array | None) -> Array:
        scores = query @ np.swapaxes(key, -1, -2) * self._get_score_scale(query)
        if self.is_causal:
            is_masked = _mask_later_keys(*scores.shape[-2:])
            return np.where(is_masked, -np.inf, scores).astype(scores.dtype, copy=False)
        if mask is None:
            return scores
        mask = align_rank(mask, scores.ndim - 1)
        if mask.dtype == np.bool_:
            return np.where(mask, scores, -np.inf).astype(scores.dtype, copy=False)
        return scores + mask

    def get_sensitive_argument(
        self, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> SensitiveArgument:
        scores = self._compute_masked_scores(query, key, attn_mask)
        return SensitiveArgument(scores, -1)

    @staticmethod
    def _compute_softmax(scores: Array) -> Array:
        largest_score = analytic_continuation.take_largest_real_part(scores, -1)
        e = np.exp(scores - np.where(largest_score == -np.inf, 0, largest_score).astype(scores.dtype, copy=False))
        total = e.sum(axis=-1, keepdims=True)
        return e / np.where(total == 0, 1, total).astype(scores.dtype, copy=False)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        query_labels, key_labels, value_labels, mask_labels = values
        assert query_labels is not None
        assert key_labels is not None
        assert value_labels is not None
        rank = query_labels.ndim
        labels = take_elementwise_min(
            take_min_over_axes(query_labels, rank - 1),
            take_min_over_axes(key_labels, (rank - 2, rank - 1)),
            take_min_over_axes(value_labels, rank - 2),
        )
        if mask_labels is None:
            return labels
        weights_shape = (len(mask_labels), *inputs[0].shape[1:-1], inputs[1].shape[-2])
        weight_labels = np.broadcast_to(align_rank(mask_labels, rank - 1), weights_shape)
        return take_elementwise_min(labels, take_min_over_axes(weight_labels, rank - 1))

    def forward(self, query: Array, key: Array, value: Array, attn_mask: Array | None) -> Array:
        return self._compute_softmax(self._compute_masked_scores(query, key, attn_mask)) @ value

    def backward(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        p = self._compute_softmax(self._compute_masked_scores(query, key, attn_mask))
        by_p = gradient @ np.swapaxes(value, -1, -2)
        by_scores = p * (by_p - (p * by_p).sum(axis=-1, keepdims=True))
        by_product = by_scores * self._get_score_scale(query)
        by_mask = None
        if attn_mask is not None and attn_mask.dtype != np.bool_:
            by_mask = sum_broadcast_axes(by_scores, attn_mask.shape[1:])
        return (
            by_product @ key,
            np.swapaxes(by_product, -1, -2) @ query,
            np.swapaxes(p, -1, -2) @ gradient,
            by_mask,
        )

    def _compute_softmax_with_errors(
        self, errors: ErrorModel, query: Array, key: Array, mask: Array | None, *, is_recomputed: bool
    ) -> Array:
        """Return P with the errors of the steps before it.

        With `is_recomputed` it is computed a second time, from kept row statistics.
        """
        scores = self._compute_masked_scores(query, key, mask)
        magnitudes = (
            math.sqrt(2) * bound_product(query, np.swapaxes(key, -1, -2)) * np.abs(self._get_score_scale(query))
        )
        if mask is not None and mask.dtype != np.bool_:
            magnitudes = magnitudes + np.abs(align_rank(mask, magnitudes.ndim - 1))
        magnitudes = np.where(scores == -np.inf, 0, magnitudes)
        return softmax_with_errors(errors, scores, magnitudes, is_recomputed=is_recomputed)

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        query, key, value, mask = inputs
        p = self._compute_softmax_with_errors(errors, query, key, mask, is_recomputed=False)
        return multiply_with_errors(errors, errors.cast("p", p), value)

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with the errors of primitives, and of recomputing kernels.

        Notes
        -----
        With w = abs(g) abs(v)^T, N the elements of a row and V those of a value, kernels compute D = sum_j P_ij dP_ij =
        sum_v g_iv y_iv from the rounded y:
            D   off by u (sqrt(V) / 2 sum_v abs(g y) + sqrt(N) sum_j P abs(dP)), once for the row
            dS  off by u P (sqrt(V) w + abs(dP) + abs(D)), for each element by itself
        Kernels in half precision round P and dS, as factors of products of matrices alone. Those in TF32 round g as a
        factor too, but not in D, which is no product of matrices.
        Each product of matrices is off by the rounding of its own sum.
        """
        query, key, value, mask = inputs
        p = self._compute_softmax_with_errors(errors, query, key, mask, is_recomputed=True)
        factor = errors.cast_factor("gradient", gradient)
        by_p = factor @ np.swapaxes(value, -1, -2)
        output_products = gradient * output
        row_mean = errors(output_products.sum(axis=-1, keepdims=True), bound_sum(output_products) + bound_sum(p * by_p))
        magnitudes = bound_product(gradient, np.swapaxes(value, -1, -2)) + np.abs(by_p) + np.abs(row_mean)
        by_scores = errors(p * (by_p - row_mean), add_underflow_loss(p, errors) * magnitudes)
        by_product = errors.cast("ds", by_scores) * self._get_score_scale(query)
        return (
            multiply_with_errors(errors, by_product, key),
            multiply_with_errors(errors, np.swapaxes(by_product, -1, -2), query),
            multiply_with_errors(errors, np.swapaxes(errors.cast("p", p), -1, -2), factor),
            self._mask_gradient_with_errors(errors, by_scores, mask),
        )

    @staticmethod
    def _mask_gradient_with_errors(errors: ErrorModel, by_scores: Array, mask: Array | None) -> Array | None:
        if mask is None or mask.dtype == np.bool_:
            return None
        shape = mask.shape[1:]
        return errors(
            sum_broadcast_axes(by_scores, shape),
            sum_broadcast_axes(np.abs(by_scores), shape),
            count_repeats(by_scores.shape[1:], shape),
        )

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        query, key = shapes[0], shapes[1]
        assert query is not None
        assert key is not None
        weights = count_elements(query[:-1]) * key[-2]
        work = weights * (query[-1] + output[-1] + _SOFTMAX_CALLS)
        return ComputeCost(work, max(weights, super().estimate_cost(output, *shapes).largest_array), _SOFTMAX_CALLS)

    def list_gradient_multipliers(
        self, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Sequence[Multiplier]:
        return [declare_factor(float(self._get_score_scale(query)), positions=(0, 1))]

    @declare_bug_named("detached", "the weights of the values were treated as constants")
    def hold_weights_constant(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        return 0 * query, 0 * key, *self.backward(gradient, output, query, key, value, attn_mask)[2:]

    @declare_bug_named("scaled", "the factor 1/sqrt(d) of the scores was left out", is_declared_as_multiplier=True)
    def forget_scale(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        by_query, by_key, *other_gradients = self.backward(gradient, output, query, key, value, attn_mask)
        assert by_query is not None
        assert by_key is not None
        return by_query / self._get_score_scale(query), by_key / self._get_score_scale(query), *other_gradients

    @declare_bug("the mask was left out")
    def mask_forgotten(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        unmasked = dataclasses.replace(self, is_causal=False)
        return *unmasked.backward(gradient, output, query, key, value, None)[:3], None

    def torch_forward(self, torch: Any, query: Any, key: Any, value: Any, attn_mask: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attn_mask,
            is_causal=self.is_causal,
            scale=self.scale,
            enable_gqa=self.enable_gqa,
        )


@register_form("scaled_dot_product_attention", "of copies")
class AttentionOfCopies(CompositeOp):
    """Attention whose keys, values or queries are broadcast, or shared by heads: attention of copies."""

    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    inputs = ("query", "key", "value", "attn_mask?:float|bool")

    def expand(self, step: Expansion, query: str, key: str, value: str, attn_mask: str | None) -> str:
        op = ScaledDotProductAttention(is_causal=self.is_causal, scale=self.scale, enable_gqa=self.enable_gqa)
        leading = op.infer_output_shape(*map(step.get_shape, (query, key, value, attn_mask)))[:-2]
        copies: list[str] = []
        for operand in (query, key, value):
            copied, shape = operand, step.get_shape(operand)
            if self.enable_gqa and shape[-3] != leading[-1]:
                copied = step("repeat_interleave", copied, repeats=leading[-1] // shape[-3], dim=-3)
            if step.get_shape(copied)[:-2] != leading:
                copied = step("expand", copied, size=[*leading, *shape[-2:]])
            copies.append(copied)
        return step(self.name, *copies, attn_mask, is_causal=self.is_causal, scale=self.scale)

    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        op = ScaledDotProductAttention(is_causal=self.is_causal, scale=self.scale, enable_gqa=self.enable_gqa)
        return op.torch_forward(torch, *inputs)


def add_underflow_loss(p: Array, errors: ErrorModel) -> Array:
    """Return the size of weights plus the underflow loss of their exponentials.

    Masked weights lose nothing.
    """
    return np.abs(p) + errors.underflow_loss * (p != 0)


def multiply_with_errors(errors: ErrorModel, a: Array, b: Array) -> Array:
    """Return a @ b with its rounding, where a holds exponentials.

    Notes
    -----
    Each element is off by u for the sum and its products, and by no more than all terms but the largest of a. A sum
    with one term far above the others rounds away no more than the others.
    """
    product = a @ b
    sizes = np.abs(a)
    smaller_sizes = sizes * (sizes < sizes.max(axis=-1, keepdims=True))
    underflow_error = errors.underflow_loss * ((a != 0) @ np.abs(b))
    product = errors(
        product, bound_product(a, b) + underflow_error, most=2 * (smaller_sizes @ np.abs(b)) + underflow_error
    )
    return errors(product, np.abs(product), 2)


@lru_cache(16)
def _mask_later_keys(queries: int, keys: int) -> Array:
    """Return the mask of the keys that come after each query, (queries, keys)."""
    mask = np.triu(np.ones((queries, keys), dtype=np.bool_), 1)
    mask.flags.writeable = False
    return mask
