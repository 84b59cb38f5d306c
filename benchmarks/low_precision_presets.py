"""Verdicts on the service's own gradients of the presets in a narrow dtype, which recipes of eager kernels judge."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from service.checks.graph.check import check
from service.numerics.model.presets import PRESETS

NARROW_DTYPES = ("bfloat16", "float16")


def count_preset_outcomes(dtype: str) -> Mapping[str, int]:
    """Return how many tensors of the presets have each outcome in a dtype."""
    counts: Counter[str] = Counter({"pass": 0, "inconclusive": 0, "fail": 0})
    for preset in PRESETS.values():
        with np.errstate(all="ignore"):
            report = check(preset.example_request | {"dtype": dtype, "include": []})
        counts.update(verdict["outcome"] for verdict in report["verdicts"].values())
    return dict(counts)
