"""Attention."""

import dataclasses
import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.ops import continued
from service.numerics.ops.errors import Errors
from service.numerics.ops.multiplier import Multiplier, factor
from service.numerics.ops.op import (
    Argument,
    Case,
    Cost,
    Gradients,
    Op,
    ShapeError,
    Spreading,
    mutant,
    mutant_of,
    op,
)
from service.numerics.ops.running import product_size, sum_size
from service.numerics.ops.softmax import softmax_with_errors
from service.numerics.reach import joined, least
from service.numerics.tiles import Array, Shape, aligned, broadcasts_to, repeats, size, unbroadcast

_SOFTMAX = 8
"""Calls over all weights, beside the products of matrices."""


@op("scaled_dot_product_attention")
class ScaledDotProductAttention(Op):
    """y = P v, P = softmax over the last axis of S = s q k^T + M; q (..., L, E), k (..., S, E), v (..., S, V).

    s is `scale`, 1 / sqrt(E) if left out. M is a mask of floats, or -inf where a mask of truths is false; with
    `is_causal` it is -inf above the diagonal. A row that is masked whole has P = 0. With g = dL/dy:
        dL/dv = P^T g
        dL/dP = g v^T,  dL/dS = P * (dL/dP - sum_j P_ij dL/dP_ij)
        dL/dq = s dL/dS k,  dL/dk = s dL/dS^T q
        dL/dM = dL/dS, summed over the axes along which M was broadcast
    """

    is_causal: bool = False
    scale: float | None = None

    scratch = 6
    inputs = ("query", "key", "value", "attn_mask?:float|bool")
    analytic = True
    linear_in = MappingProxyType({"value": ()})
    cases = (
        Case(((3, 4), (5, 4), (5, 2), None)),
        Case(((2, 3, 4), (2, 3, 4), (2, 3, 5), None), {"is_causal": True}),
        Case(((2, 1, 3, 4), (2, 1, 5, 4), (2, 1, 5, 2), (3, 5)), {"scale": 0.3}),
        Case(((1, 2, 3, 2), (1, 2, 4, 2), (1, 2, 4, 3), (2, 1, 4)), bools=("attn_mask",)),
    )

    def output_shape(self, query: Shape, key: Shape, value: Shape, attn_mask: Shape | None) -> Shape:
        ranks = {len(query), len(key), len(value)}
        if len(ranks) > 1 or min(ranks) < 2 or not query[:-2] == key[:-2] == value[:-2]:
            raise ShapeError("query (..., L, E), key (..., S, E), value (..., S, V) with the same leading axes")
        if query[-1] != key[-1] or key[-2] != value[-2]:
            raise ShapeError("query and key of one length E, key and value of one number S")
        weights = (*query[:-1], key[-2])
        if attn_mask is not None:
            self._check_mask(weights, attn_mask)
        return (*query[:-1], value[-1])

    def spelled_out(self, *shapes: Shape | None) -> Op:
        query = shapes[0]
        assert query is not None
        return dataclasses.replace(self, scale=1 / math.sqrt(query[-1])) if self.scale is None else self

    def _check_mask(self, weights: Shape, mask: Shape) -> None:
        if self.is_causal:
            raise ShapeError("either an attn_mask or is_causal")
        if not broadcasts_to(mask, weights):
            raise ShapeError(f"an attn_mask that is broadcast to {list(weights)}")

    def _scale(self, query: Array) -> Any:
        return query.dtype.type(1 / math.sqrt(query.shape[-1]) if self.scale is None else self.scale)

    def _scores(self, query: Array, key: Array, mask: Array | None) -> Array:
        scores = query @ np.swapaxes(key, -1, -2) * self._scale(query)
        if self.is_causal:
            hidden = np.triu(np.ones(scores.shape[-2:], dtype=np.bool_), 1)
            return np.where(hidden, -np.inf, scores).astype(scores.dtype, copy=False)
        if mask is None:
            return scores
        mask = aligned(mask, scores.ndim - 1)
        if mask.dtype == np.bool_:
            return np.where(mask, scores, -np.inf).astype(scores.dtype, copy=False)
        return scores + mask

    def argument(self, query: Array, key: Array, value: Array, attn_mask: Array | None) -> Argument:
        scores = self._scores(query, key, attn_mask)
        return Argument(scores, -1)

    @staticmethod
    def _softmax(scores: Array) -> Array:
        largest = continued.largest(scores, -1)
        e = np.exp(scores - np.where(largest == -np.inf, 0, largest).astype(scores.dtype, copy=False))
        total = e.sum(axis=-1, keepdims=True)
        return e / np.where(total == 0, 1, total).astype(scores.dtype, copy=False)

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        of_query, of_key, of_value, of_mask = values
        assert of_query is not None
        assert of_key is not None
        assert of_value is not None
        rank = of_query.ndim
        reached = joined(least(of_query, rank - 1), least(of_key, (rank - 2, rank - 1)), least(of_value, rank - 2))
        if of_mask is None:
            return reached
        weights = (len(of_mask), *inputs[0].shape[1:-1], inputs[1].shape[-2])
        spread = np.broadcast_to(aligned(of_mask, rank - 1), weights)
        return joined(reached, least(spread, rank - 1))

    def forward(self, query: Array, key: Array, value: Array, attn_mask: Array | None) -> Array:
        return self._softmax(self._scores(query, key, attn_mask)) @ value

    def backward(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        p = self._softmax(self._scores(query, key, attn_mask))
        by_p = gradient @ np.swapaxes(value, -1, -2)
        by_scores = p * (by_p - (p * by_p).sum(axis=-1, keepdims=True))
        by_product = by_scores * self._scale(query)
        by_mask = None
        if attn_mask is not None and attn_mask.dtype != np.bool_:
            by_mask = unbroadcast(by_scores, attn_mask.shape[1:])
        return (
            by_product @ key,
            np.swapaxes(by_product, -1, -2) @ query,
            np.swapaxes(p, -1, -2) @ gradient,
            by_mask,
        )

    def _softmax_with_errors(
        self, errors: Errors, query: Array, key: Array, mask: Array | None, *, again: bool
    ) -> Array:
        """P with the errors that are made on the way to it; `again` where it is found a second time."""
        scores = self._scores(query, key, mask)
        sizes = math.sqrt(2) * product_size(query, np.swapaxes(key, -1, -2)) * np.abs(self._scale(query))
        if mask is not None and mask.dtype != np.bool_:
            sizes = sizes + np.abs(aligned(mask, sizes.ndim - 1))
        sizes = np.where(scores == -np.inf, 0, sizes)
        return softmax_with_errors(errors, scores, sizes, again=again)

    def forward_with_errors(self, errors: Errors, *inputs: Any) -> Array:
        query, key, value, mask = inputs
        p = self._softmax_with_errors(errors, query, key, mask, again=False)
        return _product_with_errors(errors, p, value)

    def backward_with_errors(self, errors: Errors, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Add errors as the primitives would make them, and as kernels do that recompute P.

        With w = abs(g) abs(v)^T, D = sum_j P_ij dP_ij = sum_v g_iv y_iv, which is how kernels find it, of the y that
        was rounded, N the elements of a row and V those of a value:
            D   off by u (sqrt(V) / 2 sum_v abs(g y) + sqrt(N) sum_j P abs(dP)), once for the row
            dS  off by u P (sqrt(V) w + abs(dP) + abs(D)), for each element by itself
        and each product of matrices by the rounding of its own sum.
        """
        query, key, value, mask = inputs
        p = self._softmax_with_errors(errors, query, key, mask, again=True)
        by_p = gradient @ np.swapaxes(value, -1, -2)
        shares = gradient * output
        mean = errors(shares.sum(axis=-1, keepdims=True), sum_size(shares) + sum_size(p * by_p))
        sizes = product_size(gradient, np.swapaxes(value, -1, -2)) + np.abs(by_p) + np.abs(mean)
        by_scores = errors(p * (by_p - mean), _with_lost(p, errors) * sizes)
        by_product = by_scores * self._scale(query)
        return (
            _product_with_errors(errors, by_product, key),
            _product_with_errors(errors, np.swapaxes(by_product, -1, -2), query),
            _product_with_errors(errors, np.swapaxes(p, -1, -2), gradient),
            self._by_mask_with_errors(errors, by_scores, mask),
        )

    @staticmethod
    def _by_mask_with_errors(errors: Errors, by_scores: Array, mask: Array | None) -> Array | None:
        if mask is None or mask.dtype == np.bool_:
            return None
        shape = mask.shape[1:]
        return errors(
            unbroadcast(by_scores, shape), unbroadcast(np.abs(by_scores), shape), repeats(by_scores.shape[1:], shape)
        )

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        query, key = shapes[0], shapes[1]
        assert query is not None
        assert key is not None
        weights = size(query[:-1]) * key[-2]
        work = weights * (query[-1] + output[-1] + _SOFTMAX)
        return Cost(work, max(weights, super().cost(output, *shapes).elements), _SOFTMAX)

    def multipliers(self, query: Array, key: Array, value: Array, attn_mask: Array | None) -> Sequence[Multiplier]:
        return [factor(float(self._scale(query)), positions=(0, 1))]

    @mutant
    def softmax_jacobian_diagonal_only(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        """Of the Jacobian of softmax only the diagonal p (1 - p) was taken."""
        p = self._softmax(self._scores(query, key, attn_mask))
        by_product = p * (1 - p) * (gradient @ np.swapaxes(value, -1, -2)) * self._scale(query)
        right = self.backward(gradient, output, query, key, value, attn_mask)
        return by_product @ key, np.swapaxes(by_product, -1, -2) @ query, *right[2:]

    @mutant_of("softmax_jacobian_diagonal_only")
    def not_less_the_mean(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        """Of the Jacobian of softmax, diag(p) - p p^T, only the first part was taken."""
        p = self._softmax(self._scores(query, key, attn_mask))
        by_product = p * (gradient @ np.swapaxes(value, -1, -2)) * self._scale(query)
        right = self.backward(gradient, output, query, key, value, attn_mask)
        return by_product @ key, np.swapaxes(by_product, -1, -2) @ query, *right[2:]

    @mutant_of("detached")
    def weights_held_constant(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        """The weights of the values were taken as constants."""
        return 0 * query, 0 * key, *self.backward(gradient, output, query, key, value, attn_mask)[2:]

    @mutant_of("scaled", declared=True)
    def scale_forgotten(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        """The factor 1/sqrt(d) of the scores was left out."""
        by_query, by_key, *others = self.backward(gradient, output, query, key, value, attn_mask)
        assert by_query is not None
        assert by_key is not None
        return by_query / self._scale(query), by_key / self._scale(query), *others

    @mutant
    def mask_forgotten(
        self, gradient: Array, output: Array, query: Array, key: Array, value: Array, attn_mask: Array | None
    ) -> Gradients:
        """The mask was left out."""
        unmasked = dataclasses.replace(self, is_causal=False)
        return *unmasked.backward(gradient, output, query, key, value, None)[:3], None

    def twin(self, torch: Any, query: Any, key: Any, value: Any, attn_mask: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attn_mask, is_causal=self.is_causal, scale=self.scale
        )


def _with_lost(p: Array, errors: Errors) -> Array:
    """Sizes of weights, and what exponentials lose below the normal numbers; nothing of what is masked."""
    return np.abs(p) + errors.flush * (p != 0)


def _product_with_errors(errors: Errors, a: Array, b: Array) -> Array:
    """Product of matrices a @ b with its rounding, where a is made of exponentials.

    Each element is off by u for the sum and its products, and by what all terms but the largest of a are at most: what
    is added to one term, or it to it, rounds no more away than there is of it.
    """
    product = a @ b
    large = np.abs(a)
    rest = large * (large < large.max(axis=-1, keepdims=True))
    lost = errors.flush * ((a != 0) @ np.abs(b))
    product = errors(product, product_size(a, b) + lost, most=2 * (rest @ np.abs(b)) + lost)
    return errors(product, np.abs(product), 2)
