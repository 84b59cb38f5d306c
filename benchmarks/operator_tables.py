"""The tables of `make operators`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.operator_checks import FAST, OURS, SLOW
from benchmarks.planted_operators import KINDS
from benchmarks.tables import describe_origin, format_number, format_share, wrap_prose, write_table

Document = Mapping[str, Any]
Counts = Mapping[str, Any]
_SIXTH = "1/6 in float32, off by 3e-8"
FORMULA_OFF: Mapping[tuple[str, str], str] = {
    ("float64", "nn_functional_hardsigmoid"): _SIXTH,
    ("forward mode", "nn_functional_hardsigmoid"): _SIXTH,
    ("forward mode", "cholesky_inverse"): "off by 1e-5 in forward mode alone",
    ("complex, second order", "svd_lowrank"): "rounds second derivatives of complex numbers to 9e-8",
    ("complex, second order", "pca_lowrank"): "rounds second derivatives of complex numbers to 3e-8",
}
"""Derivatives of torch that are off, by section and operator: why (benchmarks/operator_truth.py)."""
NO_DERIVATIVE: Mapping[str, str] = {
    "linalg_norm_subgradients_at_zero": "a kink at 0",
    "nn_functional_cosine_embedding_loss": "a jump where a target moves off 1 or -1",
    "nn_functional_hinge_embedding_loss": "a jump where a target moves off 1 or -1",
}
"""Operators with samples at which they have no derivative by some input: why."""
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
                "no derivative",
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
    singular = list(filter(lacks_derivative, others["undecided"]))
    accepted, passes = counts["accepted"] - len(off) - len(singular), counts["passes"]
    return [
        name,
        f"{accepted:,}",
        f"{passes[OURS]:,} ({format_share(passes[OURS], accepted)})",
        str(len(others["undecided"]) - len(singular)),
        str(len(singular)),
        str(len(others["refused"]) - len(off)),
        str(len(off)),
        str(len(others["error"])),
        f"{passes[SLOW]:,}",
    ]


def is_formula_off(section: str, sample: str) -> bool:
    """Tell whether torch's formula for a sample is known to be off."""
    return (section, get_operator_name(sample)) in FORMULA_OFF


def lacks_derivative(sample: str) -> bool:
    """Tell whether the operator of a sample is known to have samples without a derivative."""
    return get_operator_name(sample) in NO_DERIVATIVE


def get_operator_name(sample: str) -> str:
    """Return the name of the operator of a sample."""
    return re.sub(r"\[\d+\]$", "", sample)


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
        "coordinates. None is planted in a derivative that changes the outputs by less than their roundoff over the "
        "whole input, as that of erfc at -4.8 in float32: it passes as zero."
    )
    yield (
        "Samples that are undecided and without a derivative at the point (`no derivative`), and refused ones whose "
        "formula is off (`formula off`), do not count as right: `python -m benchmarks.operator_truth` examines them. "
        f"{_join_reasons()}"
    )
    shares = ", ".join(
        f"{name} {format_share(counts['passes'][OURS], counts['accepted'])}" for name, counts in sections.items()
    )
    yield f"With both among the samples, these pass at once: {shares}."
    yield "Undecided checks go to torch's own comparison. Errors are exceptions that say nothing of the gradient."
    yield "Times are ratios by sample, with random directions, of seconds of the processor; the median."
    yield from _list_samples(sections)
    yield f"`.venv/bin/python -m benchmarks.operator_database --seed {document['seed']}` measures the same again."


def _join_reasons() -> str:
    formulas = {operator: reason for (_, operator), reason in FORMULA_OFF.items()}
    return "; ".join(f"{operator}: {reason}" for operator, reason in (formulas | dict(NO_DERIVATIVE)).items()) + "."


def _list_samples(sections: Mapping[str, Counts]) -> Iterable[str]:
    """Yield a note for each section with samples that do not pass."""
    for name, counts in sections.items():
        others = counts["others"]
        off = [sample for sample in others["refused"] if is_formula_off(name, sample)]
        lists = {
            "refused": [sample for sample in others["refused"] if sample not in off],
            "formula off": off,
            "errors": list(others["error"]),
            "undecided": [sample for sample in others["undecided"] if not lacks_derivative(sample)],
            "no derivative": [sample for sample in others["undecided"] if lacks_derivative(sample)],
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
