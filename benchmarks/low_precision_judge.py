"""The service's verdicts on gradients of one problem: differences once, and any number of candidates."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.recipe import RecipeSpec
from schemas.tensor import Tensor
from service.checks.common.limits import Limits
from service.checks.common.stage_timer import StageTimer
from service.checks.graph import model_language
from service.checks.graph.budget import plan_within_limits
from service.checks.graph.diagnosis import diagnose_failures
from service.checks.graph.gradients import compute_gradients
from service.checks.graph.judge import Judge
from service.checks.graph.problem import build_problem
from service.numerics.core.batching import Array
from service.numerics.verdict.gradient_verdict import GradientVerdict

Arithmetic = str | Mapping[str, Any]


class CandidateJudge:
    """A judge of the gradients of one problem, whose differences are computed once.

    Its verdicts are those of a check: a test compares them.

    Parameters
    ----------
    model
        The model, as a text.
    tensors, weights
        As of a check.
    recipe
        Recipe or name of the arithmetic, which may round the tensors for all.
    """

    def __init__(
        self, model: str, tensors: Mapping[str, Array], weights: Mapping[str, Array], recipe: Arithmetic
    ) -> None:
        body = {
            "tensors": {name: tensor.tolist() for name, tensor in tensors.items()},
            "weights": {name: tensor.tolist() for name, tensor in weights.items()},
            "model": model,
            "candidate": {name: tensor.tolist() for name, tensor in weights.items()},
            "candidate_dtype": recipe,
        }
        self._problem = build_problem(model_language.parse_check_request(body))
        with np.errstate(all="ignore"):
            self._routes = compute_gradients(
                self._problem, plan_within_limits(self._problem, Limits()), StageTimer(), Limits()
            )
        self._candidate: dict[str, Tensor] = {}
        self._judges: dict[str, Judge] = {}

    def judge(self, gradients: Mapping[str, Array], arithmetic: Arithmetic) -> dict[str, str]:
        """Return the outcome of each gradient."""
        return {name: verdict.outcome.wire_name for name, verdict in self._judge(gradients, arithmetic)[1].items()}

    def diagnose(self, gradients: Mapping[str, Array], arithmetic: Arithmetic) -> dict[str, list[str]]:
        """Return the bugs that the explanations of each gradient name, those of the gradients that fail."""
        judge, verdicts = self._judge(gradients, arithmetic)
        with np.errstate(all="ignore"):
            explanations = diagnose_failures(judge.problem, judge, verdicts, self._routes.evaluations)
        return {name: [explanation.bug_name for explanation in found] for name, found in explanations.items()}

    def _judge(
        self, gradients: Mapping[str, Array], arithmetic: Arithmetic
    ) -> tuple[Judge, dict[str, GradientVerdict]]:
        self._candidate |= {name: Tensor(gradient, None, False) for name, gradient in gradients.items()}
        key = str(arithmetic)
        if key not in self._judges:
            declared = arithmetic if isinstance(arithmetic, str) else RecipeSpec.model_validate(dict(arithmetic))
            request = self._problem.request.model_copy(
                update={"candidate": self._candidate, "candidate_dtype": declared}
            )
            self._judges[key] = Judge(dataclasses.replace(self._problem, request=request), self._routes)
        judge = self._judges[key]
        with np.errstate(all="ignore"):
            return judge, {name: judge.verdict(name) for name in gradients}
