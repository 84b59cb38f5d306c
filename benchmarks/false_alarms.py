"""False alarms and misses on fresh problems, beside other checkers: `make alarms`.

Correct gradients and wrong ones, by the cells of `tests/alarms`. A false alarm is a problem of which a checker refuses
the correct gradient, a miss one of which it accepts a gradient with an error planted in one element that matters. The
seed is printed, and `--seed` repeats a run. The tests do the same for the service alone, on fixed seeds.
"""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch

from benchmarks import alarm_tables, saved_results
from benchmarks.checkers import CHECKERS, SCIPY_THRESHOLD
from benchmarks.machine_info import describe_machine, list_versions
from service.numerics.verdict.outcome import Outcome
from tests.alarms import judged_cells
from tests.alarms.planted_errors import plant_errors
from tests.alarms.problem_cells import (
    CELLS,
    EXTENDED_SOURCE,
    NARROW_SOURCES,
    WIDE_SOURCES,
    Gradients,
    Leaves,
    draw_problem,
)

DTYPE_BY_ARITHMETIC = {"FP64": "float64", "FP32": "float32"}
SERVICE_PROBLEMS = 100
PROBLEMS_BY_CHECKER = {"torch gradcheck": 10, "jax check_vjp": 100, "autograd check_grads": 30, "scipy check_grad": 20}
"""Problems of each cell, by checker: as many as take a minute or two, a hundred at most."""


@dataclass
class CheckerCounts:
    """Correct gradients and wrong ones of a cell, and how many of them a checker mistook."""

    correct: int = 0
    alarms: int = 0
    wrong: int = 0
    misses: int = 0

    def add(self, accepted: bool, correct: bool) -> None:
        """Count what a checker says of one gradient."""
        if correct:
            self.correct += 1
            self.alarms += not accepted
        else:
            self.wrong += 1
            self.misses += accepted


def count_service_alarms(model: str, variant: str, seeds: Iterable[int]) -> dict[str, Any]:
    """The service: counts by arithmetic, and the part of the correct tensors that it decides on."""
    judged_tensors = [tensor for seed in seeds for tensor in judged_cells.judge_problem(model, variant, seed)]
    counts = {source.arithmetic: CheckerCounts() for source in (*WIDE_SOURCES, *NARROW_SOURCES)}
    for (_, source, kind), tensors in groupby(
        judged_tensors, lambda tensor: (str(tensor.problem), tensor.source, tensor.kind)
    ):
        outcome = max(tensor.verdict.outcome for tensor in tensors)
        accepted = outcome == Outcome.PASS if kind else outcome != Outcome.FAIL
        counts[source.split()[0]].add(accepted, kind is None)
    decided = {
        name: part
        for name in counts
        if (part := judged_cells.compute_decided_fraction(judged_tensors, name)) is not None
    }
    return {"counts": {name: asdict(count) for name, count in counts.items()}, "decided": decided}


def count_checker_alarms(model: str, variant: str, seeds: range) -> dict[str, Any]:
    """The other checkers, each on as many of the problems as it has time for."""
    counts = {name: {arithmetic: CheckerCounts() for arithmetic in DTYPE_BY_ARITHMETIC} for name in CHECKERS}
    for number, seed in enumerate(seeds):
        leaves = draw_problem(model, variant, seed)[1]
        for arithmetic, correct, masks in _make_candidates(model, leaves, number):
            for name in (name for name, most in PROBLEMS_BY_CHECKER.items() if number < most):
                accepted = CHECKERS[name](model, leaves, masks, DTYPE_BY_ARITHMETIC[arithmetic])
                counts[name][arithmetic].add(accepted, correct)
    return {
        name: {arithmetic: asdict(count) for arithmetic, count in by_arithmetic.items()}
        for name, by_arithmetic in counts.items()
    }


def _make_candidates(model: str, leaves: Leaves, number: int) -> Iterator[tuple[str, bool, Leaves]]:
    """In each arithmetic a correct gradient and a wrong one, as masks; kinds of errors take turns."""
    generator = np.random.default_rng(number)
    exact, extended = (
        source.compute_gradients(model, leaves, generator) for source in (WIDE_SOURCES[0], EXTENDED_SOURCE)
    )
    assert exact is not None
    assert extended is not None
    right = {name: np.ones(array.shape) for name, array in exact.items()}
    for arithmetic in DTYPE_BY_ARITHMETIC:
        yield arithmetic, True, right
        errors = list(plant_errors(arithmetic, exact, extended, generator))
        yield from ((arithmetic, False, _plant_error(error, right)) for error in errors[number % 4 : number % 4 + 1])


def _plant_error(error: Any, right: Gradients) -> Gradients:
    return right | {error.name: error.make_mask(right[error.name].shape)}


def measure_document(seed: int, problems: int = SERVICE_PROBLEMS) -> Mapping[str, Any]:
    """Measure, on so many problems of each cell at most."""
    cells: dict[str, Any] = {}
    for model, variant in CELLS:
        print(f"{model}, {variant} ...", file=sys.stderr, flush=True)
        cells[f"{model}, {variant}"] = {
            "ours": count_service_alarms(model, variant, range(seed, seed + problems)),
            "others": count_checker_alarms(
                model, variant, range(seed, seed + min(problems, max(PROBLEMS_BY_CHECKER.values())))
            ),
        }
    measured = list_versions(("numpy", "scipy", "torch", "jax", "autograd"))
    return {
        "seed": seed,
        "threshold": SCIPY_THRESHOLD,
        "cells": cells,
        "machine": describe_machine(),
        "versions": measured,
    }


def main() -> None:
    """Print the tables and keep them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.false_alarms", description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**6 % 2**32, help="of the first problem")
    parser.add_argument(
        "--problems", type=int, default=SERVICE_PROBLEMS, help="of each cell; of fewer than all nothing is kept"
    )
    given = parser.parse_args()
    seed = given.seed
    print(f"--seed {seed}", flush=True)
    # autograd draws directions from NumPy's global generator; gradcheck warns of whatever is not float64.
    np.random.seed(seed % 2**32)  # noqa: NPY002
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    document = measure_document(seed, given.problems)
    text = alarm_tables.write_markdown(document)
    print(text)
    if given.problems == SERVICE_PROBLEMS:
        saved_results.save_results("false_alarms", document, text, text)


if __name__ == "__main__":
    main()
