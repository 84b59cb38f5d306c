"""Kernels in low precision, right ones and wrong ones, beside the rules of their tests: `make alarms`.

Kernels that accumulate in single precision and round where kernels do are emulated apart from the service, and judged
by the recipes that their authors would write, and by plain names. The seed is printed, and `--seed` repeats a run.
"""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

import gradcheckd
from benchmarks import low_precision_tables, saved_results
from benchmarks.low_precision_counts import count_trials, list_exceptions
from benchmarks.low_precision_formats import FORMATS
from benchmarks.low_precision_presets import NARROW_DTYPES, count_preset_outcomes
from benchmarks.low_precision_trials import (
    KERNEL_COUNT,
    KERNELS,
    Bench,
    Trial,
    iterate_problems,
    parse_arguments,
    run_trials,
    to_arrays,
)
from benchmarks.machine_info import describe_machine, list_versions

TIMED_PROBLEMS = 2


def run_all_trials(arithmetic: str, kernels: int, seed: int) -> Iterator[Trial]:
    """Judge so many right kernels of an arithmetic, families in turns, and wrong ones beside them."""
    for kernel, problem_seed in iterate_problems(kernels, seed):
        yield from run_trials(arithmetic, kernel, problem_seed)


def measure_time_ratio(arithmetic: str, seed: int) -> float:
    """Return the median time of a check by a recipe, over that of the same model in float64."""
    benches = [
        Bench(kernel, FORMATS[arithmetic], seed + number) for kernel in KERNELS for number in range(TIMED_PROBLEMS)
    ]
    return statistics.median(_time_check(bench, narrow=True) / _time_check(bench, narrow=False) for bench in benches)


def _time_check(bench: Bench, *, narrow: bool) -> float:
    """Return the processor time of a check of right gradients, the shorter of two."""
    gradients = bench.run(None) if narrow else bench.exact
    times: list[float] = []
    for _ in range(2):
        started = time.process_time()
        gradcheckd.check(
            tensors=to_arrays(bench.problem.tensors),
            weights=to_arrays({name: tensor.double() for name, tensor in bench.problem.weights.items()}),
            model=bench.model,
            candidate=to_arrays(gradients),
            candidate_dtype=bench.recipe if narrow else None,
            include=[],
        )
        times.append(time.process_time() - started)
    return min(times)


def measure_document(seed: int, kernels: int = KERNEL_COUNT) -> Mapping[str, Any]:
    """Measure all arithmetics."""
    trials: list[Trial] = []
    for arithmetic in FORMATS:
        print(f"{arithmetic} ...", file=sys.stderr, flush=True)
        trials += run_all_trials(arithmetic, kernels, seed)
    return make_document(seed, kernels, trials)


def make_document(seed: int, kernels: int, trials: Sequence[Trial]) -> Mapping[str, Any]:
    """Return the counts of trials, with times and the verdicts on the service's own gradients."""
    ratios = {arithmetic: measure_time_ratio(arithmetic, seed) for arithmetic in FORMATS}
    return {
        "seed": seed,
        "kernels": kernels,
        "arithmetics": count_trials(trials),
        "exceptions": list_exceptions(trials),
        "time_ratios": ratios,
        "presets": {dtype: count_preset_outcomes(dtype) for dtype in NARROW_DTYPES},
        "machine": describe_machine(),
        "versions": list_versions(("numpy", "torch")),
    }


def main() -> None:
    """Print the tables and keep them."""
    given = parse_arguments("low_precision", __doc__)
    torch.set_num_threads(1)
    document = measure_document(given.seed, given.kernels)
    text = low_precision_tables.write_markdown(document)
    print(text)
    if given.kernels >= KERNEL_COUNT:
        saved_results.save_results("low_precision", document, text, text)


if __name__ == "__main__":
    main()
