"""PyTorch's operator database as imports: torch's own gradients judged by the graphs of its functions: `make imports`.

Each sample is imported as a function of its tensors. Torch's gradient of a random sum of its outputs is judged with the
service in this process, and once more with one element off by 1e-4. `--operators` and `--step` run a part, of which
nothing is kept. `--results` names a file of the results by operator: a run that ends early goes on from there.
"""

from benchmarks import one_thread  # isort: skip # noqa: F401 - before anything that computes

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import saved_results
from benchmarks.imported_samples import (
    ACCEPTED,
    ERROR,
    FAIL,
    INCONCLUSIVE,
    LEFT_OUT,
    MAX_NUMBERS,
    MAX_SAMPLES,
    PASS,
    REFUSED,
    WRONG_IN_TORCH,
    ImportedSample,
    check_import,
    draw_import_samples,
)
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.operator_samples import SECTIONS, list_operators
from benchmarks.tables import describe_origin, format_share, wrap_prose, write_table
from service.checks.graph.model_language import list_ops

NAME = "imported_operators"
_SECTION = SECTIONS[0]
_SHOWN_REASONS = 15
_SHOWN_SAMPLES = 40


@dataclass(frozen=True)
class ImportedOperator:
    """The results of an operator.

    Attributes
    ----------
    name
        Name in the database, which variants of an operator share.
    variant
        Name with its variant.
    is_op
        True if the model language has an op of this name, or of an alias.
    samples
        Results of its samples.
    """

    name: str
    variant: str
    is_op: bool
    samples: Sequence[ImportedSample]


def measure_operators(
    names: Sequence[str], step: int, seed: int, path: Path | None, *, is_closed: bool = False
) -> list[ImportedOperator]:
    """Measure one operator in each step, except those whose results a file already has.

    Parameters
    ----------
    names
        Names of operators; none for all.
    step
        Step through the operators.
    seed
        Seed of the samples.
    path
        File of results.
    is_closed
        True to measure none, and return what the file has.
    """
    known = {result.variant: result for result in read_results(path)}
    if is_closed:
        return list(known.values())
    results: list[ImportedOperator] = []
    for operator in _show_progress(list_operators(_SECTION, names)[::step]):
        result = known.get(operator.formatted_name)
        if result is None:
            result = measure_operator(operator, seed)
            append_result(path, result)
        results.append(result)
    return results


def measure_operator(operator: Any, seed: int) -> ImportedOperator:
    """Import and judge the samples of an operator."""
    try:
        samples = list(draw_import_samples(operator, _SECTION, seed))
    except Exception as error:  # noqa: BLE001 - of any kind: the database's own
        failed = ImportedSample(operator.formatted_name, LEFT_OUT, f"{type(error).__name__}: {error}"[:100])
        return ImportedOperator(operator.name, operator.formatted_name, has_op(operator), [failed])
    results = [check_import(sample) for sample in samples]
    return ImportedOperator(operator.name, operator.formatted_name, has_op(operator), results)


def has_op(operator: Any) -> bool:
    """Tell whether the model language has an op of the name of an operator, or of one of its aliases."""
    names = {operator.name, *(alias.name for alias in operator.aliases)}
    return any(name.rpartition(".")[2] in _OPS for name in names)


_OPS = {op["name"] for op in list_ops()["ops"]}


def read_results(path: Path | None) -> Iterator[ImportedOperator]:
    """Read the results of a file, which need not exist."""
    if path is None or not path.exists():
        return
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        fields["samples"] = [ImportedSample(**sample) for sample in fields["samples"]]
        yield ImportedOperator(**fields)


def append_result(path: Path | None, result: ImportedOperator) -> None:
    """Add the results of an operator to a file, if there is one."""
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def _show_progress(operators: Sequence[Any]) -> Iterator[Any]:
    start = time.monotonic()
    for number, operator in enumerate(operators):
        yield operator
        if number % 50 == 49 or number == len(operators) - 1:
            print(f"{number + 1} of {len(operators)}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def count_results(results: Sequence[ImportedOperator]) -> dict[str, Any]:
    """Return the counts for a document."""
    samples = [sample for result in results for sample in result.samples]
    of_ops = [sample for result in results if result.is_op for sample in result.samples]
    refused = [sample for sample in samples if sample.outcome == REFUSED]
    planted = [sample for sample in samples if sample.planted_outcome]
    return {
        "names": count_names(results),
        "samples": _count_outcomes(samples),
        "samples_of_ops": _count_outcomes(of_ops),
        "reasons": dict(Counter(sample.reason for sample in refused).most_common()),
        "reasons_of_ops": dict(Counter(sample.reason for sample in of_ops if sample.outcome == REFUSED).most_common()),
        "left_out": dict(Counter(sample.reason for sample in samples if sample.outcome == LEFT_OUT).most_common()),
        "failing": _list_reasons(samples, FAIL),
        "wrong_in_torch": _list_reasons(samples, WRONG_IN_TORCH),
        "errors": _list_reasons(samples, ERROR),
        "inconclusive": _list_reasons(filter(lambda sample: sample.is_finite, samples), INCONCLUSIVE),
        "planted": len(planted),
        "missed": [sample.name for sample in planted if sample.planted_outcome == PASS],
        "undecided_planted": [sample.name for sample in planted if sample.planted_outcome == INCONCLUSIVE],
        "seconds": sum(sample.seconds for sample in samples),
    }


def _count_outcomes(samples: Sequence[ImportedSample]) -> dict[str, int]:
    judged = [sample for sample in samples if sample.outcome != LEFT_OUT]
    return {
        "judged": len(judged),
        "accepted": sum(sample.outcome in ACCEPTED for sample in judged),
        "finite": sum(sample.outcome in ACCEPTED and sample.is_finite for sample in judged),
        **dict(Counter(sample.outcome for sample in judged)),
    }


def count_names(results: Sequence[ImportedOperator]) -> dict[str, int]:
    """Count the names of the database by how they are covered: by an op, or by the import of samples that pass."""
    by_name: dict[str, list[ImportedOperator]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    ops = {name for name, variants in by_name.items() if any(variant.is_op for variant in variants)}
    partly, wholly = set[str](), set[str]()
    for name, variants in by_name.items():
        outcomes = {sample.outcome for variant in variants for sample in variant.samples} - {LEFT_OUT}
        if PASS in outcomes:
            partly.add(name)
        if PASS in outcomes and not outcomes & {REFUSED, ERROR}:
            wholly.add(name)
    return {
        "all": len(by_name),
        "ops": len(ops),
        "imported": len(partly),
        "imported_wholly": len(wholly),
        "covered": len(ops | partly),
    }


def _list_reasons(samples: Iterable[ImportedSample], outcome: str) -> dict[str, str]:
    return {sample.name: sample.reason for sample in samples if sample.outcome == outcome}


def write_markdown(document: Mapping[str, Any]) -> str:
    """Write the tables that a document quotes."""
    names = document["names"]
    labels = {
        "all": "with a gradient in float64",
        "covered": "covered by an op or by import",
        "ops": "an op, by name or alias",
        "imported": "imported, and a sample passes",
        "imported_wholly": "imported in all samples",
    }
    shown = list(document["reasons"].items())[:_SHOWN_REASONS]
    parts = [
        write_table(
            ["names", "count", "share"],
            [[label, f"{names[key]}", format_share(names[key], names["all"])] for key, label in labels.items()],
        ),
        write_table(
            ["samples", "judged", "accepted", "pass", "fail", "inconclusive", "errors"],
            [
                _describe_outcomes("of operators with an op", document["samples_of_ops"]),
                _describe_outcomes("of all operators", document["samples"]),
            ],
        ),
        write_table(
            ["refused because of", "samples"], [[_shorten_reason(reason), f"{count}"] for reason, count in shown]
        ),
        "\n".join(wrap_prose(f"- {note}") for note in _list_notes(document)),
        describe_origin(document),
    ]
    return "\n\n".join(parts) + "\n"


def _shorten_reason(reason: str) -> str:
    """Return the first sentence of a reason, without the line of this benchmark."""
    return re.sub(r" at \w+\.py:\d+", "", reason).split(". ")[0].split(": a graph")[0].removesuffix(".")[:90]


def _describe_outcomes(label: str, counts: Mapping[str, int]) -> list[str]:
    judged, accepted = counts["judged"], counts["accepted"]
    return [
        label,
        f"{judged:,}",
        f"{accepted:,} ({format_share(accepted, judged)})",
        *(f"{counts.get(outcome, 0):,}" for outcome in (PASS, FAIL, INCONCLUSIVE, ERROR)),
    ]


def _list_notes(document: Mapping[str, Any]) -> Iterator[str]:
    if document["measured"] < document["entries"]:
        yield f"These are the results of {document['measured']} of {document['entries']} entries of the database."
    yield (
        f"Samples have at most {MAX_NUMBERS} numbers in their inputs, and in their outputs; at most {MAX_SAMPLES} of "
        f"each operator are taken, evenly spread. Left out are {sum(document['left_out'].values())}: without a "
        "gradient, with larger outputs, at random numbers, or at infinities."
    )
    undecided = len(document["undecided_planted"])
    yield (
        f"One element off by 1e-4, in {document['planted']:,} samples that pass: {len(document['missed'])} missed, "
        f"{undecided} inconclusive, and all others fail."
    )
    finite, inconclusive = document["samples"]["finite"], len(document["inconclusive"])
    yield f"Inconclusive where loss and gradient are finite: {inconclusive} of {finite:,}."
    kinds = {
        "failing": "Right gradients that fail",
        "wrong_in_torch": "Gradients that torch's own slow checker refuses, too",
        "missed": "Planted errors that pass",
        "errors": "Errors of the import",
    }
    for key, label in kinds.items():
        if document[key]:
            listed = ", ".join(f"`{name}`" for name in list(document[key])[:_SHOWN_SAMPLES])
            yield f"{label}: {listed}."


def main() -> None:
    """Print the tables, and keep those of a full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imported_operators", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--operators", nargs="+", default=[], help="names in the database; by default all")
    parser.add_argument("--step", type=int, default=1, help="take one operator of so many")
    parser.add_argument("--results", type=Path, help="file of the results by operator, to go on from")
    parser.add_argument("--tables", action="store_true", help="measure nothing more: tables of --results as they are")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = measure_operators(
        arguments.operators, arguments.step, arguments.seed, arguments.results, is_closed=arguments.tables
    )
    document = {
        "seed": arguments.seed,
        "measured": len(results),
        "entries": len(list_operators(_SECTION)),
        **count_results(results),
        "machine": describe_machine(),
        "versions": list_versions(("numpy", "torch")),
    }
    text = write_markdown(document)
    print(text)
    if not arguments.operators and arguments.step == 1:
        saved_results.save_results(NAME, document, text, text)


if __name__ == "__main__":
    main()
