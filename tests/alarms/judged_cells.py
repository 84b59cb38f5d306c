"""What the service says of the gradients of a cell, correct ones and wrong ones, and what of that is a mistake."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.outcome import Outcome
from tests.alarms.judging_bench import JudgingBench
from tests.alarms.planted_errors import MATTERING_FRACTION, plant_errors
from tests.alarms.problem_cells import (
    EXTENDED_SOURCE,
    NARROW_SOURCES,
    WIDE_SOURCES,
    Gradients,
    GradientSource,
    draw_problem,
    round_to_narrow,
)
from tests.problem_families import FamilyProblem


@dataclass(frozen=True)
class JudgedTensor:
    """One tensor of one gradient; `kind` is that of the error that was planted in it, None where it is correct."""

    problem: FamilyProblem
    source: str
    name: str
    kind: str | None
    verdict: GradientVerdict

    def __str__(self) -> str:
        what = self.kind or "correct"
        worst = self.verdict.worst_elements[0] if self.verdict.worst_elements else ""
        where = f"cells.problem({self.problem.family!r}, {self.problem.variant!r}, {self.problem.seed})"
        return f"{where} {self.name}, {self.source}, {what}: {self.verdict.outcome.wire_name}, {worst}"


def judge_problem(model: str, variant: str, seed: int, *, narrow: bool = True, **fields: Any) -> Iterator[JudgedTensor]:
    """All that is judged of one problem; `fields` of the request beside tensors and model."""
    posed, leaves = draw_problem(model, variant, seed)
    generator = np.random.default_rng(seed)
    for sources, point in ((WIDE_SOURCES, leaves), (NARROW_SOURCES, round_to_narrow(leaves)))[: 2 if narrow else 1]:
        bench = JudgingBench(posed.graph, point, **fields)
        gradients_by_source = {source: source.compute_gradients(model, point, generator) for source in sources}
        for source, gradients in gradients_by_source.items():
            if gradients is not None:
                verdicts = bench.judge_gradients(gradients, source.arithmetic)
                yield from (JudgedTensor(posed, str(source), name, None, verdict) for name, verdict in verdicts.items())
        exact, extended = (
            source.compute_gradients(model, point, generator) for source in (WIDE_SOURCES[0], EXTENDED_SOURCE)
        )
        assert exact is not None
        assert extended is not None
        yield from _judge_planted_errors(
            posed,
            bench,
            {source: outcome for source, outcome in gradients_by_source.items() if outcome},
            exact,
            extended,
        )


def _judge_planted_errors(
    posed: FamilyProblem,
    bench: JudgingBench,
    gradients_by_source: Mapping[GradientSource, Gradients],
    exact: Gradients,
    extended: Gradients,
) -> Iterator[JudgedTensor]:
    """Errors in one gradient of each arithmetic, the first that there is."""
    generator = np.random.default_rng(posed.seed)
    first = {source.arithmetic: source for source in reversed(gradients_by_source)}
    for arithmetic in (arithmetic for arithmetic in MATTERING_FRACTION if arithmetic in first):
        source = first[arithmetic]
        for error in plant_errors(arithmetic, exact, extended, generator):
            wrong = error.apply(gradients_by_source[source][error.name], exact[error.name])
            verdict = bench.judge_gradients({error.name: wrong}, arithmetic)[error.name]
            yield JudgedTensor(posed, str(source), error.name, error.kind, verdict)


def find_alarms(tensors: Iterable[JudgedTensor]) -> list[JudgedTensor]:
    """Correct ones that fail."""
    return [tensor for tensor in tensors if tensor.kind is None and tensor.verdict.outcome == Outcome.FAIL]


def find_misses(tensors: Iterable[JudgedTensor]) -> list[JudgedTensor]:
    """Wrong ones that pass."""
    return [tensor for tensor in tensors if tensor.kind is not None and tensor.verdict.outcome == Outcome.PASS]


def compute_decided_fraction(tensors: Iterable[JudgedTensor], arithmetic: str) -> float | None:
    """Part of the correct tensors in an arithmetic that are not inconclusive; None where there is none."""
    outcomes = [
        tensor.verdict.outcome for tensor in tensors if tensor.kind is None and tensor.source.split()[0] == arithmetic
    ]
    return sum(outcome != Outcome.INCONCLUSIVE for outcome in outcomes) / len(outcomes) if outcomes else None


def compute_passing_fraction(tensors: Iterable[JudgedTensor], source: str) -> float:
    """Part of the correct tensors from a source that pass."""
    outcomes = [tensor.verdict.outcome for tensor in tensors if tensor.kind is None and tensor.source == source]
    return outcomes.count(Outcome.PASS) / len(outcomes)
