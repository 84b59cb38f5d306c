"""At which steps the loss is evaluated along a line: on both sides, or on one.

A line has two evaluations for each level of its datatype's steps. On both sides these are +h and -h. On one side they
are h and a step in between, which the finite difference of one side needs the more as it loses only one power of h by
each. All are whole multiples of the smallest step, so that they lie on the lattice of the line.
"""

from functools import lru_cache

import numpy as np

from service.numerics.blackbox.schedule import StepSchedule, compute_steps
from service.numerics.core.batching import Array

_SECOND_STEPS: dict[str, tuple[int, ...]] = {
    "FP64": (3072, 1536, 768, 256, 45, 4, 3584),
    "FP32": (96, 48, 24, 8, 2, 112),
    "FP16": (6, 3, 5, 7),
    "BF16": (3, 3, 3),
}
"""Second steps of a line of one side, by level, in smallest steps. bfloat16 has but four within its largest."""


def list_signed_step_offsets(schedule: StepSchedule, sides: Array) -> Array:
    """Return signed steps of lines, (k, levels, 2), given their sides, (k,).

    A side is 0 for both, 1 or -1 for one.
    """
    if not sides.any():
        return _repeat_central_offsets(schedule.exponents, len(sides))
    steps = schedule.steps
    central_offsets = np.stack([steps, -steps], axis=-1)
    intermediate_steps = np.array(_SECOND_STEPS[schedule.precision.name], np.float64) * schedule.smallest_step
    one_sided_offsets = np.stack([steps, intermediate_steps], axis=-1)
    return np.where(sides[:, None, None] == 0, central_offsets, sides[:, None, None] * one_sided_offsets)


@lru_cache(maxsize=64)
def _repeat_central_offsets(exponents: tuple[int, ...], count: int) -> Array:
    """Return signed steps of lines of both sides, read-only: most lines are such."""
    steps = compute_steps(exponents)
    offsets = np.repeat(np.stack([steps, -steps], axis=-1)[None], count, axis=0)
    offsets.flags.writeable = False
    return offsets


def describe_offset(schedule: StepSchedule, offset: float) -> str:
    """Return a signed step in words: +2^-3, or -3*2^-5."""
    step_count = round(abs(offset) / schedule.smallest_step)
    power_of_two = (step_count & -step_count).bit_length() - 1
    factor = f"{step_count >> power_of_two}*" if step_count >> power_of_two > 1 else ""
    return f"{'-' if offset < 0 else '+'}{factor}2^{power_of_two - schedule.exponents[-1]}"
