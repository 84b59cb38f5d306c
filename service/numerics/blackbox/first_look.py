"""The first look at a function: a few of the evaluations of a plan.

    0, 1, 2           the base, three times
    3 ... 10          the first line of near points, all tensors moved together
    then              by tensor: the first two directions, or all elements, at three steps on both sides

Three steps are the fewest that tell an error of the difference from noise: with two, 69 of 4,000 right gradients of
relu networks disagree. A first look either passes or says nothing. It passes if every line passes and shows no sign of
a kink; else the other evaluations of the plan follow, and all of them are judged together. The directions of the first
look are among those of the whole, so that an error that passes at last has passed along them too.

Let an error e be missed by the first look with probability p, and by the whole plan with probability q. As the first
look may pass, or the whole may pass after it,

    P(missed) <= p + q.                                                                                              (1)

A first look that passes does not know q. The whole adds steps and directions to its lines, and its slack along them is
no larger in kind, so that q is taken to be no more than p: 2 p is stated. A judgement of the whole states p + q, with
p = 0 if the first look could not have passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from service.numerics.blackbox.candidate_judge import TensorJudgement
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout
from service.numerics.blackbox.lines import TensorLines
from service.numerics.blackbox.output_judge import ProductJudgement
from service.numerics.blackbox.schedule import NEAR_POINT_COUNT
from service.numerics.core.batching import Array
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit

FIRST_DIRECTIONS = 2
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
        is_first = np.isin(exponents, _FIRST_EXPONENTS[point.schedule.precision.name])
        numbers.append(grid[: _count_first_lines(layout.lines[name])][:, is_first].ravel())
    return np.concatenate(numbers)


def select_first_lines(layout: EvaluationLayout) -> EvaluationLayout:
    """Return the layout with the lines of the first look alone; its evaluations keep their numbers."""
    return replace(layout, lines={name: _take_lines(lines) for name, lines in layout.lines.items()})


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


def add_first_misses(judgement: _Judgement, first_judgement: _Judgement) -> _Judgement:
    """Return a judgement with the misses of the whole procedure, (1).

    Parameters
    ----------
    judgement
        Judgement on all evaluations; or, if the first look passes, that one.
    first_judgement
        Judgement of the first look on the same gradient.
    """
    if first_judgement.verdict.outcome == Outcome.INCONCLUSIVE:
        return judgement
    verdict = _add_limits(judgement.verdict, first_judgement.verdict.detection_limit)
    single, first_single = judgement.single_miss_probability, first_judgement.single_miss_probability
    if single is None or first_single is None:
        return replace(judgement, verdict=verdict)
    return replace(judgement, verdict=verdict, single_miss_probability=min(1.0, single + first_single))


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
