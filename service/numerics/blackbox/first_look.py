"""The first look at a function: a few of the evaluations of a plan.

    0, 1, 2           the base, three times
    3 ... 10          the first line of near points, all tensors moved together
    then              by tensor: the first two directions, or all elements, at three steps on both sides

Three steps are the fewest that tell an error of the difference from noise: with two, 69 of 4,000 right gradients of
relu networks disagree. A first look either passes or says nothing. It passes if every line passes and shows no sign of
a kink, and if it would have found the sought error; else the other evaluations of the plan follow, and all of them are
judged together. The directions of the first look are among those of the whole, so that an error that passes at last has
passed along them too.

Two directions find with probability 0.999 an error of 25 times what is allowed, and four one of 4 times. In float64
both are far below the sought error. In float32 a first look would miss 1 % of one element of 15 in one of seven
gradients, and the whole does in one of a thousand: there the first look does not suffice.

The bounds of the whole may be wider than those of the first look, as its larger steps reach more kinks. So a gradient
that fails at the first look does not pass at last: it is inconclusive if the whole passes. (None of 7,000 right
gradients of `benchmarks/few_trials.py` failed at the first look.) Let an error pass the first look with probability p,
and be neither passed nor failed there with probability p': just beyond the passing error, where a second look may pass
it. Then

    P(missed) <= p + p',                                                                                             (1)

and 2 p is stated. A judgement of the whole, which passes an error with probability q, states p + q, with p = 0 if the
first look could not have passed: it was inconclusive, or would not have found the sought error.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from service.numerics.blackbox.candidate_judge import TensorJudgement
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout
from service.numerics.blackbox.lines import TensorLines
from service.numerics.blackbox.output_judge import ProductJudgement
from service.numerics.blackbox.schedule import NEAR_POINT_COUNT
from service.numerics.core.batching import Array
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict, list_results
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import MISS_PROBABILITY, NormDetectionLimit

FIRST_DIRECTIONS = 2
_WITHHELD_REASON = (
    "the first evaluations disagree with the gradient by more than is allowed. All evaluations together agree, but "
    "with wider error bounds. Use a smaller scale: the function has kinks or steep parts within the larger steps."
)
_Judgement = TypeVar("_Judgement", TensorJudgement, ProductJudgement)
_FIRST_EXPONENTS: Mapping[str, Sequence[int]] = {
    "FP64": (8, 11, 15),
    "FP32": (5, 6, 8),
    "FP16": (2, 3, 4),
    "BF16": (1, 2, 3),
}
"""Steps of the first look, 2^-e of the scale, by datatype. These let the most right gradients of smooth and of kinked
functions pass at once: fine steps reach fewer kinks, and leave less of the higher derivatives."""


def list_first_evaluations(layout: EvaluationLayout) -> Array:
    """Return the numbers of the evaluations of the first look, ascending."""
    numbers = [np.arange(BASE_REPEATS + NEAR_POINT_COUNT)]
    for name, point in layout.points.items():
        exponents, count = point.schedule.exponents, len(layout.lines[name])
        grid = layout.get_first_evaluation(name) + np.arange(2 * count * len(exponents)).reshape(count, -1, 2)
        first_exponents = _FIRST_EXPONENTS[point.schedule.precision.name]
        is_first = np.array([exponent in first_exponents for exponent in exponents])
        numbers.append(grid[: _count_first_lines(layout.lines[name])][:, is_first].ravel())
    return np.concatenate(numbers)


def select_first_lines(layout: EvaluationLayout) -> EvaluationLayout:
    """Return the layout with the lines and evaluations of the first look alone; these keep their numbers."""
    lines = {name: _take_lines(lines) for name, lines in layout.lines.items()}
    return replace(layout, lines=lines, taken_evaluations=list_first_evaluations(layout))


def _count_first_lines(lines: TensorLines) -> int:
    return len(lines) if lines.moved_elements is not None else min(FIRST_DIRECTIONS, len(lines))


def _take_lines(lines: TensorLines) -> TensorLines:
    count = _count_first_lines(lines)
    if count == len(lines):
        return lines
    moves = replace(
        lines.moves,
        starts=lines.moves.starts[:count] if lines.moves.starts.ndim > 1 else lines.moves.starts,
        directions=lines.moves.directions[:count],
        displacement=lines.moves.displacement[:count],
    )
    return replace(lines, moves=moves, derivative_units=lines.derivative_units[:count], sides=lines.sides[:count])


def suffices(first_judgement: TensorJudgement | ProductJudgement, sought_error: float) -> bool:
    """Tell whether a first look is enough: it passes, and would have found the sought relative error."""
    return first_judgement.verdict.outcome == Outcome.PASS and finds_error(first_judgement, sought_error)


def finds_error(judgement: TensorJudgement | ProductJudgement, sought_error: float) -> bool:
    """Tell whether a judgement finds one element with a relative error, or promises nothing of a gradient that is 0.

    Along random directions it is missed with the probability of the other promises at most, and products of them have
    an error of their norm found. All evaluations would not promise more of a gradient that is 0 to rounding.
    """
    limit, single = judgement.verdict.detection_limit, judgement.single_miss_probability
    if isinstance(judgement, TensorJudgement):
        is_zero = not judgement.is_promised.any()
    else:
        is_zero = bool(judgement.entries.is_negligible.all())
    if is_zero:
        return True
    if not isinstance(limit, NormDetectionLimit):
        return judgement.verdict.smallest_detectable_error <= sought_error
    return limit.relative_l2 <= sought_error if single is None else single <= MISS_PROBABILITY


def combine_looks(judgement: _Judgement, first_judgement: _Judgement, sought_error: float) -> _Judgement:
    """Return the judgement of the whole procedure: no pass of what the first look fails, and the misses of both, (1).

    Parameters
    ----------
    judgement
        Judgement on all evaluations; or, if the first look suffices, that one.
    first_judgement
        Judgement of the first look on the same gradient.
    sought_error
        Relative error that the first look has to find.
    """
    outcome, first_outcome = judgement.verdict.outcome, first_judgement.verdict.outcome
    if outcome == Outcome.PASS and first_outcome == Outcome.FAIL:
        return _withhold_pass(judgement, first_judgement)
    if first_outcome == Outcome.INCONCLUSIVE or not finds_error(first_judgement, sought_error):
        return judgement
    verdict = _add_limits(judgement.verdict, first_judgement.verdict.detection_limit)
    single, first_single = judgement.single_miss_probability, first_judgement.single_miss_probability
    if single is None or first_single is None:
        return replace(judgement, verdict=verdict)
    return replace(judgement, verdict=verdict, single_miss_probability=min(1.0, single + first_single))


def _withhold_pass(judgement: _Judgement, first_judgement: _Judgement) -> _Judgement:
    """Return the judgement as inconclusive along the lines that fail at the first look."""
    failed = {result.index for result in _list_results(first_judgement) if result.outcome == Outcome.FAIL}
    verdict = judgement.verdict
    withheld = replace(
        verdict,
        outcome=Outcome.INCONCLUSIVE,
        reason=f"{len(failed)} of {len(_list_results(judgement))}: {_WITHHELD_REASON}",
        worst_elements=_mark_undecided(verdict.worst_elements, failed),
        direction_results=verdict.direction_results and _mark_undecided(verdict.direction_results, failed),
    )
    if verdict.direction_results is None:
        counts = verdict.outcome_counts
        passed = {Outcome.PASS: counts[Outcome.PASS] - len(failed), Outcome.INCONCLUSIVE: len(failed)}
        withheld = replace(withheld, outcome_counts={**counts, **passed})
    if isinstance(judgement, ProductJudgement):
        return replace(judgement, verdict=withheld)
    results = _mark_undecided(judgement.direction_results, failed)
    has_passed = np.array([result.outcome == Outcome.PASS for result in results])
    return replace(
        judgement, verdict=withheld, direction_results=results, is_promised=judgement.is_promised & has_passed
    )


def _list_results(judgement: TensorJudgement | ProductJudgement) -> tuple[ElementResult, ...]:
    return judgement.direction_results if isinstance(judgement, TensorJudgement) else list_results(judgement.entries)


def _mark_undecided(
    results: tuple[ElementResult, ...], indices: Collection[tuple[int, ...]]
) -> tuple[ElementResult, ...]:
    return tuple(
        replace(result, outcome=Outcome.INCONCLUSIVE) if result.index in indices else result for result in results
    )


def _add_limits(verdict: GradientVerdict, first_limit: object) -> GradientVerdict:
    """Return the verdict with the error that either look finds, and the probability that one of them misses it.

    A sample of elements is the same in both looks, and so is the probability that it has none of the wrong ones.
    """
    limit = verdict.detection_limit
    if not (isinstance(limit, NormDetectionLimit) and isinstance(first_limit, NormDetectionLimit)):
        return verdict
    relative_l2 = max(limit.relative_l2, first_limit.relative_l2)
    probability = min(1.0, limit.probability + first_limit.probability)
    return replace(
        verdict,
        detection_limit=NormDetectionLimit(relative_l2, probability),
        smallest_detectable_error=max(verdict.smallest_detectable_error, relative_l2),
    )
