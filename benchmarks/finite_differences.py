"""The finite-difference stage beside its peers: `make bench`.

Targets and peers are those of the issue that asked for the engine. `--quick` takes fewer turns, `--problems S0,S1` a
part (`growth` is the second table); either prints only, and what is kept under results/ and quoted in docs/ stays
that of a full run.
"""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks import saved_results, size_scaling, tables
from benchmarks.contenders import extrapolate_torch_slow, make_adaptive, make_central, make_peer
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.memory import measure_extra_bytes
from benchmarks.peers import PEERS, NotApplicableError
from benchmarks.problems import PROBLEMS, BenchmarkProblem
from benchmarks.tables import TORCH_SLOW
from benchmarks.timing import (
    MAX_CPU_SECONDS,
    QUICK_BUDGET,
    Contender,
    MeasuringBudget,
    TimeLimitError,
    measure_cpu_share,
    run_in_turns,
    warm_up,
)

TOO_LONG = f"> {MAX_CPU_SECONDS:g} s"
EXTRAPOLATED_PROBLEM = "S3"
"""Where gradcheck would take half an hour."""
ALL_PROBLEMS = (*PROBLEMS, "growth")


class PeerTimings:
    """Peers as they do from one size to the next."""

    def __init__(self, patience: MeasuringBudget) -> None:
        self._budget = patience
        self._last_timings: dict[str, tuple[int, float]] = {}

    def prepare_contender(self, problem: BenchmarkProblem, row: str) -> Contender | str:
        """Set a peer up and warm it; or say why it does not take part."""
        if self._estimate_seconds(problem, row) > MAX_CPU_SECONDS:
            return TOO_LONG
        try:
            contender = self._make_contender(problem, row)
            warm_up(contender, self._budget)
        except NotApplicableError:
            return "-"
        except ImportError:
            return "not installed"
        except TimeLimitError:
            self._record_timing(problem, row, MAX_CPU_SECONDS)
            return TOO_LONG
        return contender

    def _make_contender(self, problem: BenchmarkProblem, row: str) -> Contender:
        if row == TORCH_SLOW and problem.name == EXTRAPOLATED_PROBLEM:
            return extrapolate_torch_slow(problem, row)
        return make_peer(problem, row, PEERS[row](problem))

    def _estimate_seconds(self, problem: BenchmarkProblem, row: str) -> float:
        """Seconds at the least: those of the next smaller size, times the scalars of this one over those of that.

        Each of the scalars takes as long as before, and longer, the function being larger.
        """
        if (
            problem.make_sparsity is None
            or row not in self._last_timings
            or (problem.name, row) == (EXTRAPOLATED_PROBLEM, TORCH_SLOW)
        ):
            return 0.0
        scalars, seconds = self._last_timings[row]
        return seconds * problem.flat_inputs.size / scalars

    def record_timings(self, problem: BenchmarkProblem, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Take note of how long each took."""
        for row in PEERS.keys() & rows.keys():
            if problem.make_sparsity is not None and rows[row].get("seconds") is not None:
                self._record_timing(problem, row, rows[row]["seconds"])

    def _record_timing(self, problem: BenchmarkProblem, row: str, seconds: float) -> None:
        self._last_timings[row] = (problem.flat_inputs.size, seconds)


def measure_problem(problem: BenchmarkProblem, peers: PeerTimings, patience: MeasuringBudget) -> dict[str, Any]:
    """All rows of one problem."""
    contenders = {row: peers.prepare_contender(problem, row) for row in PEERS}
    own = [make_central(problem), make_adaptive(problem)]
    for contender in own:
        warm_up(contender, patience)
    taking_part = [contender for contender in contenders.values() if isinstance(contender, Contender)]
    run_in_turns([*taking_part, *own])
    rows: dict[str, Any] = {row: {"note": note} for row, note in contenders.items() if isinstance(note, str)}
    rows |= {row: figures for contender in [*taking_part, *own] for row, figures in contender.rows}
    peers.record_timings(problem, rows)
    rows = {row: rows[row] for row in (*PEERS, *tables.SERVICE_ROWS)}
    return {"description": problem.description, "scalars": problem.flat_inputs.size, "rows": rows}


def measure_extrapolation(problem: BenchmarkProblem, patience: MeasuringBudget) -> float:
    """What the extrapolation would have said where the whole was measured."""
    contender = extrapolate_torch_slow(problem, TORCH_SLOW)
    warm_up(contender, patience)
    run_in_turns([contender])
    return dict(contender.rows)[TORCH_SLOW]["seconds"]


def measure_memory() -> dict[str, Any] | None:
    extra_bytes = {method: measure_extra_bytes(EXTRAPOLATED_PROBLEM, method) for method in ("central", "adaptive")}
    return None if None in extra_bytes.values() else {"problem": EXTRAPOLATED_PROBLEM, "bytes": extra_bytes}


def measure_document(names: Sequence[str], patience: MeasuringBudget) -> dict[str, Any]:
    """Measure."""
    peers = PeerTimings(patience)
    problems: dict[str, Any] = {}
    for name in filter(names.__contains__, PROBLEMS):
        print(f"{name} ...", file=sys.stderr, flush=True)
        problems[name] = measure_problem(PROBLEMS[name](), peers, patience)
    if "S2" in problems:
        problems["S2"]["extrapolated_slow"] = measure_extrapolation(PROBLEMS["S2"](), patience)
    result: dict[str, Any] = {"problems": problems, "machine": describe_machine(), "versions": list_versions()}
    if "growth" in names:
        print("growth ...", file=sys.stderr, flush=True)
        result["growth"] = size_scaling.measure_growth(patience)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer turns; prints only")
    parser.add_argument("--problems", default=",".join(ALL_PROBLEMS), help="which, with commas; prints only unless all")
    options = parser.parse_args()
    names = options.problems.split(",")
    if not set(names) <= set(ALL_PROBLEMS):
        parser.error(f"the problems are {', '.join(ALL_PROBLEMS)}")
    torch.set_num_threads(1)
    part, document = measure_cpu_share(
        lambda: measure_document(names, QUICK_BUDGET if options.quick else MeasuringBudget())
    )
    document["share"] = round(part, 3)
    if EXTRAPOLATED_PROBLEM in names:
        document["memory"] = measure_memory()
    print(tables.write_all_tables(document))
    if names == list(ALL_PROBLEMS) and not options.quick:
        saved_results.save_results(
            "finite_differences", document, tables.write_all_tables(document), tables.write_speed_tables(document)
        )


if __name__ == "__main__":
    main()
