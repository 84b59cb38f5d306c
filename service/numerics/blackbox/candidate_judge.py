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
        scaled_losses = np.ldexp(losses, -exponent)
        loss_format = find_loss_format(scaled_losses[np.isfinite(scaled_losses)])
        judgements = {
            name: _judge_tensor(
                _TensorCandidate(layout, name, candidates[name], precisions[name], sought_error, tolerance),
                scaled_losses,
                loss_format,
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
    tensor_losses, near_losses = (
        tensor.layout.select_tensor_losses(tensor.name, losses),
        tensor.layout.select_near_losses(tensor.name, losses),
    )
    noise = estimate_partial_noise(losses[:BASE_REPEATS], near_losses, loss_format)
    scaled_derivatives = difference_lines(tensor.layout, tensor.name, tensor_losses, float(losses[0]), noise)
    if _is_staircase(tensor, near_losses, tensor_losses, noise):
        scaled_derivatives = replace(scaled_derivatives, loss_shape=np.full(len(lines), LossShape.STAIRS))
    reference = _scale_derivatives(scaled_derivatives, exponent)
    gradient = tensor.candidate.astype(np.float64).ravel() * lines.direction_weights
    comparison = compare_candidate(lines, point, gradient, reference, tensor.precision, tensor.tolerance)
    verdict, directions = make_verdict(lines, point, comparison, gradient, deterministic=noise.is_deterministic)
    has_failed = verdict.outcome == Outcome.FAIL
    return TensorJudgement(
        verdict,
        directions,
        np.array([result.outcome == Outcome.PASS for result in directions]) & ~comparison.is_negligible,
        _compute_single_miss_probability(lines, comparison, gradient, tensor.sought_error),
        _test_remainder(tensor, tensor_losses, float(losses[0]), noise, scaled_derivatives, comparison, exponent),
        diagnose_factor(reference.value, comparison.candidate_derivatives, comparison.allowance.allowed_error)
        if has_failed
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
    lines, worst_line = tensor.layout.lines[tensor.name], int(comparison.error_ratios.argmax())
    steps = tensor.layout.list_step_offsets(tensor.name)[worst_line, :, 0]
    predicted_change = np.ldexp(
        comparison.candidate_derivatives[worst_line] * lines.derivative_units[worst_line], -exponent
    )
    # The base may lie off the line by a rounding, of which the loss takes its part.
    displacement_errors = lines.moves.displacement[worst_line] * np.abs(
        scaled_derivatives.value[worst_line] * lines.derivative_units[worst_line]
    )
    deviations = noise.compute_proportional_deviation(np.abs(losses[worst_line, :, 0]))
    remainders, convergence_order = taylor.compute_remainders(
        worst_line,
        losses[worst_line, :, 0] - base,
        steps,
        predicted_change,
        deviations * np.sqrt(2) + displacement_errors,
    )
    fit = taylor.fit_intercept_and_factor(
        float(comparison.reference.value[worst_line]), float(comparison.candidate_derivatives[worst_line])
    )
    return TaylorRemainder(worst_line, steps, np.ldexp(remainders, exponent), convergence_order, *fit)


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
