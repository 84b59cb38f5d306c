"""Problems whose three gradients are worked out once, and which then judge and diagnose many candidates."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from schemas.datatype import Array
from service.checking import language
from service.checking.budget import planned
from service.checking.diagnosing import diagnosed, scene_of
from service.checking.differentiating import differentiated
from service.checking.judge import Judge
from service.checking.question import Limits, Problem, posed
from service.checking.routes import Routes
from service.checking.stopwatch import Stopwatch
from service.numerics.faults import Diagnosis, Scene
from service.numerics.models import PRESETS
from service.numerics.outcome import Outcome
from service.numerics.verdict import Verdict


def routes_of(problem: Problem) -> Routes:
    """The three routes, as a check has them."""
    with np.errstate(all="ignore"):
        return differentiated(problem, planned(problem, Limits()), Stopwatch(), Limits())


class Worked:
    """A problem with its routes."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.problem = posed(language.parsed(dict(body)))
        self.routes = routes_of(self.problem)
        self._judge = Judge(self.problem, self.routes)

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
        judge = self._judge.with_candidate(candidate, datatype)
        with np.errstate(all="ignore"):
            verdicts = {name: judge.of(name) for name in candidate}
            return verdicts, diagnosed(judge.problem, judge, verdicts, 1000)

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
