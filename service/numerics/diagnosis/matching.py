"""Simulated gradients of bugs, compared with the candidate.

Analysis by synthesis. A hypothesis h explains a candidate c of the right gradient g if

- it matches:           norm(c - h) <= tau (norm(h) + norm(g)), tau from the candidate's arithmetic;
- it is identifiable:   norm(c - h) <= norm(h - g) / 100, so that it explains the error and not only the right part,
                        and norm(c - h) <= norm(h) / 100, so that it explains c and not only that c is small
                        (for bfloat16 a 32nd, which is 8 of its roundings);
- it is no chance:      the digits of c - g that it predicts, summed over the elements, less those that its fitted
                        constants could have had for nothing, are 14 or more.

The digits of an element are log10(abs(h - g) / abs(c - h)), from 0 to 16, or to 1 if h is 0: an element that is right
either way, or that does not fit, says nothing. One element suffices in float64, two in float32, four in float16. If the
same bug, with the same constants, explains several tensors, their digits count together.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision

_MIN_DIGITS = 14.0
_MIN_SIGNAL_TO_RESIDUAL = 100.0
_MIN_RESIDUE = 1e-10
"""Part of the right gradient that rounding may leave of a zero."""
_CANDIDATE_ROUNDINGS = 8
"""Roundings of the candidate's arithmetic by which a correct pass may well be off, in bfloat16 over a hundredth."""
_MAX_DIGITS_PER_ELEMENT = 16.0
_MAX_DIGITS_OF_ZERO = 1.0
_CANCELLED_FRACTION = 1e-12
"""Part of the right gradient that is left after it cancelled."""
_MIN_FIT_TOLERANCE = 1e-6
_FIT_TOLERANCE_ROUNDINGS = 16


@dataclass(frozen=True)
class BugHypothesis:
    """The gradient that one bug would have made.

    Attributes
    ----------
    bug_name
        Name of the bug.
    gradient
        Wrong gradient that the bug makes.
    explanation
        A sentence or two; with a fallback ending, the clause before its colon; empty by default, beside an action.
    fitted_constants
        Number of constants that were fitted to the candidate, 0 by default.
    bug_key
        Key that is equal for the same bug in other tensors; by default the bug's name alone counts.
    compared_gradient
        Array made from the candidate to compare with the gradient; the candidate itself by default.
    known_digits
        Predicted digits of a hypothesis that is known to fit, if they do not follow from the gradient.
    possible_action
        Clause in the past tense for what may have been done. A match proves its result, and not that it was done.
    fallback_ending
        End of the sentence, after the colon, if no action explains the gradient.
    unchanged_gradients
        Gradients, in words, that the action would change as well, and whose candidates do not show it.
    """

    bug_name: str
    gradient: Array
    explanation: str = ""
    fitted_constants: int = 0
    bug_key: Hashable = None
    compared_gradient: Array | None = None
    known_digits: float | None = None
    possible_action: str | None = None
    fallback_ending: str = ""
    unchanged_gradients: tuple[str, ...] = ()


@dataclass(frozen=True)
class HypothesisMatch:
    """A hypothesis that fits.

    The relative residual is norm(c - h) / (norm(h) + norm(g)).
    """

    hypothesis: BugHypothesis
    relative_residual: float
    predicted_digits: float

    @property
    def bug_key(self) -> Hashable:
        """Return a key that is equal for the same bug in other tensors."""
        return self.hypothesis.bug_name, self.hypothesis.bug_key


def is_beyond_chance(digits: float) -> bool:
    """Tell whether a number of predicted digits is no chance."""
    return digits >= _MIN_DIGITS


def fit_tolerance(precision: Precision) -> float:
    """Return tau, the largest norm(c - h) / (norm(h) + norm(g)) of a match."""
    return max(_MIN_FIT_TOLERANCE, _FIT_TOLERANCE_ROUNDINGS * precision.unit_roundoff, precision.detectable_error / 100)


class CandidateMatcher:
    """A matcher of hypotheses with the candidate of one tensor.

    Parameters
    ----------
    candidate, right
        The client's gradient and the right one, which may be of another shape.
    precision
        The candidate's arithmetic.
    """

    def __init__(self, candidate: Array, right: Array, precision: Precision) -> None:
        self._fit_tolerance = fit_tolerance(precision)
        self._residue = max(_MIN_RESIDUE, _CANDIDATE_ROUNDINGS * precision.unit_roundoff / 2)
        self._min_signal_ratio = min(_MIN_SIGNAL_TO_RESIDUAL, 1 / (_CANDIDATE_ROUNDINGS * precision.unit_roundoff))
        # The unit keeps squares in range, beside infinities too.
        self._unit = max(_find_largest_finite(array) for array in (candidate, right)) or 1.0
        self._candidate, self._right = candidate / self._unit, right / self._unit
        self._right_norm = _compute_euclidean_norm(self._right)

    def may_match(self, gradients: Array) -> Array:
        """Tell which gradients, shape (K, ...), may match the candidate, shape (K,)."""
        rows = gradients.reshape(len(gradients), -1) / self._unit
        differences = rows - self._candidate.ravel()
        distances, sizes = (np.sqrt(np.einsum("ij,ij->i", array, array)) for array in (differences, rows))
        is_near: Array = distances <= self._fit_tolerance * (sizes + self._right_norm)
        return is_near

    def match_hypothesis(self, hypothesis: BugHypothesis) -> HypothesisMatch | None:
        """Compare a hypothesis with the candidate; return None if it does not fit."""
        predicted = hypothesis.gradient / self._unit
        summed = hypothesis.compared_gradient is not None
        compared = (
            self._candidate if hypothesis.compared_gradient is None else hypothesis.compared_gradient / self._unit
        )
        if hypothesis.known_digits is not None:
            return HypothesisMatch(hypothesis, 0.0, hypothesis.known_digits)
        if predicted.shape != compared.shape:
            return None
        residual = compared - predicted
        distance, sizes = _compute_euclidean_norm(residual), _compute_euclidean_norm(predicted) + self._right_norm
        # A prediction far above the unit has no norm, and fits nothing.
        if not distance <= self._fit_tolerance * sizes < math.inf:
            return None
        # In another shape, or through a sum, the whole prediction is a change.
        change = predicted - self._right if self._right.shape == predicted.shape and not summed else predicted
        if not change.any() or distance > _compute_euclidean_norm(change) / self._min_signal_ratio:
            return None
        # A prediction that is small beside g matches everything small: it has to match the candidate's own size, too.
        size = _compute_euclidean_norm(predicted)
        if distance > (
            size / self._min_signal_ratio
            if size > _CANCELLED_FRACTION * self._right_norm
            else self._residue * self._right_norm
        ):
            return None
        return HypothesisMatch(
            hypothesis,
            distance / sizes,
            _count_predicted_digits(np.abs(residual), np.abs(change), predicted, hypothesis.fitted_constants),
        )


def _count_predicted_digits(residual: Array, predicted_change: Array, predicted: Array, constants: int) -> float:
    min_residual = np.maximum(residual, np.abs(predicted) * 10.0**-_MAX_DIGITS_PER_ELEMENT)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = np.where(predicted_change > 0, np.log10(predicted_change / min_residual), 0)
    # Wrong elements are 0 often enough, from whatever bug.
    max_digits = np.where(
        np.abs(predicted) <= _CANCELLED_FRACTION * predicted_change, _MAX_DIGITS_OF_ZERO, _MAX_DIGITS_PER_ELEMENT
    )
    digits = np.clip(np.nan_to_num(digits, nan=0.0, posinf=_MAX_DIGITS_PER_ELEMENT), 0, max_digits).ravel()
    if constants >= digits.size:
        return 0.0
    return float(np.sort(digits)[: digits.size - constants].sum())


def _find_largest_finite(array: Array) -> float:
    return float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array)))


def _compute_euclidean_norm(array: Array) -> float:
    flat = array.ravel()
    return math.sqrt(flat @ flat)
