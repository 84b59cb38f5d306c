"""From what is decided of each line to the verdict on a tensor, and its reasons in words."""

import numpy as np

from service.numerics.blackbox.advice import advised
from service.numerics.blackbox.decision import CAUSES, OUTCOMES, Held, held
from service.numerics.blackbox.lines import Lines, Point
from service.numerics.blackbox.remedies import remedy
from service.numerics.outcome import Cause, Outcome
from service.numerics.precision import PRECISIONS
from service.numerics.projection import missed, norm
from service.numerics.tiles import Array
from service.numerics.verdict import MAX_WORST, Verdict, Worst, WrongElements, index_of


def verdict(
    lines: Lines, point: Point, found: Held, gradient: Array, *, deterministic: bool
) -> tuple[Verdict, tuple[Worst, ...]]:
    """Put the verdict together, and every line in order.

    Parameters
    ----------
    gradient
        The candidate, float64, (n,).
    deterministic
        Whether the loss was the same each time at the base.
    """
    outcomes, shape = found.outcomes, point.values.shape
    directions = tuple(_direction(lines, found, each, outcome, shape) for each, outcome in enumerate(outcomes))
    outcome = max(outcomes)
    random = lines.elements is None
    reason = _reason(found, outcome, random=random, deterministic=deterministic)
    if outcome == Outcome.FAIL:
        reason += _hint(lines, point, found, gradient)
    assemble = _along if random else _by_element
    return assemble(lines, found, gradient, outcome, reason, directions), directions


def _along(
    lines: Lines, found: Held, gradient: Array, outcome: Outcome, reason: str, directions: tuple[Worst, ...]
) -> Verdict:
    """Verdict along random directions: nothing is known of single elements."""
    size = norm(np.where(np.isfinite(gradient), gradient, 0.0))
    # What is allowed counts once more: for what may be off unseen beside what is allowed to be.
    slack = (found.unnoticed + found.allowance.allowed) * lines.concentration
    known = missed(slack, size, lines.moves.coarseness)
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
        nothing=_nothing(found, np.array([each.outcome == Outcome.PASS for each in directions])),
    )


def _by_element(
    lines: Lines, found: Held, gradient: Array, outcome: Outcome, reason: str, directions: tuple[Worst, ...]
) -> Verdict:
    passed = np.array([each.outcome == Outcome.PASS for each in directions])
    order = sorted(directions, key=lambda each: (each.outcome != Outcome.FAIL, -_rank(each.ratio)))
    return Verdict(
        outcome=outcome,
        reason=reason,
        total=gradient.size,
        counts={each: sum(one.outcome == each for one in directions) for each in Outcome},
        smallest_detectable_error=_detectable(found, passed & ~found.negligible),
        worst=tuple(order[:MAX_WORST]),
        not_examined=gradient.size - len(lines),
        negligible=int(np.count_nonzero(passed & found.negligible)),
        nothing=_nothing(found, passed),
        missed=WrongElements(1, 1 - len(lines) / gradient.size),
    )


def _nothing(found: Held, passed: Array) -> float | None:
    """How far from 0 a derivative may be that passes as 0; None where none does."""
    zero = found.zero & passed
    return float(found.allowance.allowed[zero].max()) if zero.any() else None


def _detectable(found: Held, counted: Array) -> float:
    """Relative error that would have been found in each element that is counted.

    A candidate that is off by -p and passes may be changed by nearly 2 p and pass again, with p what is certain. As p
    itself has a part r of the candidate in it, that is 2 p / (1 - r); twice what is allowed is more but for small r.
    Relative to the derivative or to the candidate, whichever is smaller.
    """
    if not counted.any():
        return np.inf
    allowed = found.allowance
    with np.errstate(all="ignore"):
        share = found.share
        most = np.maximum(2 * allowed.allowed, 2 * allowed.certain / (1 - share))
        sizes = np.minimum(np.abs(found.reference.value), np.abs(found.judged))
        return float((most[counted] / sizes[counted]).max() * (1 + 2.0**-40))


def _rank(ratio: float) -> float:
    return np.inf if np.isnan(ratio) else ratio


def _direction(lines: Lines, found: Held, number: int, outcome: Outcome, shape: tuple[int, ...]) -> Worst:
    reference, judged, allowed = (
        float(each[number]) for each in (found.reference.value, found.judged, found.allowance.allowed)
    )
    off = abs(judged - reference)
    return Worst(
        index=(number,) if lines.elements is None else index_of(int(lines.elements[number]), shape),
        route="candidate",
        reference=reference,
        judged=judged,
        error_bound=float(found.reference.bound[number]),
        allowed=allowed,
        ratio=0.0 if off == 0 else off / allowed if allowed else np.inf,
        outcome=outcome,
    )


def _reason(found: Held, outcome: Outcome, *, random: bool, deterministic: bool) -> str:
    what, causes = "directions" if random else "elements", found.causes
    if outcome == Outcome.PASS:
        return f"Every {what[:-1]} is {Cause.AGREES.meaning.cause}."
    leading = int(next(each for each in np.unique(causes) if OUTCOMES[each] == outcome))
    cause, concerned = CAUSES[leading], np.equal(causes, leading)
    said = (
        f"{np.count_nonzero(concerned)} of {causes.size} {what} of the candidate gradient: "
        f"{_said(cause, found, concerned)}"
    )
    return f"{said}. {remedy(cause, found.reference, concerned, random=random, deterministic=deterministic)}"


def _said(cause: Cause, found: Held, concerned: Array) -> str:
    """A cause in words."""
    if cause != Cause.TOO_UNCERTAIN:
        return cause.meaning.cause
    if (found.uncertain | found.reference.suspected)[concerned].any():
        return f"{cause.meaning.cause} ({found.precision.detects:g}, relative)"
    return "farther from the finite difference than is certain, but no farther than rounding may explain"


def _hint(lines: Lines, point: Point, found: Held, gradient: Array) -> str:
    """Say what else would explain a failure that a lower precision would."""
    if found.precision.lower is None or found.tolerance is not None:
        return ""
    lower = held(lines, point, gradient, found.reference, PRECISIONS[found.precision.lower])
    if Outcome.FAIL in lower.outcomes:
        return ""
    return advised(gradient, found.off, found.reference.value, lower.precision)
