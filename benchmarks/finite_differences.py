"""The finite-difference stage beside its peers: `make bench`.

Targets and peers are those of the issue that asked for the engine. `--quick` takes fewer turns, `--problems S0,S1` a
part (`growth` is the second table); either prints only, and what is kept under results/ and quoted in the README stays
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

from benchmarks import growth, kept, tables
from benchmarks.contenders import adaptive, central, peer, torch_slow_extrapolated
from benchmarks.machine import machine, versions
from benchmarks.measuring import LIMIT, QUICK, Contender, OutOfTimeError, Patience, in_turns, share, warm
from benchmarks.memory import extra_bytes
from benchmarks.peers import PEERS, NotApplicableError
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.tables import TORCH_SLOW

TOO_LONG = f"> {LIMIT:g} s"
EXTRAPOLATED = "S3"
"""Where gradcheck would take half an hour."""
EVERYTHING = (*PROBLEMS, "growth")


class Peers:
    """Peers as they do from one size to the next."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._slowest: dict[str, tuple[int, float]] = {}

    def ready(self, problem: Problem, row: str) -> Contender | str:
        """Set a peer up and warm it; or say why it does not take part."""
        if self._expected(problem, row) > LIMIT:
            return TOO_LONG
        try:
            contender = self._contender(problem, row)
            warm(contender, self._patience)
        except NotApplicableError:
            return "-"
        except ImportError:
            return "not installed"
        except OutOfTimeError:
            self._remember(problem, row, LIMIT)
            return TOO_LONG
        return contender

    def _contender(self, problem: Problem, row: str) -> Contender:
        if row == TORCH_SLOW and problem.name == EXTRAPOLATED:
            return torch_slow_extrapolated(problem, row)
        return peer(problem, row, PEERS[row](problem))

    def _expected(self, problem: Problem, row: str) -> float:
        """Seconds at the least: those of the next smaller size, times the scalars of this one over those of that.

        Each of the scalars takes as long as before, and longer, the function being larger.
        """
        if problem.structure is None or row not in self._slowest or (problem.name, row) == (EXTRAPOLATED, TORCH_SLOW):
            return 0.0
        scalars, seconds = self._slowest[row]
        return seconds * problem.flat.size / scalars

    def remember(self, problem: Problem, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Take note of how long each took."""
        for row in PEERS.keys() & rows.keys():
            if problem.structure is not None and rows[row].get("seconds") is not None:
                self._remember(problem, row, rows[row]["seconds"])

    def _remember(self, problem: Problem, row: str, seconds: float) -> None:
        self._slowest[row] = (problem.flat.size, seconds)


def measured(problem: Problem, peers: Peers, patience: Patience) -> dict[str, Any]:
    """All rows of one problem."""
    found = {row: peers.ready(problem, row) for row in PEERS}
    own = [central(problem), adaptive(problem)]
    for each in own:
        warm(each, patience)
    taking_part = [each for each in found.values() if isinstance(each, Contender)]
    in_turns([*taking_part, *own])
    rows: dict[str, Any] = {row: {"note": each} for row, each in found.items() if isinstance(each, str)}
    rows |= {row: figures for each in [*taking_part, *own] for row, figures in each.rows}
    peers.remember(problem, rows)
    rows = {row: rows[row] for row in (*PEERS, *tables.OURS)}
    return {"description": problem.description, "scalars": problem.flat.size, "rows": rows}


def extrapolated_too(problem: Problem, patience: Patience) -> float:
    """What the extrapolation would have said where the whole was measured."""
    contender = torch_slow_extrapolated(problem, TORCH_SLOW)
    warm(contender, patience)
    in_turns([contender])
    return dict(contender.rows)[TORCH_SLOW]["seconds"]


def memory() -> dict[str, Any] | None:
    found = {method: extra_bytes(EXTRAPOLATED, method) for method in ("central", "adaptive")}
    return None if None in found.values() else {"problem": EXTRAPOLATED, "bytes": found}


def document(names: Sequence[str], patience: Patience) -> dict[str, Any]:
    """Measure."""
    peers = Peers(patience)
    problems: dict[str, Any] = {}
    for name in filter(names.__contains__, PROBLEMS):
        print(f"{name} ...", file=sys.stderr, flush=True)
        problems[name] = measured(PROBLEMS[name](), peers, patience)
    if "S2" in problems:
        problems["S2"]["extrapolated_slow"] = extrapolated_too(PROBLEMS["S2"](), patience)
    result: dict[str, Any] = {"problems": problems, "machine": machine(), "versions": versions()}
    if "growth" in names:
        print("growth ...", file=sys.stderr, flush=True)
        result["growth"] = growth.measured(patience)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer turns; prints only")
    parser.add_argument("--problems", default=",".join(EVERYTHING), help="which, with commas; prints only unless all")
    options = parser.parse_args()
    names = options.problems.split(",")
    if not set(names) <= set(EVERYTHING):
        parser.error(f"the problems are {', '.join(EVERYTHING)}")
    torch.set_num_threads(1)
    part, found = share(lambda: document(names, QUICK if options.quick else Patience()))
    found["share"] = round(part, 3)
    if EXTRAPOLATED in names:
        found["memory"] = memory()
    print(tables.whole(found))
    if names == list(EVERYTHING) and not options.quick:
        kept.keep("finite_differences", found, tables.whole(found), tables.speed(found))


if __name__ == "__main__":
    main()
