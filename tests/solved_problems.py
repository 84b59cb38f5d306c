"""Problems whose three gradients are worked out once, and which then judge and diagnose many candidates."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from schemas.datatype import Array
from service.checks.common.limits import Limits
from service.checks.common.stage_timer import StageTimer
from service.checks.graph import model_language
from service.checks.graph.budget import plan_within_limits
from service.checks.graph.diagnosis import build_context, diagnose_failures
from service.checks.graph.gradient_sources import GradientSources
from service.checks.graph.gradients import compute_gradients
from service.checks.graph.judge import Judge
from service.checks.graph.problem import Problem, build_problem
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.model.presets import PRESETS
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.outcome import Outcome


def compute_routes(problem: Problem) -> GradientSources:
    """The three routes, as a check has them."""
    with np.errstate(all="ignore"):
        return compute_gradients(problem, plan_within_limits(problem, Limits()), StageTimer(), Limits())


class SolvedProblem:
    """A problem with its routes."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.problem = build_problem(model_language.parse_check_request(dict(body)))
        self.routes = compute_routes(self.problem)
        self._judge = Judge(self.problem, self.routes)

    def get_gradient(self, name: str) -> Array:
        """The analytic gradient with respect to a leaf or node."""
        return self.routes.analytic.gradients[name]

    def get_value(self, name: str) -> Array:
        """A leaf or node."""
        return self.routes.analytic.values[name]

    def build_context(self, names: tuple[str, ...] | None = None) -> DiagnosisContext:
        """The scene in which the candidates are the right gradients."""
        right = {name: self.routes.analytic.gradients[name] for name in names or self.problem.names}
        return build_context(self.problem.with_candidate(right))

    def judge_candidates(
        self, candidate: Mapping[str, Array], datatype: str | None = None
    ) -> tuple[dict[str, GradientVerdict], dict[str, list[BugExplanation]]]:
        """Judge candidates, and diagnose those that fail."""
        judge = self._judge.with_candidate(candidate, datatype)
        with np.errstate(all="ignore"):
            verdicts = {name: judge.verdict(name) for name in candidate}
            return verdicts, diagnose_failures(judge.problem, judge, verdicts, 1000)

    def list_bug_names(self, candidate: Mapping[str, Array], datatype: str | None = None) -> dict[str, set[str]]:
        """Names of the bugs of the candidates that fail."""
        verdicts, explanations = self.judge_candidates(candidate, datatype)
        failed = {name for name, verdict in verdicts.items() if verdict.outcome == Outcome.FAIL}
        return {name: {explanation.bug_name for explanation in explanations.get(name, [])} for name in failed}


@lru_cache
def solve_preset(name: str, *more: str) -> SolvedProblem:
    """A preset at its example, differentiated by its weights, and by more."""
    request = PRESETS[name].example_request
    return SolvedProblem({**request, "with_respect_to": [*request["weights"], *more]})
