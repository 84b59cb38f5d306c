"""A problem on the bench: its three routes worked out once, and any number of candidates judged by them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.datatype import BY_ANY_NAME
from schemas.tensor import Tensor
from service.checks.graph import model_language
from service.checks.graph.judge import Judge
from service.checks.graph.problem import build_problem
from service.numerics.core.batching import Array
from service.numerics.model.graph import Graph
from service.numerics.verdict.gradient_verdict import GradientVerdict
from tests.solved_problems import compute_routes


class JudgingBench:
    """Judges gradients of one problem.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor, of which all but the target are differentiated by.
    fields
        Of the request, beside tensors and model.
    """

    def __init__(self, graph: Graph, leaves: Mapping[str, Array], **fields: Any) -> None:
        given = {name: leaf.tolist() for name, leaf in leaves.items()}
        body = {
            "tensors": {"y": given.pop("y")},
            "weights": given,
            "model": {"nodes": model_language.graph_to_dict(graph)},
        }
        self._problem = build_problem(model_language.parse_check_request(body | fields))
        self._routes = compute_routes(self._problem)
        self._candidate: dict[str, Tensor] = {}
        self._judges: dict[str | None, Judge] = {}

    def judge_gradients(self, gradients: Mapping[str, Array], arithmetic: str) -> dict[str, GradientVerdict]:
        """Verdicts on gradients, sent in the datatype of an arithmetic; TF32 has none of its own and is declared."""
        declared = arithmetic if arithmetic == "TF32" else None
        datatype = BY_ANY_NAME["FP32" if declared else arithmetic]
        self._candidate |= {name: Tensor(gradient, datatype, False) for name, gradient in gradients.items()}
        if declared not in self._judges:
            self._judges[declared] = self._make_judge(declared)
        with np.errstate(all="ignore"):
            return {name: self._judges[declared].verdict(name) for name in gradients}

    def _make_judge(self, declared: str | None) -> Judge:
        """A judge of whatever is the candidate when it is asked, so that it weighs rounding once for all of them."""
        request = self._problem.request.model_copy(update={"candidate": self._candidate, "candidate_dtype": declared})
        return Judge(dataclasses.replace(self._problem, request=request), self._routes)
