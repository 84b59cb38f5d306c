"""PyTorch's operator database as a suite of tests: right gradients, planted errors, and time: `make operators`.

`gradcheckd.torch.gradcheck` and `gradgradcheck`, with the service in this process, stand beside both modes of
`torch.autograd`'s checkers in one run. A gradient counts as right if torch's slow mode accepts it, in float64 where the
sample is in float32. Errors are planted in the first such sample of some operators. `--sections`, `--operators` and
`--step` run a part, of which nothing is kept. `--results` names a file for the results of each operator: a run that
ends early goes on from there, and several runs may measure a section each.
"""

from benchmarks import one_thread  # isort: skip # noqa: F401 - before anything that computes

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import saved_results
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.operator_checks import CHECKERS, FAST, OURS, PASS, SLOW, SampleResult, check_sample
from benchmarks.operator_samples import SECTIONS, Section, draw_samples, list_operators
from benchmarks.operator_store import OperatorResult, ResultStore
from benchmarks.operator_tables import write_markdown

ERROR_STEP = 3
"""Errors are planted in one operator of so many."""


class SectionCounts:
    """Counts of one section.

    Parameters
    ----------
    section
        The section.
    store
        Results that are known, to which others are added; none by default.
    """

    def __init__(self, section: Section, store: ResultStore | None = None) -> None:
        self._section, self._store = section, store or ResultStore(None)
        self._operators: Counter[str] = Counter()
        self._samples: list[SampleResult] = []
        self._failed_draws: dict[str, str] = {}

    def add_operator(self, operator: Any, seed: int, *, has_errors: bool) -> None:
        """Count the samples of an operator."""
        result = self._store.get(self._section.name, operator.formatted_name)
        if result is None:
            result = measure_operator(operator, self._section, seed, has_errors=has_errors)
            self._store.add(self._section.name, result)
        self._operators["all"] += 1
        self._operators["small"] += bool(result.samples)
        self._samples += result.samples
        if result.failed_draw:
            self._failed_draws[result.name] = result.failed_draw

    def write_document(self) -> dict[str, Any]:
        """Return the counts for a document."""
        accepted = [sample for sample in self._samples if not sample.refused_by_torch]
        ours = {sample.name: sample.rights[OURS] for sample in accepted}
        ratios = {mode: [sample.ratios[mode] for sample in accepted if sample.ratios] for mode in (SLOW, FAST)}
        return {
            "operators": self._operators["all"],
            "operators_with_small_samples": self._operators["small"],
            "failed_draws": self._failed_draws,
            "samples": len(self._samples),
            "refused_by_torch": [sample.name for sample in self._samples if sample.refused_by_torch],
            "accepted": len(accepted),
            "passes": {name: sum(sample.rights[name].outcome == PASS for sample in accepted) for name in CHECKERS},
            "others": {
                outcome: {name: judged.reason for name, judged in ours.items() if judged.outcome == outcome}
                for outcome in ("undecided", "refused", "error")
            },
            "planted": self._count_planted(accepted),
            "timed": len(ratios[SLOW]),
            "median_ratios": {mode: median(numbers) if numbers else None for mode, numbers in ratios.items()},
        }

    def _count_planted(self, samples: Sequence[SampleResult]) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        for sample in samples:
            for kind, outcomes in sample.planted.items():
                for checker, outcome in outcomes.items():
                    row = counts.setdefault(kind, {}).setdefault(checker, {"trials": 0, "undecided": 0, "missed": []})
                    row["trials"] += 1
                    row["undecided"] += outcome == "undecided"
                    row["missed"] += [sample.name] if outcome == PASS else []
        return counts


def measure_operator(operator: Any, section: Section, seed: int, *, has_errors: bool) -> OperatorResult:
    """Let all checkers judge the small samples of an operator; errors are planted in the first that passes."""
    try:
        samples = list(draw_samples(operator, section, seed))
    except Exception as error:  # noqa: BLE001 - of any kind: the database's own
        return OperatorResult(operator.formatted_name, failed_draw=f"{type(error).__name__}: {error}"[:100])
    results: list[SampleResult] = []
    for sample in samples:
        is_planted = any(result.planted for result in results)
        results.append(check_sample(sample, section, has_errors=has_errors and not is_planted))
    return OperatorResult(operator.formatted_name, results)


def measure_section(
    section: Section,
    seed: int,
    names: Sequence[str],
    error_step: int,
    store: ResultStore | None = None,
    step: int = 1,
) -> dict[str, Any]:
    """Measure a section: one operator in each step, of all or of those of some names."""
    counts = SectionCounts(section, store)
    for number, operator in enumerate(_show_progress(section, list_operators(section, names)[::step])):
        counts.add_operator(operator, seed, has_errors=number % error_step == 0)
    return counts.write_document()


def _show_progress(section: Section, operators: Sequence[Any]) -> Iterator[Any]:
    start = time.monotonic()
    for number, operator in enumerate(operators):
        yield operator
        if number % 50 == 49 or number == len(operators) - 1:
            seconds = time.monotonic() - start
            print(f"{section.name}: {number + 1} of {len(operators)}, {seconds:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    """Print the tables and keep them."""
    names = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator_database", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--sections", nargs="+", choices=names, default=names)
    parser.add_argument("--operators", nargs="+", default=[], help="names in the database; by default all")
    parser.add_argument("--error-step", type=int, default=ERROR_STEP, help="plant errors in one operator of so many")
    parser.add_argument("--step", type=int, default=1, help="take one operator of so many")
    parser.add_argument("--results", type=Path, help="file of the results by operator, to go on from")
    arguments = parser.parse_args()
    store = ResultStore(arguments.results)
    torch.set_num_threads(1)
    sections = {
        section.name: measure_section(
            section, arguments.seed, arguments.operators, arguments.error_step, store, arguments.step
        )
        for section in SECTIONS
        if section.name in arguments.sections
    }
    document = {
        "seed": arguments.seed,
        "error_step": arguments.error_step,
        "sections": sections,
        "machine": describe_machine(),
        "versions": list_versions(("numpy", "torch")),
    }
    text = write_markdown(document)
    print(text)
    if arguments.sections == names and not arguments.operators and arguments.step == 1:
        saved_results.save_results("operator_database", document, text, text)


if __name__ == "__main__":
    main()
