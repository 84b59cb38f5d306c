"""Results as Markdown that reads well in a terminal too. Everything comes from the document that is kept as JSON."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TORCH_SLOW = "torch gradcheck, slow"
SERVICE_ROWS = ("central", "adaptive", "whole check")
TARGET_RATIOS: Mapping[str, Mapping[str, float]] = {
    "central": {"S0": 3, "S1": 50, "S2": 200, "S3": 4000, "MLP": 10},
    "adaptive": {"S0": 1, "S1": 20, "S2": 100, "S3": 1500, "MLP": 6},
    "whole check": {"S0": 0.3, "S1": 5, "S2": 40, "S3": 800, "MLP": 3},
}
TARGET_DECIDED = 0.9999
TARGET_BYTES = 256e6
ROW_LABELS = {
    "central": "gradcheckd, central",
    "adaptive": "gradcheckd, adaptive, with bounds",
    "whole check": "gradcheckd, adaptive, the whole check",
}
PROSE_WIDTH = 118

Document = Mapping[str, Any]


def write_speed_tables(document: Document) -> str:
    """The tables that a document quotes."""
    parts = (
        [_write_seconds_table(document), _write_ratio_table(document), _write_notes(document)]
        if document["problems"]
        else []
    )
    if "growth" in document:
        parts.append(_write_growth_table(document["growth"]))
    return "\n\n".join([*parts, describe_origin(document)]) + "\n"


def write_all_tables(document: Document) -> str:
    """Those, and how exact each contender was."""
    more = [_write_error_table(document), *_list_descriptions(document)] if document["problems"] else []
    return "\n\n".join([write_speed_tables(document).rstrip(), *more]) + "\n"


def write_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table in columns."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    cells = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def format_share(part: int, whole: int) -> str:
    """Format a part in percent, rounded down: nearly all is not all."""
    return f"{int(1000 * part / whole) / 10:.1f} %" if whole else "-"


def format_number(number: float) -> str:
    """Two digits, or the whole number; never with an exponent."""
    return f"{number:.0f}" if number >= 100 else f"{float(f'{number:.2g}'):g}"


def format_duration(seconds: float) -> str:
    """Seconds from one second on, else milliseconds."""
    return f"{format_number(seconds)} s" if seconds >= 1 else f"{format_number(seconds * 1e3)} ms"


def compute_ratio(document: Document, row: str, problem: str) -> float | None:
    """How many times our time gradcheck takes."""
    rows = document["problems"][problem]["rows"]
    base, own = (rows.get(name, {}).get("seconds") for name in (TORCH_SLOW, row))
    return None if base is None or own is None else base / own


def _write_seconds_table(document: Document) -> str:
    problems = document["problems"]
    scalars = ["scalars", *(f"{problem['scalars']:,}" for problem in problems.values())]
    names = dict.fromkeys(name for problem in problems.values() for name in problem["rows"])
    rows = [
        [ROW_LABELS.get(name, name), *(_format_cell(problem["rows"][name]) for problem in problems.values())]
        for name in names
    ]
    counts = [[f"loss evaluations, {name}", *_list_evaluations(problems.values(), name)] for name in SERVICE_ROWS[:2]]
    return write_table(["median time", *problems], [scalars, *rows, *counts])


def _format_cell(figures: Mapping[str, Any]) -> str:
    if figures.get("seconds") is None:
        return figures["note"]
    return format_duration(figures["seconds"]) + (" (e)" if figures.get("extrapolated") else "")


def _list_evaluations(problems: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    return [f"{problem['rows'][name]['evaluations']:,}" for problem in problems]


def _write_ratio_table(document: Document) -> str:
    problems = document["problems"]
    rows: list[list[str]] = []
    for name in SERVICE_ROWS:
        ratios = {problem: compute_ratio(document, name, problem) for problem in problems}
        rows.append(
            [
                ROW_LABELS.get(name, name),
                *("-" if ratio is None else f"{format_number(ratio)}x" for ratio in ratios.values()),
            ]
        )
        rows.append(
            [
                "- at least",
                *(_compare_to_target(ratio, TARGET_RATIOS[name].get(problem)) for problem, ratio in ratios.items()),
            ]
        )
    decided = [entry["rows"]["adaptive"]["decided"] for entry in problems.values()]
    rows.append(["elements decided, adaptive", *(_format_percent(fraction) for fraction in decided)])
    rows.append(["- at least", *(f"99.99 %, {describe_target(fraction >= TARGET_DECIDED)}" for fraction in decided)])
    return write_table([f"{TORCH_SLOW}: times as long as", *problems], rows)


def _compare_to_target(reached: float | None, target: float | None) -> str:
    if target is None:
        return "-"
    return f"{target:g}x" if reached is None else f"{target:g}x, {describe_target(reached >= target)}"


def describe_target(is_reached: bool) -> str:
    """In a word."""
    return "met" if is_reached else "missed"


def _format_percent(part: float) -> str:
    """Rounded down, for what is nearly all is not all."""
    return "100 %" if part == 1 else f"{int(part * 1e5) / 1e3:.3f} %"


def _write_notes(document: Document) -> str:
    problems = document["problems"].values()
    lines = [
        "Medians of one run in which all take turns, one thread on one core, warm; what took more than 5 s ran once. "
        f"Seconds are processor time; the run had its core for {100 * document['share']:.0f} % of the time by the "
        "clock. Planning is included, compiling (jax) and setting up tensors is not. The whole check is `cost.seconds` "
        "of a request in base64, with all three gradients, rounding allowances, verdict and report."
    ]
    if any(row.get("note", "").startswith(">") for problem in problems for row in problem["rows"].values()):
        lines.append(
            "`> 60 s`: stopped after a minute, or not begun where the next smaller size and the ratio of the scalars "
            "alone said so."
        )
    if any(row.get("extrapolated") for problem in problems for row in problem["rows"].values()):
        lines.append(f"(e): extrapolated from gradcheck with respect to w1 alone{_describe_extrapolation(document)}.")
    if document.get("memory"):
        lines.append(_describe_memory(document["memory"]))
    return "\n".join(wrap_prose(f"- {line}") for line in lines)


def wrap_prose(text: str) -> str:
    """Prose of a width that a terminal has; what hangs belongs to an item."""
    return textwrap.fill(
        text, PROSE_WIDTH, subsequent_indent="  " if text.startswith("- ") else "", break_on_hyphens=False
    )


def _describe_extrapolation(document: Document) -> str:
    """How the extrapolation does where the whole was measured too."""
    problem = document["problems"].get("S2", {})
    if "extrapolated_slow" not in problem:
        return ""
    guess, real = problem["extrapolated_slow"], problem["rows"][TORCH_SLOW]["seconds"]
    return f"; the same for S2 gives {format_duration(guess)}, where {format_duration(real)} were measured"


def _describe_memory(memory: Mapping[str, Any]) -> str:
    parts = [f"{method} {format_number(size / 1e6)} MB" for method, size in memory["bytes"].items()]
    reached = describe_target(max(memory["bytes"].values()) < TARGET_BYTES)
    return f"Extra peak memory of the stage on {memory['problem']}: {', '.join(parts)} (below 256 MB: {reached})."


def _write_growth_table(growth: Mapping[str, Any]) -> str:
    kernel, rows = growth["kernel"], growth["rows"]
    cells = [
        [
            f"{row['size']}x{row['size']}",
            f"{row['elements']:,}",
            format_duration(row["seconds"]),
            f"{row['evaluations']:,}",
        ]
        for row in rows
    ]
    head = ["x", f"scalars of x, w1 ({kernel}x{kernel}) and w2", "adaptive", "loss evaluations"]
    return "\n\n".join([write_table(head, cells), *_describe_growth(growth)])


def _describe_growth(growth: Mapping[str, Any]) -> list[str]:
    if growth["exponent"] is None:
        return []
    size = growth["fitted_from"]
    fitted = [row for row in growth["rows"] if row["size"] >= size]
    counts = [row["evaluations"] for row in fitted]
    more = fitted[-1]["elements"] / fitted[0]["elements"]
    return [
        wrap_prose(
            f"From {size}x{size} on, time grows as the number of scalars to the power of {growth['exponent']:.2f}: "
            f"{more:.0f} times the scalars take "
            f"{format_number(fitted[-1]['seconds'] / fitted[0]['seconds'])} times as long, "
            f"in {counts[-1]:,} evaluations instead of {counts[0]:,}. "
            "Where each scalar is perturbed by itself, time grows as their square."
        )
    ]


def describe_origin(document: Document) -> str:
    """Machine and versions."""
    machine, versions = document["machine"], document["versions"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return wrap_prose(f"{machine['cpu']}, {machine['cores']} cores; {listed}.")


def _write_error_table(document: Document) -> str:
    problems = document["problems"]
    names = dict.fromkeys(
        name for problem in problems.values() for name, row in problem["rows"].items() if "error" in row
    )
    del names["whole check"]
    rows = [
        [ROW_LABELS.get(name, name), *(_format_error(problem["rows"][name]) for problem in problems.values())]
        for name in names
    ]
    return write_table(["largest error / largest element", *problems], rows)


def _format_error(figures: Mapping[str, Any]) -> str:
    return f"{figures['error']:.1e}" if "error" in figures else "-"


def _list_descriptions(document: Document) -> list[str]:
    lines = [f"- {name}: {problem['description']}" for name, problem in document["problems"].items()]
    beside = (
        "Beside the gradient that torch gradcheck checks, the reverse mode of the same function in float64; the worst "
        "of the inputs. gradcheck itself returns no values."
    )
    return [wrap_prose(beside), "\n".join(map(wrap_prose, lines))]
