"""Time of the adaptive stage against the size of the reference model at a fixed kernel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.contenders import make_adaptive
from benchmarks.problems import make_convolution
from benchmarks.timing import MeasuringBudget, run_in_turns, warm_up

KERNEL_SIZE = 5
INPUT_SIZES = (8, 16, 32, 64, 128, 256, 512)
MIN_FITTED_SIZE = 64
"""Size from which on the exponent is fitted: what is smaller is mostly the cost of calls."""


def measure_growth(patience: MeasuringBudget, sizes: Sequence[int] = INPUT_SIZES) -> dict[str, Any]:
    """Seconds and evaluations for each size, and the exponent of the seconds in the number of elements."""
    problems = [make_convolution(f"{size}x{size}", size, KERNEL_SIZE) for size in sizes]
    contenders = [make_adaptive(problem) for problem in problems]
    for entry in contenders:
        warm_up(entry, patience)
    run_in_turns(contenders)
    rows = [
        {"size": size, "elements": problem.flat_inputs.size, **dict(contender.rows)["adaptive"]}
        for size, problem, contender in zip(sizes, problems, contenders, strict=True)
    ]
    return {"kernel": KERNEL_SIZE, "rows": rows, "fitted_from": MIN_FITTED_SIZE, "exponent": fit_exponent(rows)}


def fit_exponent(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Slope of the least-squares line through the logarithms; None where there are too few for one."""
    fitted = [row for row in rows if row["size"] >= MIN_FITTED_SIZE]
    if len(fitted) < 2:
        return None
    elements, seconds = (np.log([row[name] for row in fitted]) for name in ("elements", "seconds"))
    return round(float(np.polyfit(elements, seconds, 1)[0]), 2)
