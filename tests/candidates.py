"""Problems whose three gradients are worked out once, and which then judge and diagnose many candidates."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from schemas.datatype import Array
from service.checking import language
from service.checking.diagnosing import diagnosed, scene_of
from service.checking.judge import Judge, Routes
from service.checking.question import posed
from service.numerics.faults import Diagnosis, Scene
from service.numerics.gradients import analytic, autograd, finite_difference
from service.numerics.models import PRESETS
from service.numerics.outcome import Outcome
from service.numerics.verdict import Verdict


class Worked:
    """A problem with its routes."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.problem = posed(language.parsed(dict(body)))
        problem = self.problem
        with np.errstate(all="ignore"):
            self.routes = Routes(
                analytic.differentiate(problem.graph, problem.leaves, dtype=problem.dtype),
                autograd.differentiate(problem.graph, problem.leaves, problem.names, problem.dtype.name),
                finite_difference.differentiate(problem.graph, problem.wide, problem.names),
            )
        self._allowances: dict[str, Any] = {}

    def right(self, name: str) -> Array:
        """The analytic gradient with respect to a leaf or node."""
        return self.routes.analytic.gradients[name]

    def value(self, name: str) -> Array:
        """A leaf or node."""
        return self.routes.analytic.values[name]

    def scene(self, names: tuple[str, ...] | None = None) -> Scene:
        """The scene in which the candidates are the right gradients."""
        right = {name: self.routes.analytic.gradients[name] for name in names or self.problem.names}
        return scene_of(self.problem.with_candidate(right))

    def judged(
        self, candidate: Mapping[str, Array], datatype: str | None = None
    ) -> tuple[dict[str, Verdict], dict[str, list[Diagnosis]]]:
        """Judge candidates, and diagnose those that fail."""
        problem = self.problem.with_candidate(candidate, datatype)
        judge = Judge(problem, self.routes)
        judge._allowances = self._allowances
        with np.errstate(all="ignore"):
            verdicts = {name: judge.of(name) for name in candidate}
            return verdicts, diagnosed(problem, judge, verdicts, 1000)

    def named(self, candidate: Mapping[str, Array], datatype: str | None = None) -> dict[str, set[str]]:
        """Names of the bugs of the candidates that fail."""
        verdicts, found = self.judged(candidate, datatype)
        failed = {name for name, each in verdicts.items() if each.outcome == Outcome.FAIL}
        return {name: {each.name for each in found.get(name, [])} for name in failed}


@lru_cache
def preset(name: str, *more: str) -> Worked:
    """A preset at its example, differentiated by its weights, and by more."""
    request = PRESETS[name].request
    return Worked({**request, "with_respect_to": [*request["weights"], *more]})
