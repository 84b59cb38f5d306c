"""Whether the error bounds of the differences are true, on fresh problems: `make bounds`.

Every family of problems in every variant (`tests/families.py`) is differenced and held against its gradient in
hundreds of digits (`tests/truth`). A bound is true where abs(difference - truth) is no more. The seed is printed, and
`--seed` repeats a run. The tests do the same on fixed seeds.
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mpmath
import numpy as np

from service.numerics.gradients import finite_difference
from tests import bounds, families, truth

RESULTS = Path(__file__).parent / "results"
SHOWN = 3
HEADER = (
    "family        variant     elements  unbounded   covered  worst miss  decided"
    "  median bound  99 % below  evaluations  seconds"
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One family in one variant; evaluations of the loss and seconds of the differences are those of one problem."""

    family: str
    variant: str
    found: bounds.Summary
    evaluations: float
    seconds: float
    misses: list[str]

    def __str__(self) -> str:
        each = self.found
        return (
            f"{self.family:13} {self.variant:10} {each.elements:9} {each.unbounded:10} {each.covered:9.4%} "
            f"{each.worst:11.3g} {each.decided:8.2%} {each.median:13.2g} {each.high:11.2g} "
            f"{self.evaluations:12.0f} {self.seconds:8.3f}"
        )

    def entry(self) -> dict[str, Any]:
        """For JSON, which has no infinity."""
        numbers = {**dataclasses.asdict(self.found), "evaluations": self.evaluations, "seconds": self.seconds}
        finite = {name: each if math.isfinite(each) else str(each) for name, each in numbers.items()}
        return {"family": self.family, "variant": self.variant, **finite, "misses": self.misses}


def measured(family: str, variant: str, seeds: range) -> Row:
    tensors: list[bounds.Compared] = []
    evaluations, seconds = 0, 0.0
    for seed in seeds:
        problem = families.problem(family, variant, seed)
        started = time.perf_counter()
        found = finite_difference.differentiate(problem.graph, problem.leaves, problem.names, seed=seed)
        seconds += time.perf_counter() - started
        evaluations += sum(each.evaluations for each in found.values())
        tensors += bounds.compared(problem, found, truth.gradients(problem.graph, problem.leaves))
    return Row(
        family,
        variant,
        bounds.summary(tensors),
        round(evaluations / len(seeds), 1),
        round(seconds / len(seeds), 4),
        bounds.misses(tensors, SHOWN),
    )


def rows(seeds: range) -> Iterator[Row]:
    """Measure and print, row by row."""
    print(HEADER)
    for family, variant in families.CELLS:
        row = measured(family, variant, seeds)
        print(row, *(f"    {each}" for each in row.misses), sep="\n", flush=True)
        yield row


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**6 % 2**32, help="of the first problem")
    parser.add_argument("--problems", type=int, default=20, help="problems of each family and variant")
    return parser.parse_args()


def main() -> None:
    """Print the table and write it to benchmarks/results/coverage.json."""
    arguments = asked()
    print(f"--seed {arguments.seed} --problems {arguments.problems}")
    found = list(rows(range(arguments.seed, arguments.seed + arguments.problems)))
    result = {
        "seed": arguments.seed,
        "problems": arguments.problems,
        "rows": [row.entry() for row in found],
        "digits_of_the_truth": truth.DIGITS,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "mpmath": mpmath.__version__},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "coverage.json").write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
