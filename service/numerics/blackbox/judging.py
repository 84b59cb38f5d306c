"""The verdict on a candidate from losses at the points of a plan.

Along each line the candidate is judged against the extrapolated difference (difference.py). What it may be off by
stands in allowance.py, what is decided from that in decision.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.blackbox import taylor, worth
from service.numerics.blackbox.decision import Held, held
from service.numerics.blackbox.difference import Along
from service.numerics.blackbox.factor import diagnosed
from service.numerics.blackbox.kinks import Shape
from service.numerics.blackbox.known import noise_of
from service.numerics.blackbox.layout import REPEATS, Layout
from service.numerics.blackbox.lines import Lines
from service.numerics.blackbox.noise import Format, Noise, format_of
from service.numerics.blackbox.sided import along
from service.numerics.blackbox.stairs import staircase
from service.numerics.blackbox.taylor import Remainder
from service.numerics.blackbox.verdicts import verdict
from service.numerics.faults import Diagnosis
from service.numerics.outcome import Outcome
from service.numerics.pausing import pausing
from service.numerics.precision import Precision
from service.numerics.projection import norm
from service.numerics.reference import Tolerance
from service.numerics.tiles import Array
from service.numerics.verdict import Verdict, Worst


@dataclass(frozen=True)
class Judged:
    """What is to be thought of one tensor's candidate.

    Attributes
    ----------
    verdict
        As of a check; along random directions, or by element.
    directions
        All of them, in order; each has the index of its element, or of itself.
    promised
        Which of them pass and are covered by `smallest_detectable_error`, (k,).
    single
        Probability that a single element, off by the part that was asked about, passed.
    noise
        Of the loss near the base, this tensor moved.
    """

    verdict: Verdict
    directions: tuple[Worst, ...]
    promised: Array
    single: float
    taylor: Remainder
    diagnosis: Diagnosis | None
    noise: Noise


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
        The noise of the loss, where it is largest, and the verdicts by name.
    """
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.abs(losses).max(initial=0.0, where=np.isfinite(losses)))
        small = np.ldexp(losses, -exponent)
        form = format_of(small[np.isfinite(small)])
        found = {
            name: _tensor(
                _Question(layout, name, candidates[name], precisions[name], sought, tolerance),
                small,
                form,
                int(exponent),
            )
            for name in pausing(layout.points)
        }
        return max((each.noise for each in found.values()), key=lambda noise: noise.most), found


@dataclass(frozen=True)
class _Question:
    """One tensor's candidate, and how it is to be judged."""

    layout: Layout
    name: str
    candidate: Array
    precision: Precision
    sought: float
    tolerance: Tolerance | None


def _tensor(asked: _Question, losses: Array, form: Format, exponent: int) -> Judged:
    lines, point = asked.layout.lines[asked.name], asked.layout.points[asked.name]
    own, near = asked.layout.of(asked.name, losses), asked.layout.near(asked.name, losses)
    noise = noise_of(losses[:REPEATS], near, form)
    small = along(asked.layout, asked.name, own, float(losses[0]), noise)
    if _stepped(asked, near, own, noise):
        small = replace(small, shape=np.full(len(lines), Shape.STAIRS))
    reference = _scaled(small, exponent)
    gradient = asked.candidate.astype(np.float64).ravel() * lines.weights
    found = held(lines, point, gradient, reference, asked.precision, asked.tolerance)
    judged, directions = verdict(lines, point, found, gradient, deterministic=noise.exact)
    failed = judged.outcome == Outcome.FAIL
    return Judged(
        judged,
        directions,
        np.array([each.outcome == Outcome.PASS for each in directions]) & ~found.negligible,
        _single(lines, found, gradient, asked.sought),
        _remainder(asked, own, float(losses[0]), noise, small, found, exponent),
        diagnosed(reference.value, found.judged, found.allowance.allowed) if failed else None,
        noise.scaled(exponent),
    )


def _stepped(asked: _Question, near: Array, own: Array, noise: Noise) -> bool:
    """Whether the loss is a staircase where the tensor moves."""
    point, lines = asked.layout.points[asked.name], asked.layout.lines[asked.name]
    changes = np.abs(own[:, 0, 0] - own[:, 0, 1])
    changes = changes[np.isfinite(changes)] / (2 * point.schedule.steps[0])
    slope = float(norm(changes)) / (np.sqrt(len(lines)) if lines.elements is None else 1.0)
    spacings = 2.0 ** -np.array([*point.schedule.near, point.schedule.near[0]], np.float64)[: len(near)]
    return staircase(near, spacings, slope, noise.rounding)


def _scaled(found: Along, exponent: int) -> Along:
    """The derivatives of a loss 2^exponent times as large."""
    names = ("value", "bound", "deviation", "bend", "base", "size", "resolution")
    return replace(found, **{each: np.ldexp(getattr(found, each), exponent) for each in names})


def _remainder(
    asked: _Question, losses: Array, base: float, noise: Noise, small: Along, found: Held, exponent: int
) -> Remainder:
    """The remainder test along the line where the candidate is off most."""
    lines, worst = asked.layout.lines[asked.name], int(found.ratios.argmax())
    steps = asked.layout.offsets(asked.name)[worst, :, 0]
    explained = np.ldexp(found.judged[worst] * lines.units[worst], -exponent)
    # The base may lie off the line by a rounding, of which the loss takes its part.
    off = lines.moves.displaced[worst] * np.abs(small.value[worst] * lines.units[worst])
    deviations = noise.grown(np.abs(losses[worst, :, 0]))
    left, slope = taylor.remainder(worst, losses[worst, :, 0] - base, steps, explained, deviations * np.sqrt(2) + off)
    growing = taylor.growing(float(found.reference.value[worst]), float(found.judged[worst]))
    return Remainder(worst, steps, np.ldexp(left, exponent), slope, *growing)


def _single(lines: Lines, found: Held, gradient: Array, sought: float) -> float:
    finite = np.where(np.isfinite(gradient), gradient, 0.0)
    deviation = np.where(np.isfinite(found.reference.deviation), found.reference.deviation, 0.0)
    if lines.elements is None:
        return worth.among_random(finite, found.unnoticed, deviation, lines.moves.coarseness, sought)
    return worth.among_elements(finite, lines.elements, found.unnoticed, deviation, sought)
