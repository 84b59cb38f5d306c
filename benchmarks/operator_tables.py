"""The tables of `make operators`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.operator_checks import FAST, OURS, SLOW
from benchmarks.planted_operators import KINDS
from benchmarks.tables import describe_origin, format_number, wrap_prose, write_table

Document = Mapping[str, Any]
Counts = Mapping[str, Any]
FORMULA_OFF: Mapping[tuple[str, str], str] = {}
"""Derivatives of torch that are off, by section and sample: why."""
_CHECKERS = {OURS: "gradcheckd", SLOW: "slow", FAST: "fast"}


def write_markdown(document: Document) -> str:
    """Write the tables that a document quotes."""
    sections: Mapping[str, Counts] = document["sections"]
    parts = [
        write_table(
            [
                "right gradients",
                "samples",
                "pass at once",
                "undecided",
                "refused",
                "formula off",
                "errors",
                "slow passes",
            ],
            [_describe_rights(name, counts) for name, counts in sections.items()],
        ),
        write_table(
            ["missed", *KINDS],
            [row for name, counts in sections.items() for row in _describe_misses(name, counts["planted"])],
        ),
        write_table(
            ["median time", "over slow", "over fast"],
            [_describe_time(name, counts) for name, counts in sections.items()],
        ),
        "\n".join(wrap_prose(f"- {note}") for note in _list_notes(document)),
        describe_origin(document),
    ]
    return "\n\n".join(parts) + "\n"


def _describe_rights(name: str, counts: Counts) -> list[str]:
    others = counts["others"]
    off = [sample for sample in others["refused"] if is_formula_off(name, sample)]
    accepted, passes = counts["accepted"] - len(off), counts["passes"]
    return [
        name,
        f"{accepted:,}",
        f"{passes[OURS]:,} ({_format_share(passes[OURS], accepted)})",
        str(len(others["undecided"])),
        str(len(others["refused"]) - len(off)),
        str(len(off)),
        str(len(others["error"])),
        f"{passes[SLOW]:,}",
    ]


def is_formula_off(section: str, sample: str) -> bool:
    """Tell whether torch's formula for a sample is known to be off."""
    return (section, get_operator_name(sample)) in FORMULA_OFF


def get_operator_name(sample: str) -> str:
    """Return the name of the operator of a sample."""
    return re.sub(r"\[\d+\]$", "", sample)


def _format_share(part: int, whole: int) -> str:
    # Rounded down: nearly all is not all.
    return f"{int(1000 * part / whole) / 10:.1f} %" if whole else "-"


def _describe_misses(name: str, planted: Mapping[str, Counts]) -> Iterable[list[str]]:
    for checker, label in _CHECKERS.items():
        yield [f"{name}, {label}", *(_format_misses(planted.get(kind, {}).get(checker)) for kind in KINDS)]


def _format_misses(row: Counts | None) -> str:
    return "-" if row is None else f"{len(row['missed'])}/{row['trials']}"


def _describe_time(name: str, counts: Counts) -> list[str]:
    ratios = counts["median_ratios"]
    return [name, *("-" if ratio is None else format_number(ratio) for ratio in ratios.values())]


def _list_notes(document: Document) -> Iterable[str]:
    sections: Mapping[str, Counts] = document["sections"]
    operators = max(counts["operators"] for counts in sections.values())
    yield (
        f"Up to two samples of each of up to {operators} operators, with up to 100 numbers of inputs and of outputs. "
        "Random operators are left out."
    )
    refused = ", ".join(f"{name} {len(counts['refused_by_torch'])}" for name, counts in sections.items())
    yield f"Samples that torch's slow mode refuses do not count: {refused}."
    yield (
        "A float32 gradient is right if torch's slow mode accepts the same sample in float64. `slow passes`: samples "
        "that it accepts at its defaults."
    )
    yield (
        "Missed: wrong gradients that pass, of those whose right gradient passes with the checker, in one operator of "
        f"{document['error_step']}. All elements are off by 1e-3 (float32: 1e-2); one x 1.0001 is sought with "
        "coordinates."
    )
    yield "Undecided checks go to torch's own comparison. Errors are exceptions that say nothing of the gradient."
    yield "Times are ratios by sample, with random directions, of seconds of the processor; the median."
    yield from _list_samples(sections)
    yield f"`.venv/bin/python -m benchmarks.operator_database --seed {document['seed']}` measures the same again."


def _list_samples(sections: Mapping[str, Counts]) -> Iterable[str]:
    """Yield a note for each section with samples that do not pass."""
    for name, counts in sections.items():
        others = counts["others"]
        off = [sample for sample in others["refused"] if is_formula_off(name, sample)]
        lists = {
            "refused": [sample for sample in others["refused"] if sample not in off],
            "formula off": off,
            "errors": list(others["error"]),
            "undecided": list(others["undecided"]),
        }
        shown = [f"{label}: {_join_names(samples)}" for label, samples in lists.items() if samples]
        if shown:
            yield f"{name}: {'; '.join(shown)}."


def _join_names(samples: Iterable[str]) -> str:
    names: dict[str, int] = {}
    for sample in samples:
        name = get_operator_name(sample)
        names[name] = names.get(name, 0) + 1
    return ", ".join(name if count == 1 else f"{name} ({count})" for name, count in names.items())
