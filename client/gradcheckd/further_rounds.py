"""Elements whose derivative needs smaller moves, and the scales of a further round for them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gradcheckd.arrays import Array, to_tensor
from gradcheckd.errors import ProblemError
from gradcheckd.function_evaluation import PointValues
from gradcheckd.function_forms import TensorForm
from gradcheckd.point_rule import BASE_REPEATS, NEAR_POINTS
from gradcheckd.report import BlackBoxReport
from gradcheckd.report_parts import Judged, Verdict

MAX_ROUNDS = 3
_SHRINK_FACTOR = 2.0**-5
_NOISE_FACTOR = 2.0**12
"""Bound over noise and scale, from which on moves smaller by `_SHRINK_FACTOR` may have a smaller one.

Noise alone leaves a bound of less than 2^7 times its deviation over the scale, and 2^5 times as much in the next round.
"""

_HIDING_FACTOR = 2.0**10
"""Derivative over noise and scale, up to which moves smaller by `_SHRINK_FACTOR` hide it in the noise.

A difference by 1/8 of the scale has a bound of 2^5 to 2^7 deviations over the scale, and 2^5 times as much there.
"""

Scales = Mapping[str, Array]
LostElements = Mapping[str, Array]
"""Masks by tensor, of its shape or of a single element for all, of elements that need smaller moves."""


def encode_shrunken_scales(scales: Scales, lost: LostElements) -> dict[str, Any]:
    """Encode the scales of a further round for a request."""
    factors = {name: np.where(lost.get(name, False), _SHRINK_FACTOR, 1.0) for name in scales}
    return {
        name: to_tensor(np.float64(scale) * factors[name], f"scale {name!r}").as_json()
        for name, scale in scales.items()
    }


def is_about_scale(error: ProblemError) -> bool:
    """Tell whether a service refused scales, and nothing else: the datatype has no numbers so near."""
    return bool(error.errors) and all(place["pointer"].startswith("/scale") for place in error.errors)


def is_constant_near_base(values: PointValues) -> bool:
    """Tell whether a function has the very same value at the base and all near points of a round.

    Such a round says nothing: a function that is rounded within is on one stair, and its differences are 0. So are
    those of a function that is constant, but that takes no further round.
    """
    near = slice(BASE_REPEATS + NEAR_POINTS)
    if values.outputs:
        arrays = [tensor.array[near] for tensor in values.outputs.values()]
        return all(bool((array == array[0]).all()) for array in arrays)
    return all(loss is not None and loss == values.losses[0] for loss in values.losses[near])


def find_lost_elements(
    report: BlackBoxReport, point: TensorForm, outputs: TensorForm | None, scales: Scales
) -> LostElements:
    """Return the elements for which an inconclusive report has wide bounds that noise does not explain.

    These are the elements beside a kink or the end of the domain. Smaller moves would only make a bound of noise wider.

    Parameters
    ----------
    report
        Report of a round.
    point, outputs
        Forms of the point, and of the outputs if there are some.
    scales
        Scales of the round.
    """
    lost: dict[str, Array] = {}
    if report.outcome != "inconclusive":
        return lost
    for key, verdict in report.verdicts.items():
        names = _list_moved_tensors(key, point, outputs)
        for judged in _list_undecided(verdict):
            for name in names:
                if _is_wider_than_noise(judged, verdict, float(np.min(scales[name]))):
                    mask = _select_elements(judged, verdict, point.shapes[name])
                    lost[name] = np.logical_or(lost.get(name, False), mask)
    return lost


def _is_wider_than_noise(judged: Judged, verdict: Verdict, scale: float) -> bool:
    noise = verdict.noise or 0.0
    if np.isinf(judged.error_bound):
        # Nothing is known of the noise either if values are missing everywhere.
        size = _measure_largest(verdict)
        return not (np.isfinite(noise) and size * scale < _HIDING_FACTOR * noise)
    return judged.error_bound * scale > _NOISE_FACTOR * noise


def _measure_largest(verdict: Verdict) -> float:
    """Return the size of the largest derivative, judged or by differences; infinite if none is known but 0."""
    sizes = [abs(size) for line in verdict.directions or verdict.worst for size in (line.judged, line.reference)]
    return max((size for size in sizes if np.isfinite(size) and size), default=np.inf)


def _list_undecided(verdict: Verdict) -> Iterator[Judged]:
    for judged in verdict.directions or verdict.worst:
        if judged.outcome == "inconclusive":
            yield judged


def _list_moved_tensors(key: str, point: TensorForm, outputs: TensorForm | None) -> list[str]:
    """Return the tensors that a verdict is on: that of Jacobian-vector products is on all of them."""
    if outputs is None:
        return [key]
    by_key = {f"{output}/{name}": name for output in outputs.originals for name in point.originals}
    return [by_key[key]] if key in by_key else list(point.originals)


def _select_elements(judged: Judged, verdict: Verdict, shape: tuple[int, ...]) -> Array:
    """Return the mask of the moved element, or of all elements along a random direction or where not all are listed."""
    if judged.index is None or not verdict.directions:
        return np.array(True)
    mask = np.zeros(shape, np.bool_)
    mask[judged.index] = True
    return mask
