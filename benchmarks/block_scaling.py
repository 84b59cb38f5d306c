"""Cost against size, for a transformer block of up to a million weights: `python -m benchmarks.block_scaling`.

A check along a joint direction, a check of all elements as far as the default limits take it, and torch's gradcheck
in both modes. Seconds are processor time of one thread, medians of turns.
"""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks import saved_results, tables
from benchmarks.contenders import make_unlimited
from benchmarks.fast_mode_problems import FastModeProblem, make_block
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.timing import (
    Contender,
    MeasuringBudget,
    make_process_contender,
    measure_cpu_share,
    run_in_turns,
    warm_up,
)
from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph.check import check

WIDTHS = (16, 32, 64, 128, 192, 288)
"""The last has 997,920 weights."""
JOINT, FULL = "joint direction", "all elements"
FAST, SLOW = "torch gradcheck, fast mode", "torch gradcheck, slow"
MAX_SLOW_SCALARS = 15_000
"""Scalars up to which gradcheck's slow mode takes part: with 50,000 it takes a minute."""
FITTED_SIZES = 3
"""Sizes that an exponent is fitted to, the largest of each: what is smaller is mostly the cost of calls."""
_LONG = 10.0**6
"""Seconds of the limit of time, which a loaded machine would meet otherwise."""


def measure_width(width: int, budget: MeasuringBudget) -> dict[str, Any]:
    """Figures of every contender at one width, in turns."""
    problem = make_block(width)
    contenders = [*_iterate_contenders(problem)]
    for contender in contenders:
        warm_up(contender, budget)
    run_in_turns(contenders)
    rows = {row: figures for contender in contenders for row, figures in contender.rows}
    return {"width": width, "scalars": _count_scalars(problem), "rows": rows}


def _count_scalars(problem: FastModeProblem) -> int:
    return sum(array.size for array in problem.inputs.values())


def _iterate_contenders(problem: FastModeProblem) -> Iterator[Contender]:
    yield make_process_contender(FAST, problem.prepare_gradcheck(fast=True))
    if _count_scalars(problem) <= MAX_SLOW_SCALARS:
        yield make_process_contender(SLOW, problem.prepare_gradcheck(fast=False))
    joint = {**problem.request, "finite_difference": {"projections": 1}}
    yield make_process_contender(JOINT, lambda: check(joint, make_unlimited()), _read_report)
    if is_within_limits(problem):
        limits = replace(Limits(), seconds=_LONG)
        yield make_process_contender(FULL, lambda: check(problem.request, limits), _read_report)


def is_within_limits(problem: FastModeProblem) -> bool:
    """Whether the default limits take a check of all elements; one that they take is stopped once it has begun."""

    def stop(*_: object) -> None:
        raise InterruptedError

    try:
        check(problem.request, progress=stop)
    except InvalidRequestError:
        return False
    except InterruptedError:
        return True
    raise AssertionError("a check without progress")


def _read_report(report: Mapping[str, Any]) -> Mapping[str, Any]:
    if report["outcome"] != "pass":
        raise AssertionError(report["summary"])
    return {"evaluations": report["cost"]["loss_evaluations"]}


def fit_exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of the least-squares line through the logarithms of (size, seconds), of the largest sizes; None for one."""
    if len(points) < 2:
        return None
    sizes, seconds = np.log(sorted(points)[-FITTED_SIZES:]).T
    return float(np.polyfit(sizes, seconds, 1)[0])


def write_markdown(document: Mapping[str, Any]) -> str:
    """Times, a line for each size, and the exponents."""
    entries: Sequence[Mapping[str, Any]] = document["widths"]
    names = [name for name in (FAST, JOINT, SLOW, FULL) if any(name in entry["rows"] for entry in entries)]
    lines = [
        [str(entry["width"]), f"{entry['scalars']:,}", *(_format_time(entry["rows"].get(name)) for name in names)]
        for entry in entries
    ]
    exponents = [_format_exponent(entries, name) for name in names]
    evaluations = [_format_evaluations(entries, name) for name in names]
    table = tables.write_table(
        ["width", "weights", *names],
        [*lines, ["exponent", "", *exponents], ["evaluations", "", *evaluations]],
    )
    note = tables.wrap_prose(
        "Medians of turns, one thread on one core, warm; what took more than 5 s ran once. Seconds are processor "
        f"time; the run had its core for {100 * document['cpu_share']:.0f} % of the time by the clock. Time grows as "
        f"the number of weights to the power of the exponent, fitted to the {FITTED_SIZES} largest sizes of each, or "
        "to both. The evaluations are those of the loss at the largest size. A check of all elements takes part as "
        "far as the default limits go, and gradcheck's slow mode up to "
        f"{MAX_SLOW_SCALARS:,} weights."
    )
    return "\n\n".join([table, note, tables.describe_origin(document)]) + "\n"


def _format_time(figures: Mapping[str, Any] | None) -> str:
    return "-" if figures is None else tables.format_duration(figures["seconds"])


def _format_exponent(entries: Sequence[Mapping[str, Any]], name: str) -> str:
    exponent = fit_exponent(
        [(entry["scalars"], entry["rows"][name]["seconds"]) for entry in entries if name in entry["rows"]]
    )
    return "-" if exponent is None else f"{exponent:.2f}"


def _format_evaluations(entries: Sequence[Mapping[str, Any]], name: str) -> str:
    *_, last = (entry["rows"][name] for entry in entries if name in entry["rows"])
    return f"{last['evaluations']:,}" if "evaluations" in last else "-"


def main() -> None:
    """Print the table, and keep that of all sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.block_scaling", description=__doc__)
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)), help="which, with commas")
    parser.add_argument("--seconds", type=float, default=3.0, help="for one contender")
    options = parser.parse_args()
    torch.set_num_threads(1)
    widths, budget = [int(width) for width in options.widths.split(",")], MeasuringBudget(options.seconds, 3, 100)
    share, entries = measure_cpu_share(lambda: [measure_width(width, budget) for width in widths])
    origin = {"machine": describe_machine(), "versions": list_versions(("numpy", "scipy", "torch"))}
    document = {"widths": entries, "cpu_share": round(share, 2), **origin}
    print(write_markdown(document))
    if widths == [*WIDTHS]:
        text = write_markdown(document)
        saved_results.save_results("block_scaling", document, text, text)


if __name__ == "__main__":
    main()
