"""The verdict on a candidate from losses at the points of a plan.

Along a direction d the candidate c is judged by c . d against the extrapolated difference D. It may be off by the
bound of D and by what a correct backward pass in its arithmetic is off by. There is no graph from which to know that,
so it is stated: an error of norm UNITS u |c| / 6 at most, of which a Gaussian direction sees N(0, .) of that deviation,
and six deviations are allowed; of a single element, UNITS u (|c_i| + rms(c)); and what underflows. UNITS is 256 where
u <= 2^-24: 43 units, root mean square, are more than a sum of thousands of products is off by. Of the narrow
arithmetics, which accumulate in a wider one, it is 24.

A direction is inconclusive where it could not have told an error that must be found, k of `precision.py`: a random one
where more than k |c| / 2 is allowed (its own size is chance), one of an element where more than k |D| / 2 is, unless
that proves the element to be none that matters. There the loss is too noisy, or not smooth enough, for its differences
to be more than an indication: nothing is called wrong that is within four times what is allowed. Nor is it where there
may be a kink, of which no bound is known that holds beside noise; what is beyond what is allowed is inconclusive.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.blackbox import taylor, worth
from service.numerics.blackbox.difference import Along
from service.numerics.blackbox.factor import diagnosed
from service.numerics.blackbox.known import noise_of
from service.numerics.blackbox.layout import BEFORE, LINES, REPEATS, Layout, Lines
from service.numerics.blackbox.noise import Noise
from service.numerics.blackbox.remedies import remedy
from service.numerics.blackbox.schedule import NEAR
from service.numerics.blackbox.sided import along
from service.numerics.blackbox.taylor import Remainder
from service.numerics.faults import Diagnosis
from service.numerics.outcome import Cause, Outcome
from service.numerics.precision import PRECISIONS, Precision
from service.numerics.projection import inner, missed, norm
from service.numerics.reference import Tolerance
from service.numerics.tiles import Array
from service.numerics.verdict import MAX_WORST, Verdict, Worst, WrongElements, index_of

_WIDE = 24
_MARGIN = 4.0
_CAUSES: tuple[Cause, ...] = tuple(Cause)
_OUTCOMES = np.array([cause.outcome for cause in _CAUSES])


def units(precision: Precision) -> float:
    """Units of roundoff that a correct candidate may be off by."""
    return 256.0 if precision.digits >= _WIDE else 24.0


@dataclass(frozen=True)
class Judged:
    """What is to be thought of one tensor's candidate.

    Attributes
    ----------
    verdict
        As of a check; along random directions, or by element.
    directions
        All of them, in order; each has the index of its element, or of itself.
    single
        Probability that a single element, off by the part that was asked about, passed.
    """

    verdict: Verdict
    directions: tuple[Worst, ...]
    single: float
    taylor: Remainder
    diagnosis: Diagnosis | None


@dataclass(frozen=True)
class _Held:
    """A candidate held against differences, all (k,)."""

    reference: Along
    judged: Array
    allowed: Array
    enough: Array
    precision: Precision
    tolerated: bool = False

    @property
    def margin(self) -> Array:
        """Times what is allowed that is not called wrong, (k,)."""
        return np.where((self.allowed > self.enough) | self.reference.suspected, _MARGIN, 1.0)

    @property
    def causes(self) -> Array:
        """Positions in `Cause`; of several the last that is written counts."""
        with np.errstate(invalid="ignore"):
            off = np.abs(self.judged - self.reference.value)
            exceeds = ~(off <= self.margin * self.allowed)
        found = np.full(self.judged.shape, _CAUSES.index(Cause.AGREES))
        for mask, cause in (
            ((self.allowed > self.enough) | (off > self.allowed), Cause.TOO_UNCERTAIN),
            (exceeds, Cause.EXCEEDS),
            (self.reference.bound > self.allowed if self.tolerated else False, Cause.TOLERANCE_TOO_FINE),
            (~np.isfinite(self.judged), Cause.NOT_FINITE),
            (~np.isfinite(self.reference.value) | ~np.isfinite(self.allowed), Cause.NO_REFERENCE),
        ):
            found[mask] = _CAUSES.index(cause)
        return found


def judge(
    layout: Layout,
    losses: Array,
    candidates: Mapping[str, Array],
    precisions: Mapping[str, Precision],
    sought: float,
    tolerance: Tolerance | None = None,
) -> tuple[Noise, dict[str, Judged]]:
    """Judge candidates.

    Parameters
    ----------
    layout
        Where the loss was evaluated.
    losses
        Finite at the base; NaN where the loss has no value, (evaluations,).
    candidates, precisions
        Each tensor's, and the arithmetic it was computed in.
    sought
        Relative error of one element, of which the probability to have missed it is told.
    tolerance
        Replaces what a candidate may be off by, if given.

    Returns
    -------
    tuple
        The noise of the loss, and the verdicts by name.
    """
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.abs(losses).max(initial=0.0, where=np.isfinite(losses)))
        small = np.ldexp(losses, -exponent)
        lines = small[REPEATS:BEFORE].reshape(LINES, NEAR)
        noise = noise_of(small[:REPEATS], lines, small)
        found = {
            name: _tensor(
                layout, name, small, noise, candidates[name], precisions[name], sought, int(exponent), tolerance
            )
            for name in layout.points
        }
        unit = np.ldexp(1.0, exponent)
        return Noise(noise.deviation * unit, noise.most * unit, noise.size * unit, noise.exact), found


def _tensor(
    layout: Layout,
    name: str,
    losses: Array,
    noise: Noise,
    candidate: Array,
    precision: Precision,
    sought: float,
    exponent: int,
    tolerance: Tolerance | None,
) -> Judged:
    lines, own = layout.lines[name], layout.of(name, losses)
    found = along(layout, name, own, float(losses[0]), noise)
    value, bound, deviation = (np.ldexp(each, exponent) for each in (found.value, found.bound, found.deviation))
    reference = replace(found, value=value, bound=bound, deviation=deviation)
    gradient = candidate.astype(np.float64).ravel() * lines.weights
    held = _held(lines, gradient, reference, precision, tolerance)
    verdict, directions = _verdict(lines, held, gradient, candidate.shape, deterministic=noise.exact)
    worst = _worst_of(held)
    explained = np.ldexp(held.judged[worst] * lines.units[worst], -exponent)
    steps = layout.offsets(name)[worst, :, 0]
    # The base may lie off the line by a rounding, of which the loss takes its part.
    off = lines.moves.displaced[worst] * np.abs(found.value[worst] * lines.units[worst])
    left, slope = taylor.remainder(
        worst, own[worst, :, 0] - losses[0], steps, explained, noise.at(own)[worst] * np.sqrt(2) + off
    )
    growing = taylor.growing(float(reference.value[worst]), float(held.judged[worst]))
    failed = verdict.outcome == Outcome.FAIL
    return Judged(
        verdict,
        directions,
        _single(lines, held, gradient, sought),
        Remainder(worst, steps, np.ldexp(left, exponent), slope, *growing),
        diagnosed(reference.value, held.judged, held.allowed) if failed else None,
    )


def _held(
    lines: Lines, gradient: Array, reference: Along, precision: Precision, tolerance: Tolerance | None = None
) -> _Held:
    finite = np.where(np.isfinite(gradient), gradient, 0.0)
    size, off = norm(finite), units(precision) * precision.unit_roundoff
    if lines.elements is None:
        judged, rounded = inner(lines.directions, gradient)
        rounding = off * size + rounded + 6 * precision.smallest_subnormal / np.sqrt(12) * np.sqrt(gradient.size)
        enough = np.full(judged.shape, precision.detects * size / 2)
        silent = reference.constant & (size == 0)
    else:
        judged = gradient[lines.elements]
        rounding = off * (np.abs(finite[lines.elements]) + size / np.sqrt(gradient.size)) + precision.smallest_subnormal
        sizes = np.where(np.isfinite(reference.value), np.abs(reference.value), 0.0)
        enough = np.maximum(precision.detects * sizes / 2, precision.matters * sizes.max())
        silent = reference.constant & (judged == 0)
    if tolerance is not None:
        most = tolerance.atol + tolerance.rtol * np.abs(reference.value)
        return _Held(reference, judged, most, np.full(judged.shape, np.inf), precision, tolerated=True)
    allowed = reference.bound + np.where(np.isfinite(rounding), rounding, 0.0)
    # A loss that is 0 everywhere, to the last bit, may be so for want of digits: it calls nothing wrong.
    allowed = np.where(reference.constant & (reference.bound == 0) & (judged != 0), np.inf, allowed)
    return _Held(reference, judged, allowed, np.where(silent, np.inf, enough), precision)


def _worst_of(held: _Held) -> int:
    with np.errstate(all="ignore"):
        ratios = np.abs(held.judged - held.reference.value) / held.allowed
    return int(np.where(np.isnan(ratios), np.where(held.judged == held.reference.value, 0.0, np.inf), ratios).argmax())


def _verdict(
    lines: Lines, held: _Held, gradient: Array, shape: tuple[int, ...], *, deterministic: bool
) -> tuple[Verdict, tuple[Worst, ...]]:
    causes = held.causes
    outcomes = [Outcome(int(each)) for each in _OUTCOMES[causes]]
    directions = tuple(_direction(lines, held, each, outcome, shape) for each, outcome in enumerate(outcomes))
    outcome = max(outcomes)
    random = lines.elements is None
    reason = _reason(causes, outcome, held, random=random, deterministic=deterministic)
    if outcome == Outcome.FAIL:
        reason += _hint(lines, held, gradient)
    verdict = _along(lines, held, gradient, outcome, reason, directions) if random else None
    return verdict or _by_element(lines, held, gradient, outcome, reason, directions), directions


def _along(
    lines: Lines, held: _Held, gradient: Array, outcome: Outcome, reason: str, directions: tuple[Worst, ...]
) -> Verdict:
    """Verdict along random directions: nothing is known of single elements."""
    size = norm(np.where(np.isfinite(gradient), gradient, 0.0))
    # What is allowed counts once more: for what may be off unseen beside what is allowed to be.
    known = missed((1 + held.margin) * held.allowed * lines.concentration, size, lines.moves.coarseness)
    return Verdict(
        outcome=outcome,
        reason=reason,
        total=gradient.size,
        counts=dict.fromkeys(Outcome, 0),
        smallest_detectable_error=known.relative_l2,
        worst=(),
        not_examined=gradient.size,
        directions=directions,
        missed=known,
    )


def _by_element(
    lines: Lines, held: _Held, gradient: Array, outcome: Outcome, reason: str, directions: tuple[Worst, ...]
) -> Verdict:
    sizes = np.abs(held.reference.value)
    conclusive = np.array([each.outcome != Outcome.INCONCLUSIVE for each in directions])
    counted = conclusive & (sizes > held.precision.matters * np.nanmax(sizes, initial=0.0)) & (sizes > 0)
    order = sorted(directions, key=lambda each: (each.outcome != Outcome.FAIL, -_rank(each.ratio)))
    return Verdict(
        outcome=outcome,
        reason=reason,
        total=gradient.size,
        counts={each: sum(one.outcome == each for one in directions) for each in Outcome},
        smallest_detectable_error=float((held.allowed[counted] / sizes[counted]).max()) if counted.any() else np.inf,
        worst=tuple(order[:MAX_WORST]),
        not_examined=gradient.size - len(lines),
        missed=WrongElements(1, 1 - len(lines) / gradient.size),
    )


def _rank(ratio: float) -> float:
    return np.inf if np.isnan(ratio) else ratio


def _direction(lines: Lines, held: _Held, number: int, outcome: Outcome, shape: tuple[int, ...]) -> Worst:
    reference, judged, allowed = (float(each[number]) for each in (held.reference.value, held.judged, held.allowed))
    off = abs(judged - reference)
    return Worst(
        index=(number,) if lines.elements is None else index_of(int(lines.elements[number]), shape),
        route="candidate",
        reference=reference,
        judged=judged,
        error_bound=float(held.reference.bound[number]),
        allowed=allowed,
        ratio=0.0 if off == 0 else off / allowed if allowed else np.inf,
        outcome=outcome,
    )


def _reason(causes: Array, outcome: Outcome, held: _Held, *, random: bool, deterministic: bool) -> str:
    what = "directions" if random else "elements"
    if outcome == Outcome.PASS:
        return f"Every {what[:-1]} is {Cause.AGREES.meaning.cause}."
    leading = int(next(each for each in np.unique(causes) if _OUTCOMES[each] == outcome))
    cause, concerned = _CAUSES[leading], np.equal(causes, leading)
    error = f" ({held.precision.detects:g}, relative)" if cause == Cause.TOO_UNCERTAIN else ""
    said = (
        f"{np.count_nonzero(concerned)} of {causes.size} {what} of the candidate gradient: {cause.meaning.cause}{error}"
    )
    return f"{said}. {remedy(cause, held.reference, concerned, random=random, deterministic=deterministic)}"


def _hint(lines: Lines, held: _Held, gradient: Array) -> str:
    """Say so where a lower precision would explain the failure."""
    if held.precision.lower is None or held.tolerated:
        return ""
    lower = _held(lines, gradient, held.reference, PRECISIONS[held.precision.lower])
    if (_OUTCOMES[lower.causes] == Outcome.FAIL).any():
        return ""
    name = lower.precision.name
    return f' It would not fail as {name}: if it was computed so, give "candidate_dtype": "{name}".'


def _single(lines: Lines, held: _Held, gradient: Array, sought: float) -> float:
    finite = np.where(np.isfinite(gradient), gradient, 0.0)
    deviation = np.where(np.isfinite(held.reference.deviation), held.reference.deviation, 0.0)
    unnoticed = held.margin * held.allowed
    if lines.elements is None:
        return worth.among_random(finite, unnoticed, deviation, lines.moves.coarseness, sought)
    return worth.among_elements(finite, lines.elements, unnoticed, deviation, sought)
