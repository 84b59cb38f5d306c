"""What a bug would have made of a gradient, and whether that is what the client sent.

Analysis by synthesis. A hypothesis h explains a candidate c, where the right gradient is g, if

- it matches:           norm(c - h) <= tau (norm(h) + norm(g)), tau from the candidate's arithmetic;
- it is identifiable:   norm(c - h) <= norm(h - g) / 100, so that it explains what is wrong and not only what is right,
                        and norm(c - h) <= norm(h) / 100, so that it explains c and not only that c is small
                        (of bfloat16 a 32nd, which is 8 of its roundings);
- it is no chance:      the digits of c - g that it predicts, summed over the elements, less those that its fitted
                        constants could have had for nothing, are 14 or more.

The digits of an element are log10(abs(h - g) / abs(c - h)), from 0 to 16, or to 1 where h is 0: an element that is
right either way, or that does not fit, says nothing. One element does in float64, two in float32, four in float16.
Where the same mistake, with the same constants, explains several tensors, their digits count together.
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
"""Of the right gradient: what rounding may leave of nothing."""
_CANDIDATE_ROUNDINGS = 8
"""Of the candidate's arithmetic: so much a correct pass may well be off, in bfloat16 more than a hundredth."""
_MAX_DIGITS_PER_ELEMENT = 16.0
_MAX_DIGITS_OF_ZERO = 1.0
_CANCELLED_FRACTION = 1e-12
"""Of the right gradient: what is left where all of it was to cancel."""
_MIN_FIT_TOLERANCE = 1e-6
_FIT_TOLERANCE_ROUNDINGS = 16


@dataclass(frozen=True)
class BugHypothesis:
    """What one mistake would have made of one gradient.

    Attributes
    ----------
    fault
        Name of the mistake.
    gradient
        What it makes.
    explanation
        A sentence or two; where there is a story, or something is said otherwise, how it begins.
    constants
        How many numbers were fitted to the candidate.
    key
        The same for the same mistake in other tensors; nothing but the fault by default.
    seen
        What of the candidate it is held against, where that is not the candidate itself.
    evidence
        Digits, where it is known to fit, and they do not follow from the gradient.
    story
        A clause that says what may have been done: what it makes is proven, and not that it was done.
    otherwise
        How the sentence ends where no story is told.
    spared
        What the story would change as well, as it stands in a sentence, and what came is not changed.
    """

    bug_name: str
    gradient: Array
    explanation: str
    fitted_constants: int = 0
    bug_key: Hashable = None
    compared_gradient: Array | None = None
    known_digits: float | None = None
    possible_action: str | None = None
    fallback_ending: str = ""
    unchanged_gradients: tuple[str, ...] = ()


@dataclass(frozen=True)
class HypothesisMatch:
    """A hypothesis that fits, with norm(c - h) / (norm(h) + norm(g)) and the digits that it predicts."""

    hypothesis: BugHypothesis
    relative_residual: float
    predicted_digits: float

    @property
    def bug_key(self) -> Hashable:
        """The same for the same mistake in other tensors."""
        return self.hypothesis.bug_name, self.hypothesis.bug_key


def is_beyond_chance(digits: float) -> bool:
    """Whether so many digits are no chance."""
    return digits >= _MIN_DIGITS


def fit_tolerance(precision: Precision) -> float:
    """Tau: what norm(c - h) may be of norm(h) + norm(g)."""
    return max(_MIN_FIT_TOLERANCE, _FIT_TOLERANCE_ROUNDINGS * precision.unit_roundoff, precision.detectable_error / 100)


class CandidateMatcher:
    """What hypotheses are held against: one candidate, of one tensor.

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
        # So that squares stay in range.
        largest = max(float(np.max(np.abs(each), initial=0)) for each in (candidate, right))
        self._unit = largest if 0 < largest < np.inf else 1.0
        self._candidate, self._right = candidate / self._unit, right / self._unit
        self._right_norm = _euclidean_norm(self._right)

    def may_match(self, gradients: Array) -> Array:
        """Which of several gradients, (K, ...) of the candidate's shape, may match at all, (K,)."""
        rows = gradients.reshape(len(gradients), -1) / self._unit
        off = rows - self._candidate.ravel()
        distances, sizes = (np.sqrt(np.einsum("ij,ij->i", each, each)) for each in (off, rows))
        near: Array = distances <= self._fit_tolerance * (sizes + self._right_norm)
        return near

    def match_hypothesis(self, hypothesis: BugHypothesis) -> HypothesisMatch | None:
        """Hold a hypothesis against the candidate; None where it does not fit."""
        made = hypothesis.gradient / self._unit
        seen = self._candidate if hypothesis.compared_gradient is None else hypothesis.compared_gradient / self._unit
        if hypothesis.known_digits is not None:
            return HypothesisMatch(hypothesis, 0.0, hypothesis.known_digits)
        if made.shape != seen.shape:
            return None
        off = seen - made
        distance, sizes = _euclidean_norm(off), _euclidean_norm(made) + self._right_norm
        if not distance <= self._fit_tolerance * sizes:
            return None
        # Of another shape, or seen through a sum, everything that it predicts is news.
        news = made - self._right if self._right.shape == made.shape and hypothesis.compared_gradient is None else made
        if not news.any() or distance > _euclidean_norm(news) / self._min_signal_ratio:
            return None
        # Of what is small beside g everything small says the same: it has to be what was sent, too.
        size = _euclidean_norm(made)
        if distance > (
            size / self._min_signal_ratio
            if size > _CANCELLED_FRACTION * self._right_norm
            else self._residue * self._right_norm
        ):
            return None
        return HypothesisMatch(
            hypothesis,
            distance / sizes,
            _count_predicted_digits(np.abs(off), np.abs(news), made, hypothesis.fitted_constants),
        )


def _count_predicted_digits(residual: Array, predicted_change: Array, predicted: Array, constants: int) -> float:
    least = np.maximum(residual, np.abs(predicted) * 10.0**-_MAX_DIGITS_PER_ELEMENT)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = np.where(predicted_change > 0, np.log10(predicted_change / least), 0)
    # Wrong elements are 0 often enough, whatever made them so.
    most = np.where(
        np.abs(predicted) <= _CANCELLED_FRACTION * predicted_change, _MAX_DIGITS_OF_ZERO, _MAX_DIGITS_PER_ELEMENT
    )
    digits = np.clip(np.nan_to_num(digits, nan=0.0, posinf=_MAX_DIGITS_PER_ELEMENT), 0, most).ravel()
    if constants >= digits.size:
        return 0.0
    return float(np.sort(digits)[: digits.size - constants].sum())


def _euclidean_norm(array: Array) -> float:
    flat = array.ravel()
    return math.sqrt(flat @ flat)
