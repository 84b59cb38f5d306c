"""Results as Markdown that reads well in a terminal too. Everything comes from the document that is kept as JSON."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TORCH_SLOW = "torch gradcheck, slow"
OURS = ("central", "adaptive", "whole check")
WANTED: Mapping[str, Mapping[str, float]] = {
    "central": {"S0": 3, "S1": 50, "S2": 200, "S3": 4000, "MLP": 10},
    "adaptive": {"S0": 1, "S1": 20, "S2": 100, "S3": 1500, "MLP": 6},
    "whole check": {"S0": 0.3, "S1": 5, "S2": 40, "S3": 800, "MLP": 3},
}
WANTED_DECIDED = 0.9999
WANTED_BYTES = 256e6
NAMES = {
    "central": "gradcheckd, central",
    "adaptive": "gradcheckd, adaptive, with bounds",
    "whole check": "gradcheckd, adaptive, the whole check",
}
WIDTH = 118

Document = Mapping[str, Any]


def speed(document: Document) -> str:
    """The tables that the README quotes."""
    parts = [_seconds(document), _ratios(document), _notes(document)] if document["problems"] else []
    if "growth" in document:
        parts.append(_growth(document["growth"]))
    return "\n\n".join([*parts, origin(document)]) + "\n"


def whole(document: Document) -> str:
    """Those, and how exact each contender was."""
    more = [_errors(document), *_descriptions(document)] if document["problems"] else []
    return "\n\n".join([speed(document).rstrip(), *more]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table in columns."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    cells = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def shown(number: float) -> str:
    """Two digits, or the whole number; never with an exponent."""
    return f"{number:.0f}" if number >= 100 else f"{float(f'{number:.2g}'):g}"


def duration(seconds: float) -> str:
    """Seconds from one second on, else milliseconds."""
    return f"{shown(seconds)} s" if seconds >= 1 else f"{shown(seconds * 1e3)} ms"


def ratio(document: Document, row: str, problem: str) -> float | None:
    """How many times our time gradcheck takes."""
    rows = document["problems"][problem]["rows"]
    base, own = (rows.get(name, {}).get("seconds") for name in (TORCH_SLOW, row))
    return None if base is None or own is None else base / own


def _seconds(document: Document) -> str:
    problems = document["problems"]
    scalars = ["scalars", *(f"{each['scalars']:,}" for each in problems.values())]
    names = dict.fromkeys(name for each in problems.values() for name in each["rows"])
    rows = [[NAMES.get(name, name), *(_cell(each["rows"][name]) for each in problems.values())] for name in names]
    counts = [[f"loss evaluations, {name}", *_counts(problems.values(), name)] for name in OURS[:2]]
    return table(["median time", *problems], [scalars, *rows, *counts])


def _cell(figures: Mapping[str, Any]) -> str:
    if figures.get("seconds") is None:
        return figures["note"]
    return duration(figures["seconds"]) + (" (e)" if figures.get("extrapolated") else "")


def _counts(problems: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    return [f"{each['rows'][name]['evaluations']:,}" for each in problems]


def _ratios(document: Document) -> str:
    problems = document["problems"]
    rows: list[list[str]] = []
    for name in OURS:
        found = {problem: ratio(document, name, problem) for problem in problems}
        rows.append([NAMES.get(name, name), *("-" if each is None else f"{shown(each)}x" for each in found.values())])
        rows.append(["- at least", *(_judged(each, WANTED[name].get(problem)) for problem, each in found.items())])
    decided = [each["rows"]["adaptive"]["decided"] for each in problems.values()]
    rows.append(["elements decided, adaptive", *(_percent(each) for each in decided)])
    rows.append(["- at least", *(f"99.99 %, {met(each >= WANTED_DECIDED)}" for each in decided)])
    return table([f"{TORCH_SLOW}: times as long as", *problems], rows)


def _judged(found: float | None, wanted: float | None) -> str:
    if wanted is None:
        return "-"
    return f"{wanted:g}x" if found is None else f"{wanted:g}x, {met(found >= wanted)}"


def met(reached: bool) -> str:
    """In a word."""
    return "met" if reached else "missed"


def _percent(part: float) -> str:
    """Rounded down, for what is nearly all is not all."""
    return "100 %" if part == 1 else f"{int(part * 1e5) / 1e3:.3f} %"


def _notes(document: Document) -> str:
    problems = document["problems"].values()
    lines = [
        "Medians of one run in which all take turns, one thread on one core, warm; what took more than 5 s ran once. "
        f"Seconds are processor time; the run had its core for {100 * document['share']:.0f} % of the time by the "
        "clock. Planning is included, compiling (jax) and setting up tensors is not. The whole check is `cost.seconds` "
        "of a request in base64, with all three gradients, rounding allowances, verdict and report."
    ]
    if any(row.get("note", "").startswith(">") for each in problems for row in each["rows"].values()):
        lines.append(
            "`> 60 s`: stopped after a minute, or not begun where the next smaller size and the ratio of the scalars "
            "alone said so."
        )
    if any(row.get("extrapolated") for each in problems for row in each["rows"].values()):
        lines.append(f"(e): extrapolated from gradcheck with respect to w1 alone{_checked(document)}.")
    if document.get("memory"):
        lines.append(_memory(document["memory"]))
    return "\n".join(prose(f"- {line}") for line in lines)


def prose(text: str) -> str:
    """Prose of a width that a terminal has; what hangs belongs to an item."""
    return textwrap.fill(text, WIDTH, subsequent_indent="  " if text.startswith("- ") else "", break_on_hyphens=False)


def _checked(document: Document) -> str:
    """How the extrapolation does where the whole was measured too."""
    found = document["problems"].get("S2", {})
    if "extrapolated_slow" not in found:
        return ""
    guess, real = found["extrapolated_slow"], found["rows"][TORCH_SLOW]["seconds"]
    return f"; the same for S2 gives {duration(guess)}, where {duration(real)} were measured"


def _memory(memory: Mapping[str, Any]) -> str:
    parts = [f"{method} {shown(size / 1e6)} MB" for method, size in memory["bytes"].items()]
    reached = met(max(memory["bytes"].values()) < WANTED_BYTES)
    return f"Extra peak memory of the stage on {memory['problem']}: {', '.join(parts)} (below 256 MB: {reached})."


def _growth(growth: Mapping[str, Any]) -> str:
    kernel, rows = growth["kernel"], growth["rows"]
    cells = [
        [f"{row['size']}x{row['size']}", f"{row['elements']:,}", duration(row["seconds"]), f"{row['evaluations']:,}"]
        for row in rows
    ]
    head = ["x", f"scalars of x, w1 ({kernel}x{kernel}) and w2", "adaptive", "loss evaluations"]
    return "\n\n".join([table(head, cells), *_in_words(growth)])


def _in_words(growth: Mapping[str, Any]) -> list[str]:
    if growth["exponent"] is None:
        return []
    size = growth["fitted_from"]
    fitted = [row for row in growth["rows"] if row["size"] >= size]
    counts = [row["evaluations"] for row in fitted]
    more = fitted[-1]["elements"] / fitted[0]["elements"]
    return [
        prose(
            f"From {size}x{size} on, time grows as the number of scalars to the power of {growth['exponent']:.2f}: "
            f"{more:.0f} times the scalars take {shown(fitted[-1]['seconds'] / fitted[0]['seconds'])} times as long, "
            f"in {counts[-1]:,} evaluations instead of {counts[0]:,}. "
            "Where each scalar is perturbed by itself, time grows as their square."
        )
    ]


def origin(document: Document) -> str:
    """Machine and versions."""
    machine, versions = document["machine"], document["versions"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return prose(f"{machine['cpu']}, {machine['cores']} cores; {listed}.")


def _errors(document: Document) -> str:
    problems = document["problems"]
    names = dict.fromkeys(name for each in problems.values() for name, row in each["rows"].items() if "error" in row)
    del names["whole check"]
    rows = [[NAMES.get(name, name), *(_error(each["rows"][name]) for each in problems.values())] for name in names]
    return table(["largest error / largest element", *problems], rows)


def _error(figures: Mapping[str, Any]) -> str:
    return f"{figures['error']:.1e}" if "error" in figures else "-"


def _descriptions(document: Document) -> list[str]:
    lines = [f"- {name}: {each['description']}" for name, each in document["problems"].items()]
    beside = (
        "Beside the gradient that torch gradcheck checks, the reverse mode of the same function in float64; the worst "
        "of the inputs. gradcheck itself returns no values."
    )
    return [prose(beside), "\n".join(map(prose, lines))]
