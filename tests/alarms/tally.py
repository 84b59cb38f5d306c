"""What the service says of the gradients of a cell, correct ones and wrong ones, and what of that is a mistake."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.outcome import Outcome
from service.numerics.verdict import Verdict
from tests.alarms.bench import Bench
from tests.alarms.cells import EXTENDED, NARROW, WIDE, Gradients, Source, problem, rounded
from tests.alarms.planted import MATTERS, planted
from tests.families import Problem


@dataclass(frozen=True)
class Judged:
    """One tensor of one gradient; `kind` is that of the error that was planted in it, None where it is correct."""

    problem: Problem
    source: str
    name: str
    kind: str | None
    verdict: Verdict

    def __str__(self) -> str:
        what = self.kind or "correct"
        worst = self.verdict.worst[0] if self.verdict.worst else ""
        where = f"cells.problem({self.problem.family!r}, {self.problem.variant!r}, {self.problem.seed})"
        return f"{where} {self.name}, {self.source}, {what}: {self.verdict.outcome.text}, {worst}"


def judged(model: str, variant: str, seed: int, *, narrow: bool = True, **fields: Any) -> Iterator[Judged]:
    """All that is judged of one problem; `fields` of the request beside tensors and model."""
    posed, leaves = problem(model, variant, seed)
    generator = np.random.default_rng(seed)
    for sources, point in ((WIDE, leaves), (NARROW, rounded(leaves)))[: 2 if narrow else 1]:
        bench = Bench(posed.graph, point, **fields)
        found = {source: source.gradients(model, point, generator) for source in sources}
        for source, gradients in found.items():
            if gradients is not None:
                verdicts = bench.verdicts(gradients, source.arithmetic)
                yield from (Judged(posed, str(source), name, None, each) for name, each in verdicts.items())
        exact, extended = (source.gradients(model, point, generator) for source in (WIDE[0], EXTENDED))
        assert exact is not None
        assert extended is not None
        yield from _wrong(posed, bench, {source: each for source, each in found.items() if each}, exact, extended)


def _wrong(
    posed: Problem, bench: Bench, found: Mapping[Source, Gradients], exact: Gradients, extended: Gradients
) -> Iterator[Judged]:
    """Errors in one gradient of each arithmetic, the first that there is."""
    generator = np.random.default_rng(posed.seed)
    first = {source.arithmetic: source for source in reversed(found)}
    for arithmetic in (each for each in MATTERS if each in first):
        source = first[arithmetic]
        for error in planted(arithmetic, exact, extended, generator):
            wrong = error.into(found[source][error.name], exact[error.name])
            verdict = bench.verdicts({error.name: wrong}, arithmetic)[error.name]
            yield Judged(posed, str(source), error.name, error.kind, verdict)


def alarms(found: Iterable[Judged]) -> list[Judged]:
    """Correct ones that fail."""
    return [each for each in found if each.kind is None and each.verdict.outcome == Outcome.FAIL]


def misses(found: Iterable[Judged]) -> list[Judged]:
    """Wrong ones that pass."""
    return [each for each in found if each.kind is not None and each.verdict.outcome == Outcome.PASS]


def decided(found: Iterable[Judged], arithmetic: str) -> float | None:
    """Part of the correct tensors in an arithmetic that are not inconclusive; None where there is none."""
    outcomes = [each.verdict.outcome for each in found if each.kind is None and each.source.split()[0] == arithmetic]
    return sum(each != Outcome.INCONCLUSIVE for each in outcomes) / len(outcomes) if outcomes else None


def passing(found: Iterable[Judged], source: str) -> float:
    """Part of the correct tensors from a source that pass."""
    outcomes = [each.verdict.outcome for each in found if each.kind is None and each.source == source]
    return outcomes.count(Outcome.PASS) / len(outcomes)
