"""The verdict on a candidate from losses at the points of a plan.

Each line compares the candidate with the extrapolated difference (central_derivatives.py). Its allowance stands in
allowance.py, and the decision from both in line_comparison.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.blackbox import miss_probability, taylor
from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.consistent_lines import reconcile_tensors
from service.numerics.blackbox.constant_factor import diagnose_factor
from service.numerics.blackbox.function_differences import difference_functions, scale_derivatives
from service.numerics.blackbox.layout import EvaluationLayout
from service.numerics.blackbox.line_comparison import LineComparison, compare_candidate
from service.numerics.blackbox.lines import TensorLines
from service.numerics.blackbox.noise import LossNoise, find_loss_format
from service.numerics.blackbox.taylor import TaylorRemainder
from service.numerics.blackbox.tensor_verdict import make_verdict
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.precision import Precision
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.reference import Tolerance

DerivativeTightener = Callable[[str, DirectionalDerivatives], DirectionalDerivatives]
"""Returns derivatives of a tensor, by name, with tighter bounds, given those of the loss."""


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
    tighten: DerivativeTightener | None = None,
    part_deviation: float = 0.0,
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
    tighten
        Tightens the bounds of a tensor's derivatives if not all of its lines pass; None by default.
    part_deviation
        Standard deviation that the rounding of its parts leaves in a loss that is their sum; 0 by default.

    Returns
    -------
    tuple
        The noise of the loss, where it is largest, and the verdicts by name.
    """
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.abs(losses).max(initial=0.0, where=np.isfinite(losses)))
        scaled_losses = np.ldexp(losses, -exponent)
        loss_format = replace(
            find_loss_format(scaled_losses, int(exponent)), part_deviation=float(np.ldexp(part_deviation, -exponent))
        )
        noise_by_name: dict[str, LossNoise] = {}
        derivatives_by_name: dict[str, DirectionalDerivatives] = {}
        for name in iterate_interruptibly(layout.points):
            noise_by_name[name], derivatives_by_name[name] = difference_functions(
                layout, name, scaled_losses, loss_format
            )
        reconciled = reconcile_tensors(layout, scaled_losses, noise_by_name, derivatives_by_name)
        effects = {name: _measure_certain_effect(layout.lines[name], reconciled[name]) for name in layout.points}
        judgements = {
            name: _judge_tensor(
                _TensorCandidate(
                    layout,
                    name,
                    candidates[name],
                    precisions[name],
                    sought_error,
                    tolerance,
                    tighten,
                    float(np.ldexp(max((effects[other] for other in effects if other != name), default=0.0), exponent)),
                ),
                scaled_losses,
                noise_by_name[name],
                reconciled[name],
                int(exponent),
            )
            for name in iterate_interruptibly(layout.points)
        }
        return max(
            (judgement.noise for judgement in judgements.values()), key=lambda noise: noise.largest_deviation
        ), judgements


def _measure_certain_effect(lines: TensorLines, derivatives: DirectionalDerivatives) -> float:
    """Return the most that moving the tensor changes the loss by for certain, to the first order."""
    effects = (np.abs(derivatives.value) - derivatives.bound) * np.abs(lines.derivative_units)
    return float(effects.max(initial=0.0, where=np.isfinite(effects)))


@dataclass(frozen=True)
class _TensorCandidate:
    """One tensor's candidate, and how it is to be judged.

    The other effect is the largest certain one of another tensor on the loss.
    """

    layout: EvaluationLayout
    name: str
    candidate: Array
    precision: Precision
    sought_error: float
    tolerance: Tolerance | None
    tighten: DerivativeTightener | None
    other_effect: float

    @property
    def gradient(self) -> Array:
        """The candidate in units of the moves, float64, (n,)."""
        lines = self.layout.lines[self.name]
        return self.candidate.astype(np.float64).ravel() * lines.direction_weights

    def compare_derivatives(self, reference: DirectionalDerivatives) -> LineComparison:
        """Hold the candidate against derivatives, with tighter bounds if those may decide more."""
        lines, point = self.layout.lines[self.name], self.layout.points[self.name]

        def compare_with(derivatives: DirectionalDerivatives) -> LineComparison:
            return compare_candidate(
                lines, point, self.gradient, derivatives, self.precision, self.tolerance, self.other_effect
            )

        comparison = compare_with(reference)
        if self.tighten is None or all(outcome == Outcome.PASS for outcome in comparison.line_outcomes):
            return comparison
        return compare_with(self.tighten(self.name, reference))


def _judge_tensor(
    tensor: _TensorCandidate,
    losses: Array,
    noise: LossNoise,
    scaled_derivatives: DirectionalDerivatives,
    exponent: int,
) -> TensorJudgement:
    lines, point = tensor.layout.lines[tensor.name], tensor.layout.points[tensor.name]
    comparison = tensor.compare_derivatives(scale_derivatives(scaled_derivatives, exponent))
    gradient, reference = tensor.gradient, comparison.reference
    verdict, directions = make_verdict(lines, point, comparison, gradient, deterministic=bool(noise.is_deterministic))
    has_failed = verdict.outcome == Outcome.FAIL
    return TensorJudgement(
        verdict,
        directions,
        np.array([result.outcome == Outcome.PASS for result in directions]) & ~comparison.is_negligible,
        _compute_single_miss_probability(lines, comparison, gradient, tensor.sought_error),
        _test_remainder(tensor, losses, noise, scaled_derivatives, comparison, exponent),
        diagnose_factor(reference.value, comparison.candidate_derivatives, comparison.allowance.allowed_error)
        if has_failed
        else None,
        noise.scale_by_exponent(exponent),
    )


def _test_remainder(
    tensor: _TensorCandidate,
    losses: Array,
    noise: LossNoise,
    scaled_derivatives: DirectionalDerivatives,
    comparison: LineComparison,
    exponent: int,
) -> TaylorRemainder:
    """Run the remainder test along the line with the largest error of the candidate."""
    lines, worst_line = tensor.layout.lines[tensor.name], int(comparison.error_ratios.argmax())
    steps = tensor.layout.list_step_offsets(tensor.name)[worst_line, :, 0]
    plus = tensor.layout.select_tensor_losses(tensor.name, losses)[worst_line, :, 0]
    predicted_change = np.ldexp(
        comparison.candidate_derivatives[worst_line] * lines.derivative_units[worst_line], -exponent
    )
    # The base may lie off the line by a rounding, of which the loss takes its part.
    displacement_errors = lines.moves.displacement[worst_line] * np.abs(
        scaled_derivatives.value[worst_line] * lines.derivative_units[worst_line]
    )
    deviations = noise.compute_proportional_deviation(np.abs(plus[None]))[0]
    remainders, convergence_order = taylor.compute_remainders(
        worst_line,
        plus - losses[0],
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
