"""Connectionist temporal classification: the loss of a sequence over all its alignments."""

import math
from functools import reduce
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Len

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops.axis_numbers import NotNegative, Positive
from service.numerics.ops.half_precision import widen_half
from service.numerics.ops.loss import LossOp, LossReduction, reduce_by_torch
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
from service.numerics.ops.softmax import softmax

_CALLS_PER_STEP = 8
"""Calls of NumPy for one time of the forward pass."""


class _States(NamedTuple):
    """The states of all alignments: the labels of each sample, with a blank before, between and behind.

    Attributes
    ----------
    labels
        Class of each state, (N, 2 S + 1), S the largest number of labels.
    may_skip
        Mask of states that follow the last but one: labels other than that.
    input_lengths, target_lengths
        Numbers of times and of labels of each sample, (N,).
    """

    labels: Array
    may_skip: Array
    input_lengths: Array
    target_lengths: Array

    @property
    def last_states(self) -> Array:
        """Return the last state, (N,): the blank behind the labels."""
        return 2 * self.target_lengths

    def mask_times(self, count: int) -> Array:
        """Return the mask of the times that count, (T, N, 1)."""
        return np.less(np.arange(count)[:, None, None], self.input_lengths[:, None])


@register_op("ctc_loss")
class CtcLoss(LossOp):
    """Loss of label sequences over all alignments: -log of the sum of their probabilities, then none, sum or mean.

    Log-probabilities x (T, N, C) or (T, C), labels (N, S), or all in a row (sum of the lengths,). The mean divides the
    loss of each sample by its number of labels, or 1, first. An alignment passes states: a blank before, between and
    behind the labels l. From state s it goes to s, s + 1, or s + 2 if that is a label other than l_s. With x_t(s) the
    x of the state's class:
        a_t(s) = x_t(s) + log(e^a_{t-1}(s) + e^a_{t-1}(s-1) + e^a_{t-1}(s-2))
        b_t(s) = log(e^(b_{t+1}(s) + x_{t+1}(s)) + e^(b_{t+1}(s+1) + x_{t+1}(s+1)) + e^(b_{t+1}(s+2) + x_{t+1}(s+2)))
    a starts in the first two states, and b in the last two with 0. The loss l is -log of the sum of the last two e^a_T.
        dl/dx_t(c) = -sum of e^(a_t(s) + b_t(s) + l) over the states s of class c
    So dL/dx sums these, times the gradient of each loss. Without an alignment the loss is infinite, and its gradient
    is NaN; with zero_infinity both are 0. PyTorch's own
    gradient by x adds e^x, which a log_softmax before takes away again. That of the function has no such part.
    """

    input_lengths: Annotated[list[Positive], Len(1)] | Positive
    target_lengths: Annotated[list[NotNegative], Len(1)] | NotNegative
    blank: Annotated[int, Ge(0)] = 0
    reduction: LossReduction = "mean"
    zero_infinity: bool = False

    scratch_arrays = 4
    supports_complex_step = True
    inputs = ("log_probs", "targets:index")
    positional = ("log_probs", "targets", "input_lengths", "target_lengths", "blank", "reduction", "zero_infinity")
    examples = (
        OpExample(
            ((5, 2, 4), (2, 2)),
            {"input_lengths": [5, 4], "target_lengths": [2, 1], "blank": 3},
            index_limits={"targets": 3},
        ),
        OpExample(
            ((6, 3, 3), (4,)),
            {"input_lengths": [6, 4, 5], "target_lengths": [2, 0, 2], "blank": 2, "reduction": "none"},
            low=-4.0, high=0.0, index_limits={"targets": 2},
        ),
        OpExample(
            ((4, 3), (2,)),
            {"input_lengths": 4, "target_lengths": 2, "blank": 2, "reduction": "sum", "zero_infinity": True},
            index_limits={"targets": 2},
        ),
    )  # fmt: skip

    def infer_output_shape(self, log_probs: Shape, targets: Shape) -> Shape:
        if len(log_probs) not in (2, 3):
            raise ShapeError("log_probs (T, N, C) or (T, C)")
        is_batch = len(log_probs) == 3
        samples = log_probs[1] if is_batch else 1
        for name, lengths in (("input_lengths", self.input_lengths), ("target_lengths", self.target_lengths)):
            if (isinstance(lengths, list) and len(lengths) != samples) or (isinstance(lengths, int) and is_batch):
                raise ShapeError(f"{name} with a number for each of {samples} samples")
        input_lengths, target_lengths = self._list_lengths()
        if max(input_lengths) > log_probs[0]:
            raise ShapeError(f"input_lengths up to {log_probs[0]}, the times of log_probs")
        if self.blank >= log_probs[-1]:
            raise ShapeError(f"a blank from 0 to {log_probs[-1] - 1}, a class of log_probs")
        if len(targets) == 1 and targets[0] == sum(target_lengths):
            return (samples,) if is_batch and self.reduction == "none" else ()
        if len(targets) != 2 or targets[0] != samples or max(target_lengths) > targets[1]:
            total = sum(target_lengths)
            raise ShapeError(
                f"targets ({samples}, S) with S at least {max(target_lengths)}, or all in a row, ({total},)"
            )
        return (samples,) if is_batch and self.reduction == "none" else ()

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        if values[1] is None:
            return
        last = shapes[0][-1] - 1
        for labels in self._list_labels(values[1]):
            if ((labels < 0) | (labels > last) | (labels == self.blank)).any():
                raise ShapeError(f"labels from 0 to {last} other than the blank, {self.blank}")

    def _list_lengths(self) -> tuple[list[int], list[int]]:
        input_lengths, target_lengths = (
            [lengths] if isinstance(lengths, int) else lengths for lengths in (self.input_lengths, self.target_lengths)
        )
        return input_lengths, target_lengths

    def _list_labels(self, targets: Array) -> list[Array]:
        """Return the labels of each sample, given targets without a tile axis."""
        lengths = self._list_lengths()[1]
        if targets.ndim == 2:
            return [row[:length] for row, length in zip(targets, lengths, strict=True)]
        return np.split(targets, np.cumsum(lengths)[:-1])

    def _make_states(self, targets: Array) -> _States:
        input_lengths, target_lengths = (np.array(lengths) for lengths in self._list_lengths())
        labels = np.full((len(target_lengths), 2 * int(target_lengths.max()) + 1), self.blank)
        for row, sample in zip(labels, self._list_labels(targets[0]), strict=True):
            row[1 : 2 * len(sample) : 2] = sample
        may_skip = np.zeros(labels.shape, np.bool_)
        may_skip[:, 2:] = (labels[:, 2:] != self.blank) & (labels[:, 2:] != labels[:, :-2])
        return _States(labels, may_skip, input_lengths, target_lengths)

    @staticmethod
    def _add_sample_axis(log_probs: Array) -> Array:
        return log_probs if log_probs.ndim == 4 else log_probs[:, :, None]

    def _take_states(self, log_probs: Array, states: _States) -> Array:
        """Return x_t(s), (K, T, N, 2 S + 1)."""
        return self._add_sample_axis(log_probs)[:, :, np.arange(len(states.labels))[:, None], states.labels]

    @staticmethod
    def _run_forwards(x: Array, states: _States) -> Array:
        """Return a_t(s), (K, T, N, 2 S + 1)."""
        a = np.full_like(x, -np.inf)
        a[:, 0, :, :2] = x[:, 0, :, :2]
        for time in iterate_interruptibly(range(1, x.shape[1])):
            before = a[:, time - 1]
            skipped = np.where(states.may_skip, _shift(before, 2), x.dtype.type(-np.inf))
            a[:, time] = x[:, time] + _join(before, _shift(before, 1), skipped)
        return a

    @staticmethod
    def _run_backwards(x: Array, states: _States) -> Array:
        """Return b_t(s), (K, T, N, 2 S + 1)."""
        b = np.full_like(x, -np.inf)
        places = np.arange(int(x.shape[-1]))
        last_states = states.last_states[:, None]
        start = np.where((places == last_states) | (places == last_states - 1), 0, -np.inf)
        for time in iterate_interruptibly(reversed(range(x.shape[1]))):
            ends = states.input_lengths[:, None] == time + 1
            if time + 1 == x.shape[1]:
                b[:, time] = np.where(ends, start, -np.inf)
                continue
            after = b[:, time + 1] + x[:, time + 1]
            skipped = _shift(np.where(states.may_skip, after, x.dtype.type(-np.inf)), -2)
            b[:, time] = np.where(ends, start, _join(after, _shift(after, -1), skipped))
        return b

    @staticmethod
    def _end_forwards(a: Array, states: _States) -> Array:
        """Return the loss of each sample before any division, (K, N)."""
        samples, last = np.arange(len(states.labels)), states.last_states
        ends = a[:, states.input_lengths - 1, samples]
        final = ends[:, samples, last]
        before = np.where(last > 0, ends[:, samples, last - 1], a.dtype.type(-np.inf))
        return -_join(final, before)

    def _get_sample_factors(self, states: _States) -> Array | float:
        """Return the factor of each sample's loss in a mean, (N,)."""
        return 1 / np.maximum(states.target_lengths, 1) if self.reduction == "mean" else 1.0

    def _drop_infinite(self, losses: Array) -> Array:
        return np.where(np.isposinf(np.real(losses)), losses.dtype.type(0), losses) if self.zero_infinity else losses

    def _shape_losses(self, losses: Array, log_probs: Array) -> Array:
        """Return the losses of samples, without their axis for one without a batch."""
        return losses if log_probs.ndim == 4 else losses[:, 0]

    def compute_sample_losses(self, log_probs: Array, targets: Array) -> Array:
        states = self._make_states(targets)
        losses = self._end_forwards(self._run_forwards(self._take_states(log_probs, states), states), states)
        weighted = self._drop_infinite(losses) * self._get_sample_factors(states)
        return self._shape_losses(weighted.astype(log_probs.dtype, copy=False), log_probs)

    def _compute_shares(self, states: _States, log_probs: Array) -> Array:
        """Return the probability of each state given the labels, (K, T, N, 2 S + 1)."""
        x = self._take_states(log_probs, states)
        a, b = self._run_forwards(x, states), self._run_backwards(x, states)
        losses = self._end_forwards(a, states)[:, None, :, None]
        with np.errstate(invalid="ignore"):
            shares = np.exp(a + b + losses)
        is_counted = states.mask_times(x.shape[1])
        if self.zero_infinity:
            is_counted = is_counted & ~np.isposinf(losses)
        return np.where(is_counted, shares, x.dtype.type(0))

    def _spread_weights(self, weight: Array, states: _States) -> Array:
        """Return the weight of each sample's undivided loss, (K, N)."""
        return (weight.reshape(len(weight), -1) * self._get_sample_factors(states)).astype(weight.dtype, copy=False)

    def _sum_states(self, shares: Array, weight: Array, states: _States, log_probs: Array) -> Array:
        """Return the weighted shares, summed by class, in the shape of log_probs."""
        terms = shares * self._spread_weights(weight, states)[:, None, :, None]
        x = self._add_sample_axis(log_probs)
        result = np.zeros((len(terms), *x.shape[1:]), terms.dtype)
        samples = np.arange(len(states.labels))
        for state in range(states.labels.shape[1]):
            result[:, :, samples, states.labels[:, state]] += terms[..., state]
        return result.reshape(len(terms), *log_probs.shape[1:])

    def compute_sample_gradients(self, weight: Array, log_probs: Array, targets: Array) -> Gradients:
        states = self._make_states(targets)
        return -self._sum_states(self._compute_shares(states, log_probs), weight, states, log_probs), None

    def _estimate_path_size(self, log_probs: Array) -> Array:
        """Return a bound of the logarithms of all alignments, and of the roundings on the way, (K, N).

        Each of the T steps rounds a logarithm up to the sum of the largest abs(x_t), and then its sum with x_t. So T
        steps are off by the root of 2 T of it.
        """
        x = self._add_sample_axis(log_probs)
        x = np.where(np.isfinite(x), np.abs(x), 0)
        return math.sqrt(2 * x.shape[1]) * (np.max(x, axis=-1).sum(axis=1) + 4)

    def estimate_loss_magnitudes(self, log_probs: Array, targets: Array) -> Array:
        factors = self._get_sample_factors(self._make_states(targets))
        return self._shape_losses(self._estimate_path_size(log_probs) * factors, log_probs)

    def estimate_sample_gradient_magnitudes(self, weight: Array, log_probs: Array, targets: Array) -> Gradients:
        states = self._make_states(targets)
        shares = self._sum_states(self._compute_shares(states, log_probs), weight, states, log_probs)
        # Programs that take the gradient by the input of a log_softmax subtract from its probabilities.
        spread = np.broadcast_to(weight[:, None, ..., None], shares.shape) * softmax(log_probs, -1)
        sizes = 1 + 3 * self._shape_losses(self._estimate_path_size(log_probs), log_probs)[:, None, ..., None]
        return math.sqrt(states.labels.shape[1]) * (shares + spread) * sizes, None

    def get_sensitive_argument(self, log_probs: Array, targets: Array) -> SensitiveArgument:
        return SensitiveArgument(log_probs)

    def propagate_to_losses(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = drop_missing(values)
        return labels.min(axis=(1, labels.ndim - 1))

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        assert shapes[0] is not None
        times, classes = shapes[0][0], shapes[0][-1]
        samples = count_elements(shapes[0][1:-1])
        states = times * samples * (2 * max(self._list_lengths()[1]) + 1)
        calls = _CALLS_PER_STEP * times
        return ComputeCost(_CALLS_PER_STEP * states, max(states, times * samples * classes), calls)

    @declare_bug_named(
        "exponential_added", "exp(log_probs) was added, as where a log_softmax before is part of the function"
    )
    def add_exponential(self, gradient: Array, output: Array, log_probs: Array, targets: Array) -> Gradients:
        states = self._make_states(targets)
        x = self._add_sample_axis(log_probs)
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(log_probs, targets))
        is_counted = states.mask_times(x.shape[1])
        added = self._spread_weights(weight, states)[:, None, :, None] * np.exp(x) * is_counted
        (by_input, _) = self.backward(gradient, output, log_probs, targets)
        assert by_input is not None
        return by_input + added.reshape(len(added), *log_probs.shape[1:]), None

    @declare_bug("the alignments that end in the blank behind the labels were left out of the gradient")
    def last_blank_forgotten(self, gradient: Array, output: Array, log_probs: Array, targets: Array) -> Gradients:
        states = self._make_states(targets)
        shares = self._compute_shares(states, log_probs).copy()
        shares[:, :, np.arange(len(states.labels)), states.last_states] = 0
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(log_probs, targets))
        return -self._sum_states(shares, weight, states, log_probs), None

    @declare_bug("the shares of a label that stands several times were not added up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, log_probs: Array, targets: Array) -> Gradients:
        states = self._make_states(targets)
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(log_probs, targets))
        terms = -self._compute_shares(states, log_probs) * self._spread_weights(weight, states)[:, None, :, None]
        x = self._add_sample_axis(log_probs)
        result = np.zeros((len(terms), *x.shape[1:]), terms.dtype)
        result[:, :, np.arange(len(states.labels))[:, None], states.labels] = terms
        return result.reshape(len(terms), *log_probs.shape[1:]), None

    @declare_bug_named(
        "target_lengths_forgotten", "the mean did not divide by the number of labels of each sample first"
    )
    def forget_target_lengths(self, gradient: Array, output: Array, log_probs: Array, targets: Array) -> Gradients:
        states = self._make_states(targets)
        (by_input, _) = self.backward(gradient, output, log_probs, targets)
        assert by_input is not None
        samples = self._add_sample_axis(by_input) / np.reshape(self._get_sample_factors(states), (-1, 1))
        return samples.astype(by_input.dtype).reshape(by_input.shape), None

    def torch_forward(self, torch: Any, log_probs: Any, targets: Any) -> Any:
        # PyTorch's derivative takes normalised probabilities for granted. An alignment has one class for each time, so
        # that the loss of any x is that of log_softmax(x), less the sum of what log_softmax subtracts.
        x = widen_half(torch, log_probs)
        x = x if x.ndim == 3 else x[:, None]
        input_lengths, target_lengths = (torch.tensor(lengths) for lengths in self._list_lengths())
        labels = targets if targets.ndim == 2 or log_probs.ndim == 3 else targets[None]
        losses = torch.nn.functional.ctc_loss(
            torch.log_softmax(x, -1), labels, input_lengths, target_lengths, self.blank, "none", self.zero_infinity
        )
        divisors = torch.logsumexp(x, -1)
        is_counted = torch.arange(len(x))[:, None] < input_lengths
        offsets = torch.where(is_counted, divisors, torch.zeros_like(divisors)).sum(0)
        losses = torch.where(losses == 0, losses, losses - offsets) if self.zero_infinity else losses - offsets
        if self.reduction == "mean":
            losses = losses / target_lengths.clamp(min=1)
        losses = losses if log_probs.ndim == 3 else losses[0]
        return reduce_by_torch(self.reduction, losses).to(log_probs.dtype)


def _shift(array: Array, step: int) -> Array:
    """Return an array moved along its last axis, with minus infinity coming in."""
    moved = np.full_like(array, -np.inf)
    if abs(step) < array.shape[-1]:
        target, source = (
            (slice(step, None), slice(None, -step)) if step > 0 else (slice(None, step), slice(-step, None))
        )
        moved[..., target] = array[..., source]
    return moved


def _join(*logarithms: Array) -> Array:
    """Return the logarithm of a sum, given those of its terms, minus infinity for 0."""
    return reduce(_join_pair, logarithms)


def _join_pair(first: Array, second: Array) -> Array:
    if first.dtype.kind != "c":
        return np.logaddexp(first, second)
    largest = np.maximum(np.real(first), np.real(second))
    largest = np.where(np.isneginf(largest), 0, largest)
    with np.errstate(divide="ignore"):
        return largest + np.log(np.exp(first - largest) + np.exp(second - largest))
