"""Few evaluations first: how often they suffice, and whether misses are as rare as reports state: `make few`.

A thousand functions of each cell of `benchmarks.few_trials`, with right gradients and with planted errors. An error is
missed if the gradient passes at last, at the first look or with all evaluations. The stated probability is that of the
report on the right gradient; a right gradient that is inconclusive states nothing. The seed is
printed, and `--seed` repeats a run. Every thousandth trial goes through a service, too, by the client.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from scipy.special import bdtrc

from benchmarks import saved_results
from benchmarks.few_trials import CELLS, ERROR_KINDS, NAME, SCALE_ERROR, SIGN_ERROR, Cell, Procedure, Trial, draw_trial
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.tables import describe_origin, wrap_prose, write_table
from gradcheckd import BlackBoxReport, Service
from gradcheckd.signatures import FunctionParameters
from service.numerics.verdict.outcome import Outcome

TRIALS = 1000
SERVED_FRACTION = 1000
"""Trials, of which one goes through a service."""
OUTPUT = "y"


@dataclass
class MissCounts:
    """Planted errors of one kind, the sum of their stated miss probabilities, and how many passed."""

    trials: int = 0
    stated: float = 0.0
    missed: int = 0

    @property
    def tail_probability(self) -> float:
        """Return the probability of as many misses or more if the stated probabilities are true, at most.

        A sum of trials with different probabilities exceeds a number above its mean more rarely than a binomial one
        with the same mean (Hoeffding 1956).
        """
        if not self.missed:
            return 1.0
        return float(bdtrc(self.missed - 1, self.trials, min(1.0, self.stated / self.trials)))


@dataclass
class CellCounts:
    """Counts of one cell.

    Attributes
    ----------
    trials
        Right gradients.
    first_passes
        Right gradients that pass at the first look.
    outcomes
        Right gradients by their outcome at last.
    evaluations
        Evaluations of all right gradients.
    full_evaluations
        Evaluations without a first look.
    misses
        Planted errors by kind.
    unstated_misses
        Wrong gradients that pass where the report on the right one states nothing.
    """

    trials: int = 0
    first_passes: int = 0
    outcomes: dict[str, int] = field(default_factory=lambda: {outcome.name: 0 for outcome in Outcome})
    evaluations: int = 0
    full_evaluations: int = 0
    misses: dict[str, MissCounts] = field(default_factory=lambda: {kind: MissCounts() for kind in ERROR_KINDS})
    unstated_misses: int = 0

    def add_right(self, procedure: Procedure, full_evaluations: int) -> None:
        """Count a right gradient."""
        self.trials += 1
        self.first_passes += procedure.is_first
        self.outcomes[procedure.outcome.name] += 1
        self.evaluations += procedure.evaluations
        self.full_evaluations += full_evaluations

    def add_wrong(self, kind: str, stated: float | None, *, is_missed: bool) -> None:
        """Count a wrong gradient; `stated` is None where nothing is stated."""
        if stated is None:
            self.unstated_misses += is_missed
            return
        counts = self.misses[kind]
        counts.trials += 1
        counts.stated += stated
        counts.missed += is_missed


def count_cell(cell: Cell, seeds: Iterable[int]) -> CellCounts:
    """Count right and wrong gradients of a cell."""
    counts = CellCounts()
    for seed in seeds:
        trial = draw_trial(cell, seed)
        right = trial.run(trial.gradient)
        counts.add_right(right, trial.layout.evaluation_count)
        if not trial.gradient.any():
            continue
        for kind in ERROR_KINDS:
            sought = SIGN_ERROR if kind == "sign" else None
            stated = _find_stated_probability(kind, trial.run(trial.gradient, sought) if sought else right)
            if kind == "norm" and stated is None:
                continue
            wrong = trial.plant_error(kind, right.limit.relative_l2)
            counts.add_wrong(kind, stated, is_missed=trial.passes(wrong, sought))
    return counts


def _find_stated_probability(kind: str, right: Procedure) -> float | None:
    """Return the miss probability that the report on the right gradient states; None if it states none."""
    if right.outcome != Outcome.PASS:
        return None
    if kind in ("element", "sign"):
        return right.single_miss_probability
    limit = right.limit
    is_stated = limit.relative_l2 <= SCALE_ERROR if kind == "all" else math.isfinite(limit.relative_l2)
    return limit.probability if is_stated else None


def find_differences(service: Service, trial: Trial) -> list[str]:
    """Return how a trial differs from the same check by a service, of the right and of a wrong gradient, in lines."""
    wrong = trial.plant_error("norm", trial.run(trial.gradient).limit.relative_l2)
    differences: list[str] = []
    for label, gradient in (("right", trial.gradient), ("wrong", wrong)):
        ours, report = trial.run(gradient), _check_by_service(service, trial, gradient)
        missed = next(iter(report.verdicts.values())).missed or {}
        served = report.outcome, report.evaluations, missed["relative_l2"], missed["single_element"]["probability"]
        called = ours.outcome.name.lower(), ours.evaluations, ours.limit.relative_l2, ours.single_miss_probability
        # A client goes round again where the function has a kink, which a trial does not.
        if served != called if report.rounds == 1 else called[0] != "inconclusive":
            differences.append(f"{trial.cell}, seed {trial.seed}, {label}: {served} by the service, {called} here")
    return differences


def _check_by_service(service: Service, trial: Trial, gradient: Any) -> BlackBoxReport:
    evaluate, options = trial.function.evaluate, FunctionParameters(seed=trial.seed, evaluations="few")
    options["relative_error"] = trial.element_error
    if trial.cell.has_outputs:
        options |= {"vjp": {OUTPUT: {NAME: gradient}}, "cotangents": trial.cotangent}
        return service.check_function(evaluate, trial.point, None, **options)
    return service.check_function(lambda point: evaluate(point)[0], trial.point, gradient, **options)


def measure_document(seed: int, trials: int = TRIALS, processes: int = 1) -> dict[str, Any]:
    """Measure so many trials of each cell, and some of them by a service."""
    seeds = range(seed, seed + trials)
    with ProcessPoolExecutor(processes) as pool:
        counts = dict(
            zip(map(str, CELLS), _show_progress(pool.map(partial(count_cell, seeds=seeds), CELLS)), strict=True)
        )
    with Service() as service:
        served = [draw_trial(cell, number) for cell in CELLS for number in seeds[::SERVED_FRACTION]]
        differences = [line for trial in served for line in find_differences(service, trial)]
    return {
        "seed": seed,
        "trials": trials,
        "cells": {name: asdict(cell) for name, cell in counts.items()},
        "served": len(served),
        "differences": differences,
        "machine": describe_machine(),
        "versions": list_versions(("numpy",)),
    }


def _show_progress(counts: Iterable[CellCounts]) -> Iterator[CellCounts]:
    for cell, cell_counts in zip(CELLS, counts, strict=True):
        print(cell, cell_counts, file=sys.stderr, flush=True)
        yield cell_counts


def write_markdown(document: Mapping[str, Any]) -> str:
    """Write the tables that a document quotes."""
    rights = [_describe_right(name, cell) for name, cell in document["cells"].items()]
    wrongs = [_describe_wrong(name, cell) for name, cell in document["cells"].items()]
    unstated = sum(cell["unstated_misses"] for cell in document["cells"].values())
    notes = [
        f"{document['trials']:,} functions a cell, of 1 to 29 inputs; a family, the datatype of point, values and "
        "gradient, and the number of outputs. Functions with several are judged by their vector-Jacobian product.",
        "Misses: wrong gradients that pass at last, and in brackets the sum of the probabilities that the reports "
        "state. One element is off by 1e-4 (FP32: 1e-2), all by 1e-3, one has the other sign (sought with a "
        "`relative_error` of 2), or the error is of the size that the report names, in a random direction.",
        f"{unstated} wrong gradients pass where the report on the right one states nothing.",
        f"{document['served']} trials went through a service too, with the right gradient and one with an error of the "
        f"stated size: {len(document['differences'])} differ in any digit.",
        f"`.venv/bin/python -m benchmarks.few_evaluations --seed {document['seed']}` measures the same again.",
    ]
    parts = [
        write_table(
            ["right gradients", "pass at first", "pass at last", "inconclusive", "fail", "evaluations"], rights
        ),
        write_table(["misses", "one element", "all", "sign", "stated size"], wrongs),
        "\n".join(wrap_prose(f"- {note}") for note in notes),
        describe_origin(document),
    ]
    return "\n\n".join(parts) + "\n"


def _describe_right(name: str, cell: Mapping[str, Any]) -> list[str]:
    trials, outcomes = cell["trials"], cell["outcomes"]
    shares = [cell["first_passes"], outcomes["PASS"], outcomes["INCONCLUSIVE"]]
    evaluations = f"{cell['evaluations'] / trials:.0f} of {cell['full_evaluations'] / trials:.0f}"
    return [name, *(f"{100 * share / trials:.1f} %" for share in shares), str(outcomes["FAIL"]), evaluations]


def _describe_wrong(name: str, cell: Mapping[str, Any]) -> list[str]:
    counts = [cell["misses"][kind] for kind in ERROR_KINDS]
    return [name, *(f"{count['missed']}/{count['trials']} ({count['stated']:.2g})" for count in counts)]


def main() -> None:
    """Print the tables and keep them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_evaluations", description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**6 % 2**32, help="of the first trial")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of each cell; of fewer than all nothing is kept")
    parser.add_argument("--processes", type=int, default=1, help="side by side")
    arguments = parser.parse_args()
    print(f"--seed {arguments.seed}", flush=True)
    document = measure_document(arguments.seed, arguments.trials, arguments.processes)
    text = write_markdown(document)
    print(text, *document["differences"], sep="\n")
    if arguments.trials == TRIALS:
        saved_results.save_results("few_evaluations", document, text, text)


if __name__ == "__main__":
    main()
