"""Counts in low precision as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.low_precision_counts import BY_TENSOR, Counts
from benchmarks.low_precision_rules import RULES
from benchmarks.low_precision_trials import BUG_SIZE, ONE_ELEMENT, RIGHT, SCALED
from benchmarks.tables import describe_origin, wrap_prose, write_table

Document = Mapping[str, Any]
WITHIN_ROUNDING = " (within rounding)"
TARGETS = {
    "passing": {"BF16": 0.99, "FP16": 0.99, "TF32": 0.99, "FP32": 0.995, "FP8_E4M3": 0.95},
    "bugs": {"BF16": 0.999, "FP16": 0.999, "TF32": 0.999, "FP32": 0.999, "FP8_E4M3": 0.99},
    "element": {"BF16": 0.99, "FP16": 0.99, "TF32": 0.99, "FP32": 0.999, "FP8_E4M3": 0.95},
}


def write_markdown(document: Document) -> str:
    """The tables that a document quotes."""
    parts = [
        _write_summary(document),
        _write_notes(document),
        _write_rule_table(document),
        _write_kernel_table(document),
        _write_bug_table(document),
        wrap_prose(
            f"`.venv/bin/python -m benchmarks.low_precision --seed {document['seed']} --kernels {document['kernels']}` "
            "measures the same problems again."
        ),
        describe_origin(document),
    ]
    return "\n\n".join(parts) + "\n"


def _add_up(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts."""
    total: Counts = {"gradients": 0, "outcomes": {}, "tensors": {}, "accepted": {}}
    for count in counts:
        total["gradients"] += count["gradients"]
        for part in ("outcomes", "tensors", "accepted"):
            for name, number in count[part].items():
                total[part][name] = total[part].get(name, 0) + number
    return total


def select_counts(kernels: Mapping[str, Mapping[str, Counts]], *kinds: str) -> Counts:
    """Return the counts of some kinds over all kernels."""
    return _add_up(counts[kind] for counts in kernels.values() for kind in kinds if kind in counts)


def list_bugs(kernels: Mapping[str, Mapping[str, Counts]]) -> list[str]:
    """Return the bugs that count: those of a kernel beyond rounding, and a factor."""
    kinds = dict.fromkeys(kind for counts in kernels.values() for kind in counts)
    return [kind for kind in kinds if kind not in BY_TENSOR and not kind.endswith(WITHIN_ROUNDING)]


def _write_summary(document: Document) -> str:
    rows: list[list[str]] = []
    for arithmetic, kernels in document["arithmetics"].items():
        right, plain, eager, element, scaled = (select_counts(kernels, kind) for kind in BY_TENSOR)
        bugs = select_counts(kernels, *list_bugs(kernels))
        found = bugs["outcomes"].get("fail", 0) + scaled["tensors"].get("fail", 0)
        planted = bugs["gradients"] + sum(scaled["tensors"].values())
        rows.append(
            [
                arithmetic,
                f"{right['outcomes'].get('fail', 0)}/{right['gradients']}",
                _format_share(right["tensors"], "pass", TARGETS["passing"][arithmetic]),
                f"{plain['outcomes'].get('fail', 0)}/{plain['gradients']}",
                _format_share(plain["tensors"], "pass"),
                f"{eager['outcomes'].get('fail', 0)}/{eager['gradients']}" if eager["gradients"] else "-",
                _format_share({"fail": found, "other": planted - found}, "fail", TARGETS["bugs"][arithmetic]),
                _format_share(element["tensors"], "fail", TARGETS["element"][arithmetic]),
                f"{document['time_ratios'][arithmetic]:.2g}x",
            ]
        )
    head = [
        "gradcheckd",
        "right ones refused",
        "right tensors that pass",
        "by name: refused",
        "by name: pass",
        "PyTorch's own refused",
        "bugs found",
        "one element found",
        "time",
    ]
    return write_table(head, rows)


def _format_share(counts: Mapping[str, int], name: str, target: float | None = None) -> str:
    """Format a part in percent with its counts, and what was aimed at where that is missed."""
    total = sum(counts.values())
    if not total:
        return "-"
    part = counts.get(name, 0)
    text = f"{int(1000 * part / total) / 10:g} % ({part}/{total})"
    return text if target is None or part >= target * total else f"{text}, missed: {100 * target:g} %"


def _write_notes(document: Document) -> str:
    lines = [
        f"Emulations of kernels, {document['kernels']} right ones of each arithmetic, at random sizes, scales of the "
        "inputs and of the upstream gradient from 1e-3 to 1, now and then with equal rows or the upstream gradient of "
        "a mean. They accumulate in float32, in blocks in random order, and round where such kernels do.",
        "Right ones are judged by the recipe of their author, and by the plain name of the arithmetic (BF16 for "
        "FP8_E4M3). PyTorch's own are its eager gradients on a CPU, by the plain name.",
        f"A bug counts if, in one tensor, it is off by {BUG_SIZE:g} times as much as the right kernel, or as "
        "half a unit of its output everywhere, by the norm. A factor of 1.02 counts in every tensor, and one element "
        "that is off by a tenth of its tensor's root mean square, wherever it is. Both do not where the smallest "
        "numbers of FP16 are too coarse: where the error, for a factor that of the largest element, is below "
        f"{BUG_SIZE:g} halves of one of them.",
        "Time is that of a check by the recipe, over that of one of the same model in float64, the median.",
        *_list_preset_counts(document),
    ]
    return "\n".join(wrap_prose(f"- {line}") for line in lines)


def _list_preset_counts(document: Document) -> list[str]:
    """The verdicts on the service's own gradients, a sentence each."""
    return [
        f"Of the {sum(counts.values())} tensors of the presets, {counts['pass']} pass in {dtype} by the service's own "
        f"gradients, {counts['inconclusive']} are inconclusive, and {counts['fail']} fail."
        for dtype, counts in document["presets"].items()
    ]


def _write_rule_table(document: Document) -> str:
    """What the rules of kernels' tests say of the same gradients."""
    rows: list[list[str]] = []
    for arithmetic, kernels in document["arithmetics"].items():
        right, scaled, element = (select_counts(kernels, kind) for kind in (RIGHT, SCALED, ONE_ELEMENT))
        bugs = select_counts(kernels, *list_bugs(kernels))
        ours = [
            f"{counts['outcomes'].get('fail', 0) if kind == 'right' else counts['outcomes'].get('pass', 0)}"
            for kind, counts in (("right", right), ("", bugs), ("", scaled), ("", element))
        ]
        totals = [str(counts["gradients"]) for counts in (right, bugs, scaled, element)]
        rows.append([arithmetic, "gradcheckd", *(f"{part}/{whole}" for part, whole in zip(ours, totals, strict=True))])
        for rule in RULES:
            accepted = [counts["accepted"].get(rule, 0) for counts in (right, bugs, scaled, element)]
            accepted[0] = right["gradients"] - accepted[0]
            rows.append(["", rule, *(f"{part}/{whole}" for part, whole in zip(accepted, totals, strict=True))])
    head = ["", "rule", "right refused", "bugs accepted", "2 % too large accepted", "one element accepted"]
    return write_table(head, rows)


def _write_kernel_table(document: Document) -> str:
    """How many of the right tensors pass, by kernel."""
    arithmetics = document["arithmetics"]
    names = dict.fromkeys(name for kernels in arithmetics.values() for name in kernels)
    rows = [
        [
            name,
            *(
                _format_share(select_counts({name: kernels[name]}, RIGHT)["tensors"], "pass")
                for kernels in arithmetics.values()
            ),
        ]
        for name in names
    ]
    return write_table(["right tensors that pass", *arithmetics], rows)


def _write_bug_table(document: Document) -> str:
    """How many bugs are found, and how many are within rounding."""
    arithmetics = document["arithmetics"]
    names = sorted({bug for kernels in arithmetics.values() for bug in list_bugs(kernels)})
    rows = [[name, *(_format_bug(kernels, name) for kernels in arithmetics.values())] for name in names]
    return "\n\n".join(
        [
            wrap_prose("Bugs found, of those beyond rounding, and in brackets those within rounding and not counted:"),
            write_table(["bug", *arithmetics], rows),
        ]
    )


def _format_bug(kernels: Mapping[str, Mapping[str, Counts]], name: str) -> str:
    beyond, within = select_counts(kernels, name), select_counts(kernels, name + WITHIN_ROUNDING)
    text = f"{beyond['outcomes'].get('fail', 0)}/{beyond['gradients']}"
    return text + (f" ({within['gradients']})" if within["gradients"] else "")
