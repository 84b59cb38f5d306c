"""Losses of distances and angles between vectors."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt

from service.numerics.core.batching import Array, Shape, broadcast_batch
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_axes
from service.numerics.ops import vector_norm
from service.numerics.ops.loss import LossReduction, PiecewiseLoss
from service.numerics.ops.op import DependencyLabels, Gradients, OpExample, ShapeError, declare_bug, register_op
from service.numerics.ops.rounding_errors import ErrorModel, Rounding
from service.numerics.ops.subgradient_choices import (
    BranchDerivative,
    SubgradientChoices,
    choose_between_derivatives,
    merge_choices,
)


class VectorPairLoss(PiecewiseLoss):
    """A loss of each sample's vectors, which lie along the last axis."""

    def propagate_to_losses(self, values: DependencyLabels, *inputs: Any) -> Array:
        rank = inputs[0].ndim
        return take_elementwise_min(
            *(
                take_min_over_axes(labels, rank - 1)[..., 0] if labels.ndim == rank else labels
                for labels in drop_missing(values)
            )
        )


_COSINE_EPSILON = float(np.float32(1e-12))
"""Term that PyTorch adds to a square: a constant of single precision."""


def _bound_distance_error(*input_errors: Array | None) -> Array:
    """Return the largest error of a function of distances, for each sample.

    The function is no steeper than the sum of the moves of its inputs.
    """
    return sum(
        (input_error[0].sum(axis=-1) for input_error in input_errors if input_error is not None), start=np.zeros(())
    )


def _list_vector_indices(vectors: Array, length: int) -> Array:
    """Return the flat indices of the elements of some vectors, (vectors, length)."""
    return vectors[:, None] * length + np.arange(length)


def _compute_dot_product(a: Array, b: Array) -> Array:
    return (a * b).sum(axis=-1)


@register_op("cosine_embedding_loss")
class CosineEmbeddingLoss(VectorPairLoss):
    """Loss of the cosine of pairs (N, D) or (D,), then none, sum or mean.

    It is 1 - cos for target 1, and max(0, cos - margin) for target -1, with
        cos = s / sqrt(p q),   s = sum a b,   p = sum a^2 + 1e-12,   q = sum b^2 + 1e-12
    With g = dL/d(output), c = 1 (none, sum) or 1/N (mean), h = -g c for target 1, g c for target -1 where cos > margin,
    else 0:
        dL/da = h (b / sqrt(p q) - a cos / p)        dL/db = h (a / sqrt(p q) - b cos / q)
    """

    numpy_calls = 24
    margin: float = 0.0
    reduction: LossReduction = "mean"

    inputs = ("input1", "input2", "target:float|index")
    examples = (
        OpExample(((3, 4), (3, 4), (3,)), sign_slots=("target",)),
        OpExample(((5, 4), (5, 4), (5,)), {"reduction": "sum", "margin": 0.2}, sign_slots=("target",)),
        OpExample(((4,), (4,), ()), {"reduction": "none"}, sign_slots=("target",)),
    )

    def infer_output_shape(self, input1: Shape, input2: Shape, target: Shape) -> Shape:
        if input1 != input2 or len(input1) not in (1, 2) or target != input1[:-1]:
            raise ShapeError("two inputs (N, D) with a target (N,), or (D,) with ()")
        return target if self.reduction == "none" else ()

    @staticmethod
    def _compute_cosine_and_norms(a: Array, b: Array) -> tuple[Array, Array, Array]:
        """Return the cosine, p and q."""
        p, q = (
            _compute_dot_product(a, a) + a.dtype.type(_COSINE_EPSILON),
            _compute_dot_product(b, b) + a.dtype.type(_COSINE_EPSILON),
        )
        return _compute_dot_product(a, b) / (np.sqrt(p) * np.sqrt(q)), p, q

    def select_branch(self, input1: Array, input2: Array, target: Array) -> Array:
        cosine, _, _ = self._compute_cosine_and_norms(input1, input2)
        return np.where(target == 1, 1, np.where((target == -1) & (cosine >= self.margin), -1, 0)).astype(np.int8)

    def list_subgradient_choices(
        self, input_errors: Sequence[Array | None], input1: Array, input2: Array, target: Array
    ) -> SubgradientChoices | None:
        """Return the choice of all or nothing of the cosine's gradient, at the margin."""
        cosine, p, q = (array[0].reshape(-1) for array in self._compute_cosine_and_norms(input1, input2))
        vector_errors = (np.broadcast_to(array, input1.shape) for array in input_errors[:2] if array is not None)
        lengths = np.sqrt(np.minimum(p, q))
        cosine_error = _bound_distance_error(*vector_errors).reshape(-1) / lengths + 4 * np.finfo(np.float64).eps
        samples = np.flatnonzero((np.abs(cosine - self.margin) <= cosine_error) & (target[0].reshape(-1) == -1))
        length, factor = input1.shape[-1], 1 / (cosine.size if self.reduction == "mean" else 1)
        first_vectors, second_vectors = (array[0].reshape(-1, length)[samples] for array in (input1, input2))
        sample_cosine, sample_p, sample_q = (array[samples, None] for array in (cosine, p, q))
        root, element_indices = np.sqrt(sample_p) * np.sqrt(sample_q), _list_vector_indices(samples, length)
        derivatives_of_cosine = [
            (0, element_indices, factor * (second_vectors / root - first_vectors * (sample_cosine / sample_p))),
            (1, element_indices, factor * (first_vectors / root - second_vectors * (sample_cosine / sample_q))),
        ]
        share = (cosine[samples] >= self.margin) * 1.0
        return choose_between_derivatives(
            self._get_output_flat_indices(samples), share, cosine[samples] == self.margin, [], derivatives_of_cosine
        )

    def compute_losses_on_branch(self, branch: Array, input1: Array, input2: Array, target: Array) -> Array:
        cosine, _, _ = self._compute_cosine_and_norms(input1, input2)
        return np.select([branch > 0, branch < 0], [1 - cosine, cosine - self.margin], 0).astype(
            input1.dtype, copy=False
        )

    def estimate_loss_magnitudes(self, input1: Array, input2: Array, target: Array) -> Array:
        # The product is a sum of D, and each length takes half the error of a sum of D.
        cosine = self._estimate_cosine_magnitude(input1, input2) * math.sqrt(4 + input1.shape[-1])
        return (1 + abs(self.margin) + cosine) * (self.select_branch(input1, input2, target) != 0)

    def estimate_implemented_loss_magnitudes(self, input1: Array, input2: Array, target: Array) -> Array:
        return (
            2
            * (1 + abs(self.margin) + self._estimate_cosine_magnitude(input1, input2))
            * (self.select_branch(input1, input2, target) != 0)
        )

    def _estimate_cosine_magnitude(self, a: Array, b: Array) -> Array:
        return self._compute_cosine_and_norms(np.abs(a), np.abs(b))[0]

    def compute_sample_gradients(self, weight: Array, input1: Array, input2: Array, target: Array) -> Gradients:
        cosine, p, q = (array[..., None] for array in self._compute_cosine_and_norms(input1, input2))
        h = (-weight * self.select_branch(input1, input2, target).astype(weight.dtype))[..., None]
        root = np.sqrt(p) * np.sqrt(q)
        by_target = np.zeros(weight.shape[:1] + target.shape[1:], dtype=weight.dtype)
        by_first = h * (input2 / root - input1 * (cosine / p))
        by_second = h * (input1 / root - input2 * (cosine / q))
        return by_first, by_second, by_target

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with the errors of s, p and q, and of their summands.

        The sums are off by u sqrt(D) of themselves, once for each pair. Each element has the errors of its two
        summands.
        """
        a, b = inputs[:2]
        target: Array = inputs[2]
        vector_length = a.shape[-1]
        product = errors(_compute_dot_product(a, b), _compute_dot_product(np.abs(a), np.abs(b)), vector_length)
        p, q = (
            errors(_compute_dot_product(array, array) + _COSINE_EPSILON, terms=vector_length + 1) for array in (a, b)
        )
        root = np.sqrt(p) * np.sqrt(q)
        cosine, p, q, root = (array[..., None] for array in (product / root, p, q, root))
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        h = (-weight * self.select_branch(*inputs))[..., None]
        by_first, by_second = (
            errors(
                h * (partner / root - vector * (cosine / squared_norm)),
                np.abs(h) * (np.abs(partner / root) + magnitude),
                2,
            )
            for vector, partner, squared_norm in ((a, b, p), (b, a, q))
            for magnitude in (np.abs(vector * (cosine / squared_norm)),)
        )
        by_target = np.zeros(weight.shape[:1] + target.shape[1:])
        return by_first, by_second, by_target

    @declare_bug("the length of the vector was treated as a constant")
    def length_taken_as_constant(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        a, b, _ = inputs
        _, p, q = self._compute_cosine_and_norms(a, b)
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        h = -weight * self.select_branch(*inputs) / np.sqrt(p * q)
        return h[..., None] * b, h[..., None] * a, self.backward(gradient, output, *inputs)[2]

    def torch_forward(self, torch: Any, input1: Any, input2: Any, target: Any) -> Any:
        return torch.nn.functional.cosine_embedding_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction
        )


@register_op("triplet_margin_loss")
class TripletMarginLoss(VectorPairLoss):
    """Margin loss of triplets (N, D) or (D,), then none, sum or mean.

    The loss is max(0, d(a, p) - d(a, n) + margin) with
        d(x, y) = (sum_i abs(x_i - y_i + eps)^p)^(1/p)
    With `swap`, d(p, n) stands for d(a, n) where it is smaller. With g = dL/d(output), c = 1 (none, sum) or 1/N (mean),
    where the loss is positive, and e = x - y + eps:
        u(x, y)_i = sign(e_i) (abs(e_i) / d)^(p-1), 0 where d = 0
        dL/da = g c (u(a, p) - u(a, n)),  dL/dp = -g c u(a, p),  dL/dn = g c u(a, n)
    With d(p, n) in place of d(a, n), u(p, n) goes to p and, negative, to n.
    """

    numpy_calls = 60
    margin: Annotated[float, Gt(0)] = 1.0
    p: Annotated[float, Gt(0)] = 2.0
    eps: Annotated[float, Ge(0)] = 1e-6
    swap: bool = False
    reduction: LossReduction = "mean"

    scratch_arrays = 2
    inputs = ("anchor", "positive", "negative")
    examples = (
        OpExample(((3, 4), (3, 4), (3, 4))),
        OpExample(((5, 4), (5, 4), (5, 4)), {"swap": True, "p": 3, "reduction": "sum"}),
        OpExample(((4,), (4,), (4,)), {"p": 1, "reduction": "none", "margin": 2.5}),
    )

    @property
    def summand_count(self) -> int:
        return 16

    @property
    def largest_power(self) -> float:
        return vector_norm.get_power(self.p)

    def infer_output_shape(self, anchor: Shape, positive: Shape, negative: Shape) -> Shape:
        if not anchor == positive == negative or len(anchor) not in (1, 2):
            raise ShapeError("three inputs of one shape, (N, D) or (D,)")
        return anchor[:-1] if self.reduction == "none" else ()

    def _compute_offset_difference(self, x: Array, y: Array) -> Array:
        return x - y + x.dtype.type(self.eps)

    def _compute_distance(self, x: Array, y: Array) -> Array:
        return vector_norm.compute_p_norm(self.p, np.abs(self._compute_offset_difference(x, y)), -1)[..., 0]

    def _compute_directions(self, x: Array, y: Array) -> Array:
        return self._compute_direction(self._compute_offset_difference(x, y))

    def _compute_direction(self, error: Array) -> Array:
        distance = vector_norm.compute_p_norm(self.p, np.abs(error), -1)
        unit = np.where(distance > 0, distance, 1).astype(error.dtype, copy=False)
        return np.sign(error) * np.power(np.abs(error) / unit, error.dtype.type(self.p - 1)) * (distance > 0)

    def _list_distance_pairs(self, anchor: Array, positive: Array, negative: Array) -> list[tuple[Array, Array]]:
        """Return the pairs of vectors whose distances enter the loss.

        They are (a, p), (a, n) and, with `swap`, (p, n).
        """
        return [(anchor, positive), (anchor, negative), *([(positive, negative)] if self.swap else [])]

    def _compute_chosen_negative_share(self, anchor: Array, positive: Array, negative: Array) -> Array:
        """Return the share of d(p, n) in the negative's distance, -1 where the loss is 0.

        Without `swap` it is 0.
        """
        positive_distance, negative_distance, *swapped_distances = (
            self._compute_distance(*pair) for pair in self._list_distance_pairs(anchor, positive, negative)
        )
        swapped_share = np.zeros(negative_distance.shape)
        if self.swap:
            # Equal distances get half each, as PyTorch's minimum has it.
            swapped_share = (1 + np.sign(negative_distance - swapped_distances[0])) / 2
            negative_distance = np.minimum(negative_distance, swapped_distances[0])
        return np.where(positive_distance - negative_distance + self.margin >= 0, swapped_share, -1)

    def select_branch(self, anchor: Array, positive: Array, negative: Array) -> Array:
        """Return the choice of each sample and the pieces of its distances.

        The shape is (..., 1 + pairs D).
        """
        pairs = self._list_distance_pairs(anchor, positive, negative)
        chosen = self._compute_chosen_negative_share(anchor, positive, negative)[..., None]
        pieces = [vector_norm.select_norm_branch(self._compute_offset_difference(x, y), -1) for x, y in pairs]
        tiles = max(map(len, (chosen, *pieces)))
        return np.concatenate([broadcast_batch(array, tiles) for array in (chosen, *pieces)], axis=-1)

    def list_subgradient_choices(
        self, input_errors: Sequence[Array | None], anchor: Array, positive: Array, negative: Array
    ) -> SubgradientChoices | None:
        """Return choices at losses that just reach 0, and at equal negative distances.

        The former choose all or nothing of the loss, the latter one of the two distances.
        """
        inputs = [array.reshape(1, -1, array.shape[-1]) for array in (anchor, positive, negative)]
        positive_distance, negative_distance, *swapped_distances = (
            self._compute_distance(*pair)[0] for pair in self._list_distance_pairs(*inputs)
        )
        distance_error = 2 * _bound_distance_error(
            *(np.broadcast_to(array, anchor.shape) for array in input_errors if array is not None)
        ).reshape(-1)
        distance_error = distance_error + 8 * np.spacing(positive_distance + negative_distance + self.margin)
        least_negative_distance = (
            np.minimum(negative_distance, swapped_distances[0]) if self.swap else negative_distance
        )
        loss, gap = (
            positive_distance - least_negative_distance + self.margin,
            negative_distance - swapped_distances[0] if self.swap else np.full(negative_distance.shape, np.inf),
        )
        is_near_end, is_near_tie = np.abs(loss) <= distance_error, np.abs(gap) <= distance_error
        swapped_share = (1 + np.sign(gap)) / 2 if self.swap else np.zeros(negative_distance.shape)
        factor = 1 / (positive_distance.size if self.reduction == "mean" else 1)
        # If both are ambiguous the choices multiply, and none is declared.
        end_samples = np.flatnonzero(is_near_end & ~is_near_tie)
        return merge_choices([
            choose_between_derivatives(
                self._get_output_flat_indices(end_samples), (loss[end_samples] >= 0) * 1.0, loss[end_samples] == 0, [],
                self._compute_branch_derivatives(inputs, end_samples, 1.0, swapped_share[end_samples], factor),
            ),
            self._list_swap_choices(inputs, np.flatnonzero(is_near_tie & (loss > distance_error)), gap, factor),
        ])  # fmt: skip

    def _compute_branch_derivatives(
        self, inputs: Sequence[Array], samples: Array, near_distance_factor: float, swapped: Array, factor: float
    ) -> list[BranchDerivative]:
        """Return the derivatives of some samples' losses by all three inputs.

        Parameters
        ----------
        inputs
            Anchors, positives and negatives, (1, N, D).
        samples
            Samples, by number.
        near_distance_factor
            Factor of d(a, p).
        swapped
            Share of d(p, n) in the negative's distance, (samples,).
        factor
            Factor of all derivatives.
        """
        anchor, positive, negative = (array[:, samples] for array in inputs)
        swapped_share = swapped[:, None]
        near_direction, far_direction, swapped_direction = (
            self._compute_directions(anchor, positive)[0],
            self._compute_directions(anchor, negative)[0],
            self._compute_directions(positive, negative)[0],
        )
        near_direction, far_direction, swapped_direction = (
            near_distance_factor * near_direction,
            (1 - swapped_share) * far_direction,
            swapped_share * swapped_direction,
        )
        element_indices = _list_vector_indices(samples, anchor.shape[-1])
        return [
            (0, element_indices, factor * (near_direction - far_direction)),
            (1, element_indices, factor * (-near_direction - swapped_direction)),
            (2, element_indices, factor * (far_direction + swapped_direction)),
        ]

    def _list_swap_choices(
        self, inputs: Sequence[Array], samples: Array, gap: Array, factor: float
    ) -> SubgradientChoices | None:
        no_share = np.zeros(samples.size)
        # Both choices hold the distance of the positive once, so only the difference of the others is chosen.
        lower_derivatives, upper_derivatives = (
            self._compute_branch_derivatives(inputs, samples, 0.0, swapped, factor)
            for swapped in (no_share, no_share + 1)
        )
        share = (1 + np.sign(gap[samples])) / 2
        return choose_between_derivatives(
            self._get_output_flat_indices(samples), share, gap[samples] == 0, lower_derivatives, upper_derivatives
        )

    def compute_losses_on_branch(self, branch: Array, anchor: Array, positive: Array, negative: Array) -> Array:
        pairs = self._list_distance_pairs(anchor, positive, negative)
        chosen, *pieces = np.split(branch, [1 + i * anchor.shape[-1] for i in range(len(pairs))], axis=-1)
        positive_distance, negative_distance, *swapped_distances = (
            vector_norm.evaluate_norm_on_branch(self.p, piece, self._compute_offset_difference(x, y), -1)
            for piece, (x, y) in zip(pieces, pairs, strict=True)
        )
        if self.swap:
            # A distance that does not enter may leave its piece.
            negative_distance = np.where(chosen < 1, (1 - chosen) * negative_distance, 0) + np.where(
                chosen > 0, chosen * swapped_distances[0], 0
            )
        return np.where(chosen >= 0, positive_distance - negative_distance + self.margin, 0)[..., 0].astype(
            anchor.dtype, copy=False
        )

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        """Return the rounding of the output, as the root of a sum of squares.

        The losses of samples have independent errors.
        """
        if self.reduction == "none":
            return super().estimate_forward_rounding(output, *inputs)
        magnitudes = self.estimate_loss_magnitudes(*inputs).reshape(len(output), -1)
        count = magnitudes.shape[-1]
        squares = self.summand_count * np.square(magnitudes).sum(axis=-1) + count * np.square(magnitudes.sum(axis=-1))
        magnitude = np.sqrt(squares) / (count if self.reduction == "mean" else 1)
        return Rounding(magnitude.reshape(output.shape), 1)

    def estimate_loss_magnitudes(self, anchor: Array, positive: Array, negative: Array) -> Array:
        norm_terms = vector_norm.count_norm_rounding_terms(self.p, anchor.shape[-1]) / self.summand_count
        distances = (self._compute_distance(anchor, partner) for partner in (positive, negative))
        positive_magnitude, negative_magnitude = (
            distance * vector_norm.estimate_root_error(self.p, distance) for distance in distances
        )
        return (positive_magnitude + negative_magnitude) * np.sqrt(norm_terms) + self.margin

    def compute_sample_gradients(self, weight: Array, anchor: Array, positive: Array, negative: Array) -> Gradients:
        pairs = (anchor, positive), (anchor, negative), (positive, negative)
        return self._compute_shares(
            [self._compute_offset_difference(x, y) for x, y in pairs], weight, anchor, positive, negative
        )

    def _compute_shares(self, differences: Sequence[Array], weight: Array, *inputs: Array) -> Gradients:
        """Return the gradients, given the differences of the three pairs.

        The pairs are (a, p), (a, n) and (p, n).
        """
        weights = self._compute_distance_gradients(weight, self._compute_chosen_negative_share(*inputs))
        positive_share, negative_share, swapped_share = (
            distance_weight * self._compute_direction(difference)
            for distance_weight, difference in zip(weights, differences, strict=True)
        )
        return positive_share - negative_share, -positive_share - swapped_share, negative_share + swapped_share

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with the errors of the differences x - y.

        Each is off by u of itself, which may be more than is left after eps is added to it.
        """
        anchor, positive, negative = inputs
        pairs = (anchor, positive), (anchor, negative), (positive, negative)
        differences = [errors(self._compute_offset_difference(x, y), np.abs(x - y)) for x, y in pairs]
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        results = self._compute_shares(differences, weight, *inputs)
        roundings = self.estimate_backward_rounding(gradient, output, *inputs)
        return tuple(
            None if result is None else errors.add_rounding_error(result, rounding)
            for result, rounding in zip(results, roundings, strict=True)
        )

    def estimate_sample_gradient_magnitudes(
        self, weight: Array, anchor: Array, positive: Array, negative: Array
    ) -> Gradients:
        branch = self._compute_chosen_negative_share(anchor, positive, negative)
        positive_weight, negative_weight, swapped_weight = self._compute_distance_gradients(weight, branch)
        positive_magnitude = positive_weight * self._estimate_direction_magnitude(anchor, positive)
        negative_magnitude = negative_weight * self._estimate_direction_magnitude(anchor, negative)
        swapped_magnitude = swapped_weight * self._estimate_direction_magnitude(positive, negative)
        return (
            positive_magnitude + negative_magnitude,
            positive_magnitude + swapped_magnitude,
            negative_magnitude + swapped_magnitude,
        )

    @staticmethod
    def _compute_distance_gradients(weight: Array, branch: Array) -> tuple[Array, Array, Array]:
        """Return the gradients by the three distances, signs aside, one axis behind."""
        shares = ((branch >= 0), np.where(branch >= 0, 1 - branch, 0), np.maximum(branch, 0))
        positive_weight, negative_weight, swapped_weight = (
            (weight * share).astype(weight.dtype)[..., None] for share in shares
        )
        return positive_weight, negative_weight, swapped_weight

    def _estimate_direction_magnitude(self, x: Array, y: Array) -> Array:
        root = vector_norm.estimate_root_error(self.p, self._compute_distance(x, y)[..., None])
        return np.abs(self._compute_directions(x, y)) * (1 + abs(self.p - 1) * root)

    @declare_bug("the share of the negative example was left out")
    def negative_forgotten(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        _, by_positive, by_negative = self.backward(gradient, output, *inputs)
        assert by_positive is not None
        return -by_positive, by_positive, by_negative

    def torch_forward(self, torch: Any, anchor: Any, positive: Any, negative: Any) -> Any:
        return torch.nn.functional.triplet_margin_loss(
            anchor, positive, negative, margin=self.margin, p=self.p, eps=self.eps, swap=self.swap,
            reduction=self.reduction,
        )  # fmt: skip
