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

from service.numerics.precision import Precision
from service.numerics.tiles import Array

_ENOUGH = 14.0
_IDENTIFIABLE = 100.0
_LEAST_RESIDUE = 1e-10
"""Of the right gradient: what rounding may leave of nothing."""
_ROUNDINGS = 8
"""Of the candidate's arithmetic: so much a correct pass may well be off, in bfloat16 more than a hundredth."""
_MOST_DIGITS = 16.0
_DIGITS_OF_ZERO = 1.0
_NOTHING = 1e-12
"""Of the right gradient: what is left where all of it was to cancel."""
_LEAST_FIT = 1e-6
_FIT_IN_ROUNDINGS = 16


@dataclass(frozen=True)
class Hypothesis:
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

    fault: str
    gradient: Array
    explanation: str
    constants: int = 0
    key: Hashable = None
    seen: Array | None = None
    evidence: float | None = None
    story: str | None = None
    otherwise: str = ""
    spared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """A hypothesis that fits, with norm(c - h) / (norm(h) + norm(g)) and the digits that it predicts."""

    hypothesis: Hypothesis
    fit: float
    digits: float

    @property
    def key(self) -> Hashable:
        """The same for the same mistake in other tensors."""
        return self.hypothesis.fault, self.hypothesis.key


def enough(digits: float) -> bool:
    """Whether so many digits are no chance."""
    return digits >= _ENOUGH


def loosest_fit(precision: Precision) -> float:
    """Tau: what norm(c - h) may be of norm(h) + norm(g)."""
    return max(_LEAST_FIT, _FIT_IN_ROUNDINGS * precision.unit_roundoff, precision.detects / 100)


class Target:
    """What hypotheses are held against: one candidate, of one tensor.

    Parameters
    ----------
    candidate, right
        The client's gradient and the right one, which may be of another shape.
    precision
        The candidate's arithmetic.
    """

    def __init__(self, candidate: Array, right: Array, precision: Precision) -> None:
        self._fit = loosest_fit(precision)
        self._residue = max(_LEAST_RESIDUE, _ROUNDINGS * precision.unit_roundoff / 2)
        self._explains = min(_IDENTIFIABLE, 1 / (_ROUNDINGS * precision.unit_roundoff))
        # So that squares stay in range.
        largest = max(float(np.max(np.abs(each), initial=0)) for each in (candidate, right))
        self._unit = largest if 0 < largest < np.inf else 1.0
        self._seen, self._right = candidate / self._unit, right / self._unit
        self._size = _norm(self._right)

    def near(self, made: Array) -> Array:
        """Which of several gradients, (K, ...) of the candidate's shape, may match at all, (K,)."""
        rows = made.reshape(len(made), -1) / self._unit
        off = rows - self._seen.ravel()
        distances, sizes = (np.sqrt(np.einsum("ij,ij->i", each, each)) for each in (off, rows))
        near: Array = distances <= self._fit * (sizes + self._size)
        return near

    def match(self, hypothesis: Hypothesis) -> Match | None:
        """Hold a hypothesis against the candidate; None where it does not fit."""
        made = hypothesis.gradient / self._unit
        seen = self._seen if hypothesis.seen is None else hypothesis.seen / self._unit
        if hypothesis.evidence is not None:
            return Match(hypothesis, 0.0, hypothesis.evidence)
        if made.shape != seen.shape:
            return None
        off = seen - made
        distance, sizes = _norm(off), _norm(made) + self._size
        if not distance <= self._fit * sizes:
            return None
        # Of another shape, or seen through a sum, everything that it predicts is news.
        news = made - self._right if self._right.shape == made.shape and hypothesis.seen is None else made
        if not news.any() or distance > _norm(news) / self._explains:
            return None
        # Of what is small beside g everything small says the same: it has to be what was sent, too.
        size = _norm(made)
        if distance > (size / self._explains if size > _NOTHING * self._size else self._residue * self._size):
            return None
        return Match(hypothesis, distance / sizes, _digits(np.abs(off), np.abs(news), made, hypothesis.constants))


def _digits(off: Array, news: Array, made: Array, constants: int) -> float:
    least = np.maximum(off, np.abs(made) * 10.0**-_MOST_DIGITS)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = np.where(news > 0, np.log10(news / least), 0)
    # Wrong elements are 0 often enough, whatever made them so.
    most = np.where(np.abs(made) <= _NOTHING * news, _DIGITS_OF_ZERO, _MOST_DIGITS)
    digits = np.clip(np.nan_to_num(digits, nan=0.0, posinf=_MOST_DIGITS), 0, most).ravel()
    if constants >= digits.size:
        return 0.0
    return float(np.sort(digits)[: digits.size - constants].sum())


def _norm(array: Array) -> float:
    flat = array.ravel()
    return math.sqrt(flat @ flat)
