"""Time of the adaptive stage against the size of the reference model at a fixed kernel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.contenders import adaptive
from benchmarks.measuring import Patience, in_turns, warm
from benchmarks.problems import convolution

KERNEL = 5
SIZES = (8, 16, 32, 64, 128, 256, 512)
FITTED = 64
"""Size from which on the exponent is fitted: what is smaller is mostly the cost of calls."""


def measured(patience: Patience, sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """Seconds and evaluations for each size, and the exponent of the seconds in the number of elements."""
    problems = [convolution(f"{size}x{size}", size, KERNEL) for size in sizes]
    contenders = [adaptive(problem) for problem in problems]
    for each in contenders:
        warm(each, patience)
    in_turns(contenders)
    rows = [
        {"size": size, "elements": problem.flat.size, **dict(contender.rows)["adaptive"]}
        for size, problem, contender in zip(sizes, problems, contenders, strict=True)
    ]
    return {"kernel": KERNEL, "rows": rows, "fitted_from": FITTED, "exponent": exponent(rows)}


def exponent(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Slope of the least-squares line through the logarithms; None where there are too few for one."""
    fitted = [row for row in rows if row["size"] >= FITTED]
    if len(fitted) < 2:
        return None
    elements, seconds = (np.log([row[name] for row in fitted]) for name in ("elements", "seconds"))
    return round(float(np.polyfit(elements, seconds, 1)[0]), 2)
