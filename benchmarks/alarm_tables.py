"""False alarms and misses as Markdown."""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.tables import describe_origin, wrap_prose, write_table

Document = Mapping[str, Any]
_DTYPE_BY_ARITHMETIC = {"FP64": "float64", "FP32": "float32"}
_NARROW_ARITHMETICS = ("TF32", "BF16", "FP16")
_ALL_ARITHMETICS = (*_DTYPE_BY_ARITHMETIC, *_NARROW_ARITHMETICS)


def write_markdown(document: Document) -> str:
    """The tables that a document quotes."""
    parts = [_write_comparison(document, arithmetic) for arithmetic in _DTYPE_BY_ARITHMETIC]
    return (
        "\n\n".join(
            [
                *parts,
                _write_notes(document),
                _write_service_table(document),
                _describe_seed(document),
                describe_origin(document),
            ]
        )
        + "\n"
    )


def _write_comparison(document: Document, arithmetic: str) -> str:
    cells: Mapping[str, Any] = document["cells"]
    checkers = list(next(iter(cells.values()))["others"])
    rows = [
        [name, _format_counts(cell["ours"]["counts"][arithmetic])]
        + [_format_counts(cell["others"][checker][arithmetic]) for checker in checkers]
        for name, cell in cells.items()
    ]
    return write_table(
        [_DTYPE_BY_ARITHMETIC[arithmetic], "gradcheckd", *checkers], [*rows, ["all, in %", *_compute_totals(rows)]]
    )


def _format_counts(count: Mapping[str, int]) -> str:
    return f"{_format_ratio(count, 'alarms', 'correct')}, {_format_ratio(count, 'misses', 'wrong')}"


def _format_ratio(count: Mapping[str, int], part: str, whole: str) -> str:
    return f"{count[part]}/{count[whole]}"


def _compute_totals(rows: list[list[str]]) -> list[str]:
    """Percentages over all cells, column by column."""
    totals: list[str] = []
    for column in range(1, len(rows[0])):
        pairs = [[tuple(map(int, fraction.split("/"))) for fraction in row[column].split(", ")] for row in rows]
        sums = [[sum(pair[kind][i] for pair in pairs) for i in (0, 1)] for kind in (0, 1)]
        totals.append(", ".join(f"{100 * part / whole:.3g}" for part, whole in sums))
    return totals


def _write_notes(document: Document) -> str:
    lines = [
        "False alarms of the correct gradients, misses of the wrong ones. Correct ones are of a framework; for "
        "gradcheckd also of a second implementation, written by hand, that sums in random orders. In a wrong one a "
        "single element that matters is off by 1e-4 (float32: 1e-2, TF32 and FP16: 0.1, BF16: 0.3), doubled, flipped, "
        "or 0.",
        "What is inconclusive is neither an alarm nor accepted. Every tensor of a problem is checked: one alarm makes "
        "an alarm.",
        f"All checkers have their defaults; that `check_grad` may return {document['threshold']:g} is customary. Its "
        "loss is in float64 in both tables: the step is lost in float32.",
    ]
    return "\n".join(wrap_prose(f"- {line}") for line in lines)


def _write_service_table(document: Document) -> str:
    """What only the service can be asked: how much of what is right it decides on, and arithmetics below float32."""
    cells: Mapping[str, Any] = document["cells"]
    decided = [
        [name, *(_format_percent(cell["ours"]["decided"].get(arithmetic)) for arithmetic in _ALL_ARITHMETICS)]
        for name, cell in cells.items()
    ]
    narrow = [
        [
            name,
            *(
                _format_ratio_or_dash(cell["ours"]["counts"][arithmetic], "alarms", "correct")
                for arithmetic in _NARROW_ARITHMETICS
            ),
            *(
                _format_ratio_or_dash(cell["ours"]["counts"][arithmetic], "misses", "wrong")
                for arithmetic in _NARROW_ARITHMETICS
            ),
        ]
        for name, cell in cells.items()
    ]
    kinds = [f"{arithmetic} {kind}" for kind in ("false alarms", "misses") for arithmetic in _NARROW_ARITHMETICS]
    return "\n\n".join(
        [
            wrap_prose("How many of the correct tensors gradcheckd decides on; the others are inconclusive:"),
            write_table(["gradcheckd", *(f"{arithmetic} decided" for arithmetic in _ALL_ARITHMETICS)], decided),
            wrap_prose("And in the arithmetics that only gradcheckd can be asked about:"),
            write_table(["gradcheckd", *kinds], narrow),
        ]
    )


def _format_percent(decided: float | None) -> str:
    """In percent, to a tenth; rounded down, since nearly all is not all."""
    return "-" if decided is None else f"{math.floor(1000 * decided + 1e-9) / 10:.1f} %"


def _format_ratio_or_dash(count: Mapping[str, int], part: str, whole: str) -> str:
    return _format_ratio(count, part, whole) if count[whole] else "-"


def _describe_seed(document: Document) -> str:
    return wrap_prose(
        f"`.venv/bin/python -m benchmarks.false_alarms --seed {document['seed']}` measures the same problems again. Of "
        "weights that are scaled many gradients are beyond what any difference can tell, and those are inconclusive."
    )
