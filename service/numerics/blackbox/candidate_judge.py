"""The verdict on a candidate from losses at the points of a plan.

Each line compares the candidate with the extrapolated difference (central_derivatives.py). Its allowance stands in
allowance.py, and the decision from both in line_comparison.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.blackbox import miss_probability, taylor
from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.constant_factor import diagnose_factor
from service.numerics.blackbox.incomplete_lines import estimate_partial_noise
from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout
from service.numerics.blackbox.line_comparison import LineComparison, compare_candidate
from service.numerics.blackbox.line_derivatives import difference_lines
from service.numerics.blackbox.lines import TensorLines
from service.numerics.blackbox.noise import LossFormat, LossNoise, find_loss_format
from service.numerics.blackbox.staircase import is_staircase
from service.numerics.blackbox.taylor import TaylorRemainder
from service.numerics.blackbox.tensor_verdict import make_verdict
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.precision import Precision
from service.numerics.diagnosis import BugExplanation
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import euclidean_norm
from service.numerics.verdict.reference import Tolerance


@dataclass(frozen=True)
class TensorJudgement:
    """The judgement on one tensor's candidate.

    Attributes
    ----------
    verdict
        Verdict along random directions, or by element, as that of a check.
    direction_results
        Result of every line, in order, with the index of its element, or of itself.
    is_promised
        Mask of the passing lines that `smallest_detectable_error` covers, (k,).
    single_miss_probability
        Probability that a single element passed with the sought relative error.
    remainder_test
        Remainder test along the line with the largest error.
    diagnosis
        Constant factor that explains a failing candidate; None if there is none.
    noise
        Noise of the loss near the base, with this tensor moved.
    """

    verdict: GradientVerdict
    direction_results: tuple[ElementResult, ...]
    is_promised: Array
    single_miss_probability: float
    remainder_test: TaylorRemainder
    diagnosis: BugExplanation | None
    noise: LossNoise


def judge_candidates(
    layout: EvaluationLayout,
    losses: Array,
    candidates: Mapping[str, Array],
    precisions: Mapping[str, Precision],
    sought_error: float,
    tolerance: Tolerance | None = None,
) -> tuple[LossNoise, dict[str, TensorJudgement]]:
    """Judge candidates.

    Parameters
    ----------
    layout
        Points of the evaluations.
    losses
        Losses, finite at the base and NaN at points without a value, (evaluations,).
    candidates, precisions
        Candidate gradients and the arithmetics that computed them, by the name of the tensor.
    sought_error
        Relative error of one element, for `single_miss_probability`.
    tolerance
        Tolerance that replaces the allowance of a candidate; None by default.

    Returns
    -------
    tuple
        The noise of the loss, where it is largest, and the verdicts by name.
    """
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.abs(losses).max(initial=0.0, where=np.isfinite(losses)))
        small = np.ldexp(losses, -exponent)
        form = find_loss_format(small[np.isfinite(small)])
        judgements = {
            name: _judge_tensor(
                _TensorCandidate(layout, name, candidates[name], precisions[name], sought_error, tolerance),
                small,
                form,
                int(exponent),
            )
            for name in iterate_interruptibly(layout.points)
        }
        return max(
            (judgement.noise for judgement in judgements.values()), key=lambda noise: noise.largest_deviation
        ), judgements


@dataclass(frozen=True)
class _TensorCandidate:
    """One tensor's candidate, and how it is to be judged."""

    layout: EvaluationLayout
    name: str
    candidate: Array
    precision: Precision
    sought_error: float
    tolerance: Tolerance | None


def _judge_tensor(tensor: _TensorCandidate, losses: Array, loss_format: LossFormat, exponent: int) -> TensorJudgement:
    lines, point = tensor.layout.lines[tensor.name], tensor.layout.points[tensor.name]
    tensor_losses, near = (
        tensor.layout.tensor_losses(tensor.name, losses),
        tensor.layout.near_losses(tensor.name, losses),
    )
    noise = estimate_partial_noise(losses[:BASE_REPEATS], near, loss_format)
    small = difference_lines(tensor.layout, tensor.name, tensor_losses, float(losses[0]), noise)
    if _is_staircase(tensor, near, tensor_losses, noise):
        small = replace(small, loss_shape=np.full(len(lines), LossShape.STAIRS))
    reference = _scale_derivatives(small, exponent)
    gradient = tensor.candidate.astype(np.float64).ravel() * lines.direction_weights
    comparison = compare_candidate(lines, point, gradient, reference, tensor.precision, tensor.tolerance)
    judged, directions = make_verdict(lines, point, comparison, gradient, deterministic=noise.is_deterministic)
    failed = judged.outcome == Outcome.FAIL
    return TensorJudgement(
        judged,
        directions,
        np.array([result.outcome == Outcome.PASS for result in directions]) & ~comparison.is_negligible,
        _compute_single_miss_probability(lines, comparison, gradient, tensor.sought_error),
        _test_remainder(tensor, tensor_losses, float(losses[0]), noise, small, comparison, exponent),
        diagnose_factor(reference.value, comparison.candidate_derivatives, comparison.allowance.allowed_error)
        if failed
        else None,
        noise.scale_by_exponent(exponent),
    )


def _is_staircase(tensor: _TensorCandidate, near_losses: Array, tensor_losses: Array, noise: LossNoise) -> bool:
    """Return whether the loss is a staircase where the tensor moves."""
    point, lines = tensor.layout.points[tensor.name], tensor.layout.lines[tensor.name]
    changes = np.abs(tensor_losses[:, 0, 0] - tensor_losses[:, 0, 1])
    changes = changes[np.isfinite(changes)] / (2 * point.schedule.steps[0])
    slope = float(euclidean_norm(changes)) / (np.sqrt(len(lines)) if lines.moved_elements is None else 1.0)
    spacings = (
        2.0
        ** -np.array([*point.schedule.near_exponents, point.schedule.near_exponents[0]], np.float64)[: len(near_losses)]
    )
    return is_staircase(near_losses, spacings, slope, noise.format_roundoff)


def _scale_derivatives(derivatives: DirectionalDerivatives, exponent: int) -> DirectionalDerivatives:
    """Return the derivatives of a loss 2^exponent times as large."""
    names = ("value", "bound", "deviation", "curvature", "base_magnitude", "loss_magnitude", "resolution")
    return replace(derivatives, **{name: np.ldexp(getattr(derivatives, name), exponent) for name in names})


def _test_remainder(
    tensor: _TensorCandidate,
    losses: Array,
    base: float,
    noise: LossNoise,
    scaled_derivatives: DirectionalDerivatives,
    comparison: LineComparison,
    exponent: int,
) -> TaylorRemainder:
    """Run the remainder test along the line with the largest error of the candidate."""
    lines, worst = tensor.layout.lines[tensor.name], int(comparison.error_ratios.argmax())
    steps = tensor.layout.step_offsets(tensor.name)[worst, :, 0]
    explained = np.ldexp(comparison.candidate_derivatives[worst] * lines.derivative_units[worst], -exponent)
    # The base may lie off the line by a rounding, of which the loss takes its part.
    off = lines.moves.displacement[worst] * np.abs(scaled_derivatives.value[worst] * lines.derivative_units[worst])
    deviations = noise.grown_deviation(np.abs(losses[worst, :, 0]))
    left, slope = taylor.compute_remainders(
        worst, losses[worst, :, 0] - base, steps, explained, deviations * np.sqrt(2) + off
    )
    growing = taylor.fit_intercept_and_factor(
        float(comparison.reference.value[worst]), float(comparison.candidate_derivatives[worst])
    )
    return TaylorRemainder(worst, steps, np.ldexp(left, exponent), slope, *growing)


def _compute_single_miss_probability(
    lines: TensorLines, comparison: LineComparison, gradient: Array, sought_error: float
) -> float:
    finite = np.where(np.isfinite(gradient), gradient, 0.0)
    deviation = np.where(np.isfinite(comparison.reference.deviation), comparison.reference.deviation, 0.0)
    if lines.moved_elements is None:
        return miss_probability.compute_random_miss_probability(
            finite, comparison.unnoticed_error, deviation, lines.moves.coarseness, sought_error
        )
    return miss_probability.compute_element_miss_probability(
        finite, lines.moved_elements, comparison.unnoticed_error, deviation, sought_error
    )
