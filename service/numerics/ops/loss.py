"""Losses of pairs of elements, reduced as PyTorch does."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt

from service.numerics.ops.choices import Choices, between
from service.numerics.ops.multiplier import Multiplier, division, factor, of_counts
from service.numerics.ops.op import Case, Gradients, Op, Rounding, ShapeError, Spreading, mutant, mutant_of, op
from service.numerics.reach import given, joined, least_of_all
from service.numerics.tiles import Array, Shape, aligned, size

Reduction = Literal["none", "sum", "mean"]

REDUCTION_CASES = (
    Case(((3, 4), (3, 4))),
    Case(((5,), (5,)), {"reduction": "sum"}),
    Case(((), ()), {"reduction": "none"}),
    Case(((2, 3), (2, 3)), {"reduction": "none"}),
)


def reduced_by_torch(reduction: str, losses: Any) -> Any:
    """Reduce a tensor of PyTorch's."""
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


class Loss(Op):
    """Losses l of samples, then none, their sum, or their mean: c = 1 (none, sum) or 1 over what the mean divides by.

    With g = dL/d(output), each input's gradient is that of g c l, sample by sample.
    """

    reduction: Any

    ends_in_sum = True

    @abstractmethod
    def losses(self, *inputs: Any) -> Array:
        """Losses of the samples, behind a tile axis."""

    @abstractmethod
    def shares(self, weight: Array, *inputs: Any) -> Gradients:
        """Gradients of sum weight l, where weight has the shape of the losses."""

    def loss_sizes(self, *inputs: Any) -> Array:
        """Losses in their textbook form, on absolute values."""
        return np.abs(self.losses(*inputs))

    def share_sizes(self, weight: Array, *inputs: Any) -> Gradients:
        """Gradients in their textbook form, on absolute values; weight is not negative."""
        return tuple(None if each is None else np.abs(each) for each in self.shares(weight, *inputs))

    summands = 1
    """Length of the longest sum in one loss or share."""

    def divisor(self, losses: Array, *inputs: Any) -> Array | int:
        """What the reduction divides by."""
        return size(losses.shape[1:]) if self.reduction == "mean" else 1

    def multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        if self.reduction == "none":
            return ()
        losses = self.losses(*inputs)
        shape = losses.shape[1:]
        if self.reduction == "sum":
            return of_counts("sum", shape)
        divisor = float(np.max(self.divisor(losses, *inputs)))
        counts = of_counts("mean", shape)
        if divisor == size(shape):
            return counts
        counted = [each for each in counts if each.value == divisor]
        return counted or [division(divisor, "division of the mean by")]

    def _reduced(self, losses: Array, *inputs: Any) -> Array:
        if self.reduction == "none":
            return losses
        total = losses.reshape(losses.shape[0], -1).sum(axis=1)
        return total / self._narrow(self.divisor(losses, *inputs), losses)

    @staticmethod
    def _narrow(divisor: Array | int, like: Array) -> Any:
        return divisor if isinstance(divisor, int) else divisor.astype(like.dtype, copy=False)

    def _weights(self, gradient: Array, losses: Array, *inputs: Any) -> Array:
        """Bring dL/d(output) to each sample: the reduction's own gradient."""
        if self.reduction == "none":
            return gradient
        share = gradient / self._narrow(self.divisor(losses, *inputs), losses)
        shape = share.shape[:1] + losses.shape[1:]
        return np.broadcast_to(share.reshape(share.shape[:1] + (1,) * (losses.ndim - 1)), shape)

    def spread_losses(self, values: Spreading, *inputs: Any) -> Array:
        """Spread labels to the losses of the samples, (1, ...). Default: element by element."""
        return joined(*(aligned(each, inputs[0].ndim - 1) for each in given(values)))

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        reached = self.spread_losses(values, *inputs)
        return reached if self.reduction == "none" else least_of_all(reached)

    def spread_terms(self, reached: Array, values: Spreading, *inputs: Any) -> Array:
        losses = self.spread_losses(values, *inputs)
        return losses.reshape(len(losses), -1)

    def forward(self, *inputs: Any) -> Array:
        return self._reduced(self.losses(*inputs), *inputs)

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self.shares(self._weights(gradient, self.losses(*inputs), *inputs), *inputs)

    def rounding(self, output: Array, *inputs: Any) -> Rounding:
        sizes = self.loss_sizes(*inputs)
        count = 1 if self.reduction == "none" else size(sizes.shape[1:])
        return Rounding(np.abs(self._reduced(sizes, *inputs)), count + self.summands)

    def backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        weight = np.abs(self._weights(gradient, self.losses(*inputs), *inputs))
        sizes = self.share_sizes(weight, *inputs)
        return tuple(None if each is None else Rounding(each, self.summands + 1) for each in sizes)

    def terms(self, output: Array | None, *inputs: Any) -> Array:
        return self._terms(self.losses(*inputs), *inputs)

    def _terms(self, losses: Array, *inputs: Any) -> Array:
        flat = losses.reshape(losses.shape[0], -1)
        divisor = self._narrow(self.divisor(losses, *inputs), losses)
        if isinstance(divisor, int):
            return flat if divisor == 1 else flat / divisor
        return flat / divisor[:, None]

    def own_loss_sizes(self, *inputs: Any) -> Array:
        """Losses on absolute values in the form in which they are computed here."""
        return self.loss_sizes(*inputs)

    def terms_rounding(self, terms: Array, *inputs: Any) -> Rounding:
        sizes = np.abs(self._terms(self.own_loss_sizes(*inputs), *inputs))
        # A rounding of the difference, which squaring doubles, one of the square, one of the division.
        return Rounding(np.abs(terms) + sizes, 4 + self.summands)

    @mutant_of("scaled", declared=True)
    def not_averaged(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The sum over the samples was taken where the loss takes the mean."""
        losses = self.losses(*inputs)
        spread = gradient.reshape(gradient.shape[0], *(1,) * (losses.ndim - 1)) if output.ndim == 1 else gradient
        return self.shares(np.broadcast_to(spread, losses.shape), *inputs)


class PiecewiseLoss(Loss):
    """Losses of pieces: `branch` says on which piece each sample is, `losses_along` continues that piece."""

    @abstractmethod
    def branch(self, *inputs: Any) -> Array:
        """Piece of each sample."""

    @abstractmethod
    def losses_along(self, branch: Array, *inputs: Any) -> Array:
        """Losses of the samples, on the pieces given."""

    def losses(self, *inputs: Any) -> Array:
        return self.losses_along(self.branch(*inputs), *inputs)

    def along(self, branch: Array, *inputs: Any) -> Array:
        return self._reduced(self.losses_along(branch, *inputs), *inputs)

    def _outputs(self, samples: Array) -> Array:
        """Flat index of the element of the output that samples enter, given theirs."""
        return samples if self.reduction == "none" else np.zeros_like(samples)

    def terms_along(self, branch: Array, output: Array | None, *inputs: Any) -> Array:
        return self._terms(self.losses_along(branch, *inputs), *inputs)


class PairLoss(Loss):
    """A loss of each element of an input and a target of one shape."""

    inputs = ("input", "target")
    cases = REDUCTION_CASES

    def output_shape(self, input: Shape, target: Shape) -> Shape:
        if input != target:
            raise ShapeError("two inputs of one shape")
        return input if self.reduction == "none" else ()

    @mutant
    def sign_of_the_target(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The sign of the target's gradient was left out."""
        by_input, by_target = self.backward(gradient, output, *inputs)
        assert by_target is not None
        return by_input, -by_target


class Squares(PairLoss):
    """Squares of differences, which are their own sizes."""

    def loss_sizes(self, *inputs: Any) -> Array:
        return self.losses(*inputs)

    def terms_rounding(self, terms: Array, *inputs: Any) -> Rounding:
        # As of any loss, of which a term and its textbook form are here one.
        return Rounding(2 * terms, 4 + self.summands)


@op("half_squared_error")
class HalfSquaredError(Squares):
    """0.5 (a - y)^2 for each element, then none, sum or mean over the N elements.

    With g = dL/d(output), a and y of shape (...), c = 1 (none, sum) or 1/N (mean):
        dL/da = g c (a - y)        dL/dy = -dL/da
    """

    passes = 4
    reduction: Reduction = "mean"

    analytic = True

    def losses(self, input: Array, target: Array) -> Array:
        losses = input - target
        losses *= losses
        losses /= 2
        return losses

    def shares(self, weight: Array, input: Array, target: Array) -> Gradients:
        by_input = weight * (input - target)
        return by_input, -by_input

    def twin(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.mse_loss(input, target, reduction=self.reduction) / 2


@op("mse_loss")
class MseLoss(Squares):
    """(a - y)^2 for each element, then none, sum or mean over the N elements.

    With g = dL/d(output), c = 1 (none, sum) or 1/N (mean): dL/da = 2 g c (a - y), dL/dy = -dL/da.
    """

    passes = 3
    reduction: Reduction = "mean"

    analytic = True

    def losses(self, input: Array, target: Array) -> Array:
        return np.square(input - target)

    def shares(self, weight: Array, input: Array, target: Array) -> Gradients:
        by_input = weight * (2 * (input - target))
        return by_input, -by_input

    def multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        return [*super().multipliers(*inputs), factor(2)]

    def twin(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.mse_loss(input, target, reduction=self.reduction)


class Distance(PiecewiseLoss, PairLoss):
    """A loss of d = a - y: quadratic while abs(d) is below some width, linear beyond, and even."""

    @property
    def _width(self) -> float:
        return 0.0

    def branch(self, input: Array, target: Array) -> Array:
        difference = input - target
        return np.where(np.abs(difference) < self._width, 0, np.sign(difference)).astype(np.int8)

    def choices(self, off: Sequence[Array | None], input: Array, target: Array) -> Choices | None:
        """A slope s in [-1, 1] of abs(a - y) for a = y, and of the target -s; with a width there is no kink."""
        if self._width:
            return None
        assert off[0] is not None
        assert off[1] is not None
        difference = (input - target).ravel()
        places = np.flatnonzero(np.abs(difference) <= np.broadcast_to(off[0] + off[1], input.shape).ravel())
        share = (1 + np.sign(difference[places])) / 2
        factor = 1 / (difference.size if self.reduction == "mean" else 1)
        low, high = ([(0, places, sign * factor), (1, places, -sign * factor)] for sign in (-1, 1))
        return between(self._outputs(places), share, difference[places] == 0, low, high)


@op("l1_loss")
class L1Loss(Distance):
    """abs(a - y) for each element, then none, sum or mean over the N elements.

    With g = dL/d(output), c = 1 (none, sum) or 1/N (mean): dL/da = g c sign(a - y), 0 where a = y; dL/dy = -dL/da.
    """

    passes = 8
    reduction: Reduction = "mean"

    @mutant_of("to_both", at_ties=True)
    def one_sign_at_ties(self, gradient: Array, output: Array, input: Array, target: Array) -> Gradients:
        """Where the two are equal the gradient went to both with one sign."""
        by_input, by_target = self.backward(gradient, output, input, target)
        assert by_input is not None
        assert by_target is not None
        equal = self._weights(gradient, self.losses(input, target), input, target) * (input == target)
        return by_input + equal, by_target + equal

    def losses_along(self, branch: Array, input: Array, target: Array) -> Array:
        return (input - target) * branch.astype(input.dtype)

    def shares(self, weight: Array, input: Array, target: Array) -> Gradients:
        by_input = weight * np.sign(input - target)
        return by_input, -by_input

    def twin(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.l1_loss(input, target, reduction=self.reduction)


@op("smooth_l1_loss")
class SmoothL1Loss(Distance):
    """With d = a - y and b = beta: d^2 / (2 b) where abs(d) < b, else abs(d) - b / 2; then none, sum or mean.

    With g = dL/d(output), c = 1 (none, sum) or 1/N (mean):
        dL/da = g c d / b where abs(d) < b, else g c sign(d);  dL/dy = -dL/da
    """

    passes = 14
    reduction: Reduction = "mean"
    beta: Annotated[float, Ge(0)] = 1.0

    cases = (*REDUCTION_CASES, Case(((7,), (7,)), {"beta": 0.4}), Case(((4,), (4,)), {"beta": 0}))

    @property
    def _width(self) -> float:
        return self.beta

    def losses_along(self, branch: Array, input: Array, target: Array) -> Array:
        difference = input - target
        linear = difference * branch.astype(input.dtype) - self.beta / 2
        return np.where(branch == 0, np.square(difference) / self.beta / 2 if self.beta else 0, linear)

    def shares(self, weight: Array, input: Array, target: Array) -> Gradients:
        difference = input - target
        slope = np.where(
            np.abs(difference) < self.beta, difference / self.beta if self.beta else 0, np.sign(difference)
        )
        by_input = weight * slope
        return by_input, -by_input

    def loss_sizes(self, input: Array, target: Array) -> Array:
        return np.abs(self.losses(input, target)) + self.beta / 2 * (self.branch(input, target) != 0)

    def multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        inside = self.branch(*inputs) == 0
        beta = division(self.beta)._replace(where=inside, aside=" inside of it")
        return [*super().multipliers(*inputs), *([beta] if self.beta else [])]

    def twin(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


@op("huber_loss")
class HuberLoss(Distance):
    """With d = a - y: d^2 / 2 where abs(d) < delta, else delta (abs(d) - delta / 2); then none, sum or mean.

    With g = dL/d(output), c = 1 (none, sum) or 1/N (mean):
        dL/da = g c d where abs(d) < delta, else g c delta sign(d);  dL/dy = -dL/da
    """

    passes = 14
    reduction: Reduction = "mean"
    delta: Annotated[float, Gt(0)] = 1.0

    cases = (*REDUCTION_CASES, Case(((7,), (7,)), {"delta": 0.4}))

    @property
    def _width(self) -> float:
        return self.delta

    def losses_along(self, branch: Array, input: Array, target: Array) -> Array:
        difference = input - target
        linear = self.delta * (difference * branch.astype(input.dtype) - self.delta / 2)
        return np.where(branch == 0, np.square(difference) / 2, linear)

    def shares(self, weight: Array, input: Array, target: Array) -> Gradients:
        difference = input - target
        # Not by clipping, which would hide a NaN.
        slope = np.where(np.abs(difference) < self.delta, difference, self.delta * np.sign(difference))
        by_input = weight * slope
        return by_input, -by_input

    def loss_sizes(self, input: Array, target: Array) -> Array:
        return np.abs(self.losses(input, target)) + self.delta * (self.delta / 2) * (self.branch(input, target) != 0)

    def multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        outside = self.branch(*inputs) != 0
        return [*super().multipliers(*inputs), factor(self.delta)._replace(where=outside, aside=" outside of it")]

    def twin(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.huber_loss(input, target, reduction=self.reduction, delta=self.delta)
