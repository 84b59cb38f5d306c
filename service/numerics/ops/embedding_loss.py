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
                take_min_over_axes(each, rank - 1)[..., 0] if each.ndim == rank else each
                for each in drop_missing(values)
            )
        )


_COSINE_EPSILON = float(np.float32(1e-12))
"""What PyTorch adds to a square: a constant of single precision."""


def _bound_distance_error(*input_errors: Array | None) -> Array:
    """What a function of distances, each no steeper than the sum of what moves, may be off by, of each sample."""
    return sum((each[0].sum(axis=-1) for each in input_errors if each is not None), start=np.zeros(()))


def _list_vector_indices(places: Array, length: int) -> Array:
    """Flat indices of the elements of some vectors, (places, length)."""
    return places[:, None] * length + np.arange(length)


def _dot_product(a: Array, b: Array) -> Array:
    return (a * b).sum(axis=-1)


@register_op("cosine_embedding_loss")
class CosineEmbeddingLoss(VectorPairLoss):
    """1 - cos for target 1, max(0, cos - margin) for target -1, of pairs (N, D) or (D,); then none, sum or mean.

    cos = s / sqrt(p q) with s = sum a b, p = sum a^2 + 1e-12, q = sum b^2 + 1e-12. With g = dL/d(output), c = 1 (none,
    sum) or 1/N (mean), h = -g c for target 1, g c for target -1 where cos > margin, else 0:
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

    def output_shape(self, input1: Shape, input2: Shape, target: Shape) -> Shape:
        if input1 != input2 or len(input1) not in (1, 2) or target != input1[:-1]:
            raise ShapeError("two inputs (N, D) with a target (N,), or (D,) with ()")
        return target if self.reduction == "none" else ()

    @staticmethod
    def _cosine_and_norms(a: Array, b: Array) -> tuple[Array, Array, Array]:
        """Cosine, p and q."""
        p, q = _dot_product(a, a) + a.dtype.type(_COSINE_EPSILON), _dot_product(b, b) + a.dtype.type(_COSINE_EPSILON)
        return _dot_product(a, b) / (np.sqrt(p) * np.sqrt(q)), p, q

    def select_branch(self, input1: Array, input2: Array, target: Array) -> Array:
        cosine, _, _ = self._cosine_and_norms(input1, input2)
        return np.where(target == 1, 1, np.where((target == -1) & (cosine >= self.margin), -1, 0)).astype(np.int8)

    def subgradient_choices(
        self, input_errors: Sequence[Array | None], input1: Array, input2: Array, target: Array
    ) -> SubgradientChoices | None:
        """All of the cosine's gradient or nothing of it, where it is the margin."""
        cosine, p, q = (each[0].reshape(-1) for each in self._cosine_and_norms(input1, input2))
        shapes = (np.broadcast_to(each, input1.shape) for each in input_errors[:2] if each is not None)
        lengths = np.sqrt(np.minimum(p, q))
        reach = _bound_distance_error(*shapes).reshape(-1) / lengths + 4 * np.finfo(np.float64).eps
        places = np.flatnonzero((np.abs(cosine - self.margin) <= reach) & (target[0].reshape(-1) == -1))
        length, factor = input1.shape[-1], 1 / (cosine.size if self.reduction == "mean" else 1)
        a, b = (each[0].reshape(-1, length)[places] for each in (input1, input2))
        of_cosine, of_p, of_q = (each[places, None] for each in (cosine, p, q))
        root, where = np.sqrt(of_p) * np.sqrt(of_q), _list_vector_indices(places, length)
        on = [
            (0, where, factor * (b / root - a * (of_cosine / of_p))),
            (1, where, factor * (a / root - b * (of_cosine / of_q))),
        ]
        share = (cosine[places] >= self.margin) * 1.0
        return choose_between_derivatives(
            self._output_flat_indices(places), share, cosine[places] == self.margin, [], on
        )

    def losses_on_branch(self, branch: Array, input1: Array, input2: Array, target: Array) -> Array:
        cosine, _, _ = self._cosine_and_norms(input1, input2)
        return np.select([branch > 0, branch < 0], [1 - cosine, cosine - self.margin], 0).astype(
            input1.dtype, copy=False
        )

    def loss_magnitudes(self, input1: Array, input2: Array, target: Array) -> Array:
        # The product is a sum of D, the lengths are half as much of sums of D.
        cosine = self._cosine_magnitude(input1, input2) * math.sqrt(4 + input1.shape[-1])
        return (1 + abs(self.margin) + cosine) * (self.select_branch(input1, input2, target) != 0)

    def implemented_loss_magnitudes(self, input1: Array, input2: Array, target: Array) -> Array:
        return (
            2
            * (1 + abs(self.margin) + self._cosine_magnitude(input1, input2))
            * (self.select_branch(input1, input2, target) != 0)
        )

    def _cosine_magnitude(self, a: Array, b: Array) -> Array:
        return self._cosine_and_norms(np.abs(a), np.abs(b))[0]

    def sample_gradients(self, weight: Array, input1: Array, input2: Array, target: Array) -> Gradients:
        cosine, p, q = (each[..., None] for each in self._cosine_and_norms(input1, input2))
        h = (-weight * self.select_branch(input1, input2, target).astype(weight.dtype))[..., None]
        root = np.sqrt(p) * np.sqrt(q)
        by_target = np.zeros(weight.shape[:1] + target.shape[1:], dtype=weight.dtype)
        by_first = h * (input2 / root - input1 * (cosine / p))
        by_second = h * (input1 / root - input2 * (cosine / q))
        return by_first, by_second, by_target

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Add errors: s, p and q by u sqrt(D) of their sums, once for each pair; each element by its two summands."""
        a, b = inputs[:2]
        target: Array = inputs[2]
        length_ = a.shape[-1]
        product = errors(_dot_product(a, b), _dot_product(np.abs(a), np.abs(b)), length_)
        p, q = (errors(_dot_product(each, each) + _COSINE_EPSILON, terms=length_ + 1) for each in (a, b))
        root = np.sqrt(p) * np.sqrt(q)
        cosine, p, q, root = (each[..., None] for each in (product / root, p, q, root))
        weight = self._sample_weights(gradient, self.sample_losses(*inputs), *inputs)
        h = (-weight * self.select_branch(*inputs))[..., None]
        by_first, by_second = (
            errors(h * (other / root - own * (cosine / square)), np.abs(h) * (np.abs(other / root) + size_), 2)
            for own, other, square in ((a, b, p), (b, a, q))
            for size_ in (np.abs(own * (cosine / square)),)
        )
        by_target = np.zeros(weight.shape[:1] + target.shape[1:])
        return by_first, by_second, by_target

    @declare_bug("the length of the vector was treated as a constant")
    def length_taken_as_constant(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        a, b, _ = inputs
        _, p, q = self._cosine_and_norms(a, b)
        weight = self._sample_weights(gradient, self.sample_losses(*inputs), *inputs)
        h = -weight * self.select_branch(*inputs) / np.sqrt(p * q)
        return h[..., None] * b, h[..., None] * a, self.backward(gradient, output, *inputs)[2]

    def torch_forward(self, torch: Any, input1: Any, input2: Any, target: Any) -> Any:
        return torch.nn.functional.cosine_embedding_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction
        )


@register_op("triplet_margin_loss")
class TripletMarginLoss(VectorPairLoss):
    """max(0, d(a, p) - d(a, n) + margin) of triplets (N, D) or (D,); then none, sum or mean.

    d(x, y) = (sum_i abs(x_i - y_i + eps)^p)^(1/p); with `swap`, d(p, n) stands for d(a, n) where it is smaller. With
    g = dL/d(output), c = 1 (none, sum) or 1/N (mean), where the loss is positive, and
    u(x, y)_i = sign(e_i) (abs(e_i) / d)^(p-1), e = x - y + eps, 0 where d = 0:
        dL/da = g c (u(a, p) - u(a, n)),  dL/dp = -g c u(a, p),  dL/dn = g c u(a, n)
    and with d(p, n) in place of d(a, n) its u goes to p and, negative, to n.
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

    def output_shape(self, anchor: Shape, positive: Shape, negative: Shape) -> Shape:
        if not anchor == positive == negative or len(anchor) not in (1, 2):
            raise ShapeError("three inputs of one shape, (N, D) or (D,)")
        return anchor[:-1] if self.reduction == "none" else ()

    def _offset_difference(self, x: Array, y: Array) -> Array:
        return x - y + x.dtype.type(self.eps)

    def _distance(self, x: Array, y: Array) -> Array:
        return vector_norm.p_norm(self.p, np.abs(self._offset_difference(x, y)), -1)[..., 0]

    def _direction(self, x: Array, y: Array) -> Array:
        return self._compute_direction(self._offset_difference(x, y))

    def _compute_direction(self, error: Array) -> Array:
        distance = vector_norm.p_norm(self.p, np.abs(error), -1)
        unit = np.where(distance > 0, distance, 1).astype(error.dtype, copy=False)
        return np.sign(error) * np.power(np.abs(error) / unit, error.dtype.type(self.p - 1)) * (distance > 0)

    def _distance_pairs(self, anchor: Array, positive: Array, negative: Array) -> list[tuple[Array, Array]]:
        """The pairs whose distances enter: that of the positive, that of the negative, and with `swap` the other."""
        return [(anchor, positive), (anchor, negative), *([(positive, negative)] if self.swap else [])]

    def _chosen_negative_share(self, anchor: Array, positive: Array, negative: Array) -> Array:
        """-1 where the loss is cut off, else the share of the positive's distance in that of the negative."""
        near, far, *other = (self._distance(*pair) for pair in self._distance_pairs(anchor, positive, negative))
        swapped = np.zeros(far.shape)
        if self.swap:
            # Half to each where they are equal, as PyTorch's minimum has it.
            swapped = (1 + np.sign(far - other[0])) / 2
            far = np.minimum(far, other[0])
        return np.where(near - far + self.margin >= 0, swapped, -1)

    def select_branch(self, anchor: Array, positive: Array, negative: Array) -> Array:
        """What is chosen for each sample, and behind it the pieces of its distances, (..., 1 + pairs D)."""
        pairs = self._distance_pairs(anchor, positive, negative)
        chosen = self._chosen_negative_share(anchor, positive, negative)[..., None]
        pieces = [vector_norm.select_norm_branch(self._offset_difference(x, y), -1) for x, y in pairs]
        tiles = max(map(len, (chosen, *pieces)))
        return np.concatenate([broadcast_batch(each, tiles) for each in (chosen, *pieces)], axis=-1)

    def subgradient_choices(
        self, input_errors: Sequence[Array | None], anchor: Array, positive: Array, negative: Array
    ) -> SubgradientChoices | None:
        """All or nothing of a loss that is just cut off; and one of two distances of the negative that are equal."""
        inputs = [each.reshape(1, -1, each.shape[-1]) for each in (anchor, positive, negative)]
        near, far, *other = (self._distance(*pair)[0] for pair in self._distance_pairs(*inputs))
        reach = 2 * _bound_distance_error(
            *(np.broadcast_to(each, anchor.shape) for each in input_errors if each is not None)
        ).reshape(-1)
        reach = reach + 8 * np.spacing(near + far + self.margin)
        closer = np.minimum(far, other[0]) if self.swap else far
        value, gap = near - closer + self.margin, far - other[0] if self.swap else np.full(far.shape, np.inf)
        cut, equal = np.abs(value) <= reach, np.abs(gap) <= reach
        swapped = (1 + np.sign(gap)) / 2 if self.swap else np.zeros(far.shape)
        factor = 1 / (near.size if self.reduction == "mean" else 1)
        # Where both are open the choices multiply, and none is declared.
        ends = np.flatnonzero(cut & ~equal)
        return merge_choices([
            choose_between_derivatives(
                self._output_flat_indices(ends), (value[ends] >= 0) * 1.0, value[ends] == 0, [],
                self._branch_derivatives(inputs, ends, 1.0, swapped[ends], factor),
            ),
            self._swap_choices(inputs, np.flatnonzero(equal & (value > reach)), gap, factor),
        ])  # fmt: skip

    def _branch_derivatives(
        self, inputs: Sequence[Array], places: Array, near_distance_factor: float, swapped: Array, factor: float
    ) -> list[BranchDerivative]:
        """Slopes of some samples' losses, `of_near` of d(a, p) less d(a, n), or d(p, n) as far as swapped."""
        a, p, n = (each[:, places] for each in inputs)
        other = swapped[:, None]
        near, far, between_them = self._direction(a, p)[0], self._direction(a, n)[0], self._direction(p, n)[0]
        near, far, between_them = near_distance_factor * near, (1 - other) * far, other * between_them
        where = _list_vector_indices(places, a.shape[-1])
        return [
            (0, where, factor * (near - far)),
            (1, where, factor * (-near - between_them)),
            (2, where, factor * (far + between_them)),
        ]

    def _swap_choices(
        self, inputs: Sequence[Array], places: Array, gap: Array, factor: float
    ) -> SubgradientChoices | None:
        none = np.zeros(places.size)
        # Only what the two distances differ in is chosen: the positive's own distance enters once, whatever is.
        low, high = (self._branch_derivatives(inputs, places, 0.0, each, factor) for each in (none, none + 1))
        share = (1 + np.sign(gap[places])) / 2
        return choose_between_derivatives(self._output_flat_indices(places), share, gap[places] == 0, low, high)

    def losses_on_branch(self, branch: Array, anchor: Array, positive: Array, negative: Array) -> Array:
        pairs = self._distance_pairs(anchor, positive, negative)
        chosen, *pieces = np.split(branch, [1 + i * anchor.shape[-1] for i in range(len(pairs))], axis=-1)
        near, far, *other = (
            vector_norm.evaluate_norm_on_branch(self.p, each, self._offset_difference(x, y), -1)
            for each, (x, y) in zip(pieces, pairs, strict=True)
        )
        if self.swap:
            # Of a distance that does not enter it does not matter where its piece ends.
            far = np.where(chosen < 1, (1 - chosen) * far, 0) + np.where(chosen > 0, chosen * other[0], 0)
        return np.where(chosen >= 0, near - far + self.margin, 0)[..., 0].astype(anchor.dtype, copy=False)

    def forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        """Rounding of the output: what the losses of samples are off by is each its own, and adds up as squares."""
        if self.reduction == "none":
            return super().forward_rounding(output, *inputs)
        sizes = self.loss_magnitudes(*inputs).reshape(len(output), -1)
        count = sizes.shape[-1]
        squares = self.summand_count * np.square(sizes).sum(axis=-1) + count * np.square(sizes.sum(axis=-1))
        magnitude = np.sqrt(squares) / (count if self.reduction == "mean" else 1)
        return Rounding(magnitude.reshape(output.shape), 1)

    def loss_magnitudes(self, anchor: Array, positive: Array, negative: Array) -> Array:
        own = vector_norm.count_norm_rounding_terms(self.p, anchor.shape[-1]) / self.summand_count
        distances = (self._distance(anchor, other) for other in (positive, negative))
        near, far = (each * vector_norm.estimate_root_error(self.p, each) for each in distances)
        return (near + far) * np.sqrt(own) + self.margin

    def sample_gradients(self, weight: Array, anchor: Array, positive: Array, negative: Array) -> Gradients:
        pairs = (anchor, positive), (anchor, negative), (positive, negative)
        return self._compute_shares(
            [self._offset_difference(x, y) for x, y in pairs], weight, anchor, positive, negative
        )

    def _compute_shares(self, differences: Sequence[Array], weight: Array, *inputs: Array) -> Gradients:
        """Shares, given the differences of a and p, of a and n, and of p and n."""
        weights = self._distance_gradients(weight, self._chosen_negative_share(*inputs))
        near, far, swapped = (each * self._compute_direction(x) for each, x in zip(weights, differences, strict=True))
        return near - far, -near - swapped, far + swapped

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Add errors: x - y is off by u of itself, which may be more than is left when eps is added to it."""
        anchor, positive, negative = inputs
        pairs = (anchor, positive), (anchor, negative), (positive, negative)
        differences = [errors(self._offset_difference(x, y), np.abs(x - y)) for x, y in pairs]
        weight = self._sample_weights(gradient, self.sample_losses(*inputs), *inputs)
        results = self._compute_shares(differences, weight, *inputs)
        roundings = self.backward_rounding(gradient, output, *inputs)
        return tuple(
            None if each is None else errors.add_rounding_error(each, rounding)
            for each, rounding in zip(results, roundings, strict=True)
        )

    def sample_gradient_magnitudes(self, weight: Array, anchor: Array, positive: Array, negative: Array) -> Gradients:
        branch = self._chosen_negative_share(anchor, positive, negative)
        of_near, of_far, of_swapped = self._distance_gradients(weight, branch)
        near = of_near * self._direction_magnitude(anchor, positive)
        far = of_far * self._direction_magnitude(anchor, negative)
        swapped = of_swapped * self._direction_magnitude(positive, negative)
        return near + far, near + swapped, far + swapped

    @staticmethod
    def _distance_gradients(weight: Array, branch: Array) -> tuple[Array, Array, Array]:
        """Gradient of the loss by each of the three distances, signs aside, one axis behind."""
        shares = ((branch >= 0), np.where(branch >= 0, 1 - branch, 0), np.maximum(branch, 0))
        of_near, of_far, of_swapped = ((weight * each).astype(weight.dtype)[..., None] for each in shares)
        return of_near, of_far, of_swapped

    def _direction_magnitude(self, x: Array, y: Array) -> Array:
        root = vector_norm.estimate_root_error(self.p, self._distance(x, y)[..., None])
        return np.abs(self._direction(x, y)) * (1 + abs(self.p - 1) * root)

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
