"""Names of the bugs of kernels in low precision: sums in few digits told from other bugs. Part of `make alarms`."""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from benchmarks import saved_results
from benchmarks.low_precision_formats import FORMATS
from benchmarks.low_precision_kernels import ACCUMULATED_NARROWLY
from benchmarks.low_precision_trials import KERNEL_COUNT, Bench, iterate_problems, parse_arguments
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.tables import describe_origin, wrap_prose, write_table

LOW_PRECISION, UNKNOWN = "low_precision", "unknown"

Document = Mapping[str, Any]


def diagnose_kernels(arithmetic: str, kernels: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield the planted bug and the first name of each wrong gradient of so many kernels, families in turns."""
    for kernel, problem_seed in iterate_problems(kernels, seed):
        bench = Bench(kernel, FORMATS[arithmetic], problem_seed)
        for bug in kernel.bugs:
            for names in bench.diagnose(bench.run(bug)).values():
                yield bug, names[0]


def measure_document(seed: int, kernels: int = KERNEL_COUNT) -> Document:
    """Count the names that the bugs of all arithmetics have."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for arithmetic in FORMATS:
        counts[arithmetic] = {}
        for bug, name in diagnose_kernels(arithmetic, kernels, seed):
            counts[arithmetic].setdefault(bug, Counter())[name] += 1
    return {
        "seed": seed,
        "kernels": kernels,
        "arithmetics": counts,
        "machine": describe_machine(),
        "versions": list_versions(("numpy", "torch")),
    }


def write_markdown(document: Document) -> str:
    """Return the table that a document quotes."""
    rows = [_write_row(arithmetic, counts) for arithmetic, counts in document["arithmetics"].items()]
    head = ("", "sums in 16 bits", "called so", "unknown", "other bugs", "called sums in 16 bits", "named otherwise")
    wrongly = _list_wrongly_named(document)
    notes = (
        f"Wrong gradients of {document['kernels']} kernels of each arithmetic that fail, by their first explanation: "
        "sums in 16 bits are `low_precision`. Some bugs leave errors of the size and place of roundings: "
        f"{', '.join(f'{bug} ({part})' for bug, part in wrongly)}."
    )
    repeat = (
        f"`.venv/bin/python -m benchmarks.low_precision_diagnosis --seed {document['seed']} --kernels "
        f"{document['kernels']}` measures the same problems again."
    )
    return (
        "\n\n".join([write_table(head, rows), wrap_prose(notes), wrap_prose(repeat), describe_origin(document)]) + "\n"
    )


def _write_row(arithmetic: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    narrow = counts.get(ACCUMULATED_NARROWLY, {})
    others: Counter[str] = Counter()
    for bug, names in counts.items():
        if bug != ACCUMULATED_NARROWLY:
            others.update(names)
    named = others.total() - others[LOW_PRECISION] - others[UNKNOWN]
    return [
        arithmetic,
        str(sum(narrow.values())),
        _format_nearest(narrow.get(LOW_PRECISION, 0), sum(narrow.values())),
        _format_nearest(narrow.get(UNKNOWN, 0), sum(narrow.values())),
        str(others.total()),
        _format_nearest(others[LOW_PRECISION], others.total()),
        _format_nearest(named, others.total()),
    ]


def _list_wrongly_named(document: Document) -> list[tuple[str, str]]:
    """List the bugs that are called sums in few digits, and how many of how many."""
    wrongly: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for counts in document["arithmetics"].values():
        for bug, names in counts.items():
            totals[bug] += sum(names.values())
            wrongly[bug] += names.get(LOW_PRECISION, 0)
    del wrongly[ACCUMULATED_NARROWLY]
    return [(bug, f"{count} of {totals[bug]}") for bug, count in wrongly.most_common() if count]


def _format_nearest(part: int, whole: int) -> str:
    # Not rounded down: a part is as often a failure as a success.
    return f"{100 * part / whole:.1f} %" if whole else "-"


def main() -> None:
    """Print the table and keep it."""
    given = parse_arguments("low_precision_diagnosis", __doc__)
    torch.set_num_threads(1)
    document = measure_document(given.seed, given.kernels)
    text = write_markdown(document)
    print(text)
    if given.kernels >= KERNEL_COUNT:
        saved_results.save_results("low_precision_diagnosis", document, text, text)


if __name__ == "__main__":
    main()
