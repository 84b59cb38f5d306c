"""Counts of trials in low precision, by arithmetic, kernel and kind."""

from collections.abc import Iterable
from typing import Any

from benchmarks.low_precision_rules import RULES
from benchmarks.low_precision_trials import EAGER, ONE_ELEMENT, RIGHT, RIGHT_PLAIN, SCALED, Trial

BY_TENSOR = (RIGHT, RIGHT_PLAIN, EAGER, ONE_ELEMENT, SCALED)
"""Kinds in which every tensor is right, or wrong, by itself."""
OUTCOMES = ("pass", "fail", "inconclusive")
Counts = dict[str, Any]


def make_counts() -> Counts:
    """Return counts of nothing."""
    zeros = dict.fromkeys(OUTCOMES, 0)
    return {"gradients": 0, "outcomes": dict(zeros), "tensors": dict(zeros), "accepted": dict.fromkeys(RULES, 0)}


def add_trial(counts: Counts, trial: Trial) -> None:
    """Count a trial: by its worst outcome, and by the outcome of each tensor."""
    counts["gradients"] += 1
    counts["outcomes"][trial.outcome] += 1
    for outcome in trial.outcomes.values():
        counts["tensors"][outcome] += 1
    for rule, is_accepted in trial.accepted.items():
        counts["accepted"][rule] += is_accepted


def count_trials(trials: Iterable[Trial]) -> dict[str, dict[str, dict[str, Counts]]]:
    """Return the counts by arithmetic, kernel and kind; those of bugs that rounding hides have a kind of their own."""
    counted: dict[str, dict[str, dict[str, Counts]]] = {}
    for trial in trials:
        kind = trial.kind if trial.is_beyond_rounding else f"{trial.kind} (within rounding)"
        kinds = counted.setdefault(trial.arithmetic, {}).setdefault(trial.kernel, {})
        add_trial(kinds.setdefault(kind, make_counts()), trial)
    return counted


def list_exceptions(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Return the right kernels that are refused, and the bugs beyond rounding that are not found."""
    return [
        {"arithmetic": trial.arithmetic, "kernel": trial.kernel, "seed": trial.seed, "kind": trial.kind}
        | {"outcomes": dict(trial.outcomes)}
        for trial in trials
        if is_mistaken(trial)
    ]


def is_mistaken(trial: Trial) -> bool:
    """Return whether a right kernel is refused, or a bug beyond rounding is not found."""
    if trial.kind in (RIGHT, RIGHT_PLAIN, EAGER):
        return trial.outcome == "fail"
    if trial.kind in (ONE_ELEMENT, SCALED):
        return trial.is_beyond_rounding and set(trial.outcomes.values()) != {"fail"}
    return trial.is_beyond_rounding and trial.outcome != "fail"
