"""Scores of fused attention, and their softmax: a cap, masks, a window and sinks."""

import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, cast

import numpy as np
from annotated_types import Ge, Le, Len

from service.numerics.core.batching import Array, Shape, align_rank
from service.numerics.ops import analytic_continuation
from service.numerics.ops.op import Op
from service.numerics.ops.partial_sums import bound_product
from service.numerics.ops.rounding_errors import ErrorModel
from service.numerics.ops.softmax import softmax_with_errors

Window = Annotated[list[Annotated[int, Ge(-1), Le(2**31 - 1)]], Len(2, 2)]
Ends = tuple[int | None, int | None]
NO_ENDS: Ends = (None, None)


class Weights(NamedTuple):
    """Softmax of the scores: the weights of the keys, and the share of the sink, (..., L, 1) or None."""

    keys: Array
    sink: Array | None


class CappedScores(Op):
    """An op of query, key, value, attn_mask, bias and sinks that takes the softmax of scores."""

    window: Window | None
    softcap: float | None
    scale: float | None

    def resolve_shape_defaults(self, *shapes: Shape | None) -> Op:
        query = shapes[0]
        assert query is not None
        if self.scale is not None:
            return self
        return dataclasses.replace(cast("Any", self), scale=1 / math.sqrt(max(1, query[-1])))

    @property
    def ends(self) -> Ends:
        """Return the keys before and behind its own place that a query sees, None for all."""
        left, right = (None if end < 0 else end for end in self.window or (-1, -1))
        return left, right

    def get_score_scale(self, query: Array) -> Any:
        """Return the factor of the scores, in the dtype of the query."""
        return query.dtype.type(1 / math.sqrt(max(1, query.shape[-1])) if self.scale is None else self.scale)

    def compute_products(self, query: Array, key: Array) -> Array:
        """Return s q k^T."""
        return query @ np.swapaxes(key, -1, -2) * self.get_score_scale(query)

    def cap_products(self, products: Array) -> Array:
        """Return c tanh(p / c) of products p, or p itself without a cap."""
        if self.softcap is None:
            return products
        cap = products.dtype.type(self.softcap)
        return cap * np.tanh(products / cap)

    def _mask(self, scores: Array, mask: Array | None, bias: Array | None, ends: Ends) -> Array:
        """Return scores with mask and bias added, -inf for keys that a query does not see."""
        missing = scores.dtype.type(-np.inf)
        for addend in (mask, bias):
            if addend is not None:
                aligned = align_rank(addend, scores.ndim - 1)
                scores = np.where(aligned, scores, missing) if aligned.dtype == np.bool_ else scores + aligned
        if ends != NO_ENDS:
            scores = np.where(find_seen_keys(*scores.shape[-2:], *ends), scores, missing)
        return scores

    def compute_scores(self, inputs: Sequence[Any], ends: Ends | None = None) -> Array:
        """Return the scores of the keys, in the op's own window by default."""
        query, key, _, mask, bias, _ = inputs
        scores = self.cap_products(self.compute_products(query, key))
        return self._mask(scores, mask, bias, self.ends if ends is None else ends)

    @staticmethod
    def append_sink(scores: Array, sinks: Array | None) -> Array:
        """Return the scores with the logit of the sink as one more key, the last."""
        if sinks is None:
            return scores
        tiles = max(len(scores), len(sinks))
        column = np.broadcast_to(
            align_rank(sinks, scores.ndim - 3)[..., None, None], (len(sinks), *scores.shape[1:-1], 1)
        )
        parts = [np.broadcast_to(part, (tiles, *part.shape[1:])) for part in (scores, column)]
        return np.concatenate(parts, axis=-1)

    @staticmethod
    def split_sink(weights: Array, sinks: Array | None) -> Weights:
        """Return the weights of the keys and of the sink apart."""
        return Weights(weights, None) if sinks is None else Weights(weights[..., :-1], weights[..., -1:])

    def compute_weights(self, inputs: Sequence[Any], sinks: Array | None) -> Weights:
        """Return the softmax of the scores; 0 in rows without keys."""
        scores = self.append_sink(self.compute_scores(inputs), sinks)
        largest = analytic_continuation.take_largest_real_part(scores, -1)
        e = np.exp(scores - np.where(largest == -np.inf, 0, largest).astype(scores.dtype, copy=False))
        total = e.sum(axis=-1, keepdims=True)
        return self.split_sink(e / np.where(total == 0, 1, total).astype(scores.dtype, copy=False), sinks)

    def compute_weights_with_errors(
        self, errors: ErrorModel, inputs: Sequence[Any], *, is_recomputed: bool
    ) -> tuple[Weights, Array]:
        """Return the weights with the errors of the steps before them, and the products with theirs.

        Notes
        -----
        A product p is off by u m, m from the partial sums of its sum. Behind the cap it is off by
        u (1 - t^2) (m + abs(p)), t = tanh(p / c), and by four roundings of c t.
        """
        query, key, _, mask, bias, sinks = inputs
        products = self.compute_products(query, key)
        sizes = math.sqrt(2) * bound_product(query, np.swapaxes(key, -1, -2)) * np.abs(self.get_score_scale(query))
        scores, magnitudes = self.cap_products(products), sizes
        if self.softcap is not None:
            magnitudes = (1 - np.square(scores / self.softcap)) * (sizes + np.abs(products)) + 4 * np.abs(scores)
        for addend in (mask, bias):
            if addend is not None and addend.dtype != np.bool_:
                magnitudes = magnitudes + np.abs(align_rank(addend, magnitudes.ndim - 1))
        scores = self.append_sink(self.compute_scores(inputs), sinks)
        if sinks is not None:
            magnitudes = np.concatenate([magnitudes, np.zeros((*magnitudes.shape[:-1], 1), magnitudes.dtype)], axis=-1)
        magnitudes = np.where(scores == -np.inf, 0, magnitudes)
        weights = softmax_with_errors(errors, scores, magnitudes, is_recomputed=is_recomputed)
        return self.split_sink(weights, sinks), errors(products, sizes)


@lru_cache(16)
def find_seen_keys(queries: int, keys: int, left: int | None, right: int | None) -> Array:
    """Return the mask of the keys in the window of each query, (queries, keys), aligned at the last query and key."""
    distances = np.arange(keys) - (np.arange(queries)[:, None] + keys - queries)
    seen = np.ones((queries, keys), np.bool_)
    if left is not None:
        seen &= distances >= -left
    if right is not None:
        seen &= distances <= right
    seen.flags.writeable = False
    return seen
