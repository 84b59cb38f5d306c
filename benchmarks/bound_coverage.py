"""Whether the error bounds of the differences are true, on fresh problems: `make bounds`.

Every family of problems in every variant (`tests/problem_families.py`) is differenced and held against its gradient in
hundreds of digits (`tests/truth`). A bound is true where abs(difference - truth) is no more. The seed is printed, and
`--seed` repeats a run. The tests do the same on fixed seeds.

The differences of a black box are held against the truth where they are hardest to bound: beside singularities of each
kind (`tests/singular_losses.py`), with the right gradient as the candidate.
"""

import argparse
import dataclasses
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from typing import Any

import mpmath
import numpy as np

from benchmarks import saved_results
from benchmarks.tables import wrap_prose, write_table
from service.numerics.gradients import finite_difference
from tests import bound_comparison, problem_families, singular_losses, truth

SINGULAR_PROBLEMS = 50
MAX_SHOWN_MISSES = 3
HEADER = (
    "family        variant     elements  unbounded   covered  worst miss  decided"
    "  median bound  99 % below  evaluations  seconds"
)


@dataclasses.dataclass(frozen=True)
class CoverageRow:
    """One family in one variant; evaluations of the loss and seconds of the differences are those of one problem."""

    family: str
    variant: str
    summary: bound_comparison.BoundSummary
    evaluations: float
    seconds: float
    misses: list[str]

    def __str__(self) -> str:
        each = self.summary
        return (
            f"{self.family:13} {self.variant:10} {each.elements:9} {each.unbounded:10} {each.covered:9.4%} "
            f"{each.worst:11.3g} {each.decided:8.2%} {each.median:13.2g} {each.high:11.2g} "
            f"{self.evaluations:12.0f} {self.seconds:8.3f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity."""
        numbers = {**dataclasses.asdict(self.summary), "evaluations": self.evaluations, "seconds": self.seconds}
        finite = {name: each if math.isfinite(each) else str(each) for name, each in numbers.items()}
        return {"family": self.family, "variant": self.variant, **finite, "misses": self.misses}


def measure_row(family: str, variant: str, seeds: range) -> CoverageRow:
    tensors: list[bound_comparison.BoundComparison] = []
    evaluations, seconds = 0, 0.0
    for seed in seeds:
        problem = problem_families.draw_problem(family, variant, seed)
        started = time.perf_counter()
        found = finite_difference.differentiate_numerically(problem.graph, problem.leaves, problem.names, seed=seed)
        seconds += time.perf_counter() - started
        evaluations += sum(each.evaluations for each in found.values())
        tensors += bound_comparison.compare_to_truth(
            problem, found, truth.compute_gradients(problem.graph, problem.leaves)
        )
    return CoverageRow(
        family,
        variant,
        bound_comparison.summarize_bounds(tensors),
        round(evaluations / len(seeds), 1),
        round(seconds / len(seeds), 4),
        bound_comparison.describe_misses(tensors, MAX_SHOWN_MISSES),
    )


def measure_rows(seeds: range) -> Iterator[CoverageRow]:
    """Measure and print, row by row."""
    print(HEADER)
    for family, variant in problem_families.CELLS:
        row = measure_row(family, variant, seeds)
        print(row, *(f"    {each}" for each in row.misses), sep="\n", flush=True)
        yield row


def measure_singular_rows(seeds: range) -> list[dict[str, Any]]:
    """Count the lines of a black box beside singularities, by kind and variant."""
    rows: list[dict[str, Any]] = []
    for variant in singular_losses.VARIANTS:
        for kind in singular_losses.SINGULARITIES:
            lines = [line for seed in seeds for line in singular_losses.judge_right_gradient(kind, variant, seed)]
            misses = sorted((line for line in lines if line.is_false), key=lambda line: -line.error / line.bound)
            rows.append(
                {
                    "variant": variant,
                    "kind": kind,
                    **singular_losses.count_lines(lines),
                    "misses": [line.description for line in misses[:MAX_SHOWN_MISSES]],
                }
            )
            print(*rows[-1].values(), flush=True)
    return rows


def write_markdown(document: Mapping[str, Any]) -> str:
    """Write the table that a document quotes."""
    counts = ("lines", "bounded", "false", "passed", "failed")
    rows = [
        [
            variant,
            *(
                f"{sum(row[count] for row in document['singular_rows'] if row['variant'] == variant):,}"
                for count in counts
            ),
        ]
        for variant in singular_losses.VARIANTS
    ]
    head = ["beside singularities", "lines", "with a bound", "bound false", "right pass", "right fail"]
    kinds = ", ".join(singular_losses.SINGULARITIES)
    origin = (
        f"{document['singular_problems']} problems for each of {len(singular_losses.SINGULARITIES)} kinds ({kinds}), "
        f"each element at a distance of 1e-12 to 0.1 of the scale; seed {document['seed']}."
    )
    return "\n\n".join([write_table(head, rows), wrap_prose(origin)]) + "\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bound_coverage", description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**6 % 2**32, help="of the first problem")
    parser.add_argument("--problems", type=int, default=20, help="problems of each family and variant")
    parser.add_argument(
        "--singular", type=int, default=SINGULAR_PROBLEMS, help="problems of each kind of singularity and variant"
    )
    return parser.parse_args()


def main() -> None:
    """Print the tables, and write them to benchmarks/results/coverage.json and the documents."""
    arguments = parse_arguments()
    print(f"--seed {arguments.seed} --problems {arguments.problems} --singular {arguments.singular}")
    found = list(measure_rows(range(arguments.seed, arguments.seed + arguments.problems)))
    result = {
        "seed": arguments.seed,
        "problems": arguments.problems,
        "rows": [row.to_dict() for row in found],
        "singular_problems": arguments.singular,
        "singular_rows": measure_singular_rows(range(arguments.seed, arguments.seed + arguments.singular)),
        "digits_of_the_truth": truth.DIGITS,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "mpmath": mpmath.__version__},
    }
    text = write_markdown(result)
    print(text)
    saved_results.save_results("coverage", result, text, text)


if __name__ == "__main__":
    main()
