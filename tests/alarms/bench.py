"""A problem on the bench: its three routes worked out once, and any number of candidates judged by them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.datatype import BY_ANY_NAME
from schemas.tensor import Tensor
from service.checking import language
from service.checking.judge import Judge
from service.checking.question import posed
from service.numerics.graph import Graph
from service.numerics.tiles import Array
from service.numerics.verdict import Verdict
from tests.candidates import routes_of


class Bench:
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
        body = {"tensors": {"y": given.pop("y")}, "weights": given, "model": {"nodes": language.resolved(graph)}}
        self._problem = posed(language.parsed(body | fields))
        self._routes = routes_of(self._problem)
        self._candidate: dict[str, Tensor] = {}
        self._judges: dict[str | None, Judge] = {}

    def verdicts(self, gradients: Mapping[str, Array], arithmetic: str) -> dict[str, Verdict]:
        """Verdicts on gradients, sent in the datatype of an arithmetic; TF32 has none of its own and is declared."""
        declared = arithmetic if arithmetic == "TF32" else None
        datatype = BY_ANY_NAME["FP32" if declared else arithmetic]
        self._candidate |= {name: Tensor(each, datatype, False) for name, each in gradients.items()}
        if declared not in self._judges:
            self._judges[declared] = self._judge(declared)
        with np.errstate(all="ignore"):
            return {name: self._judges[declared].of(name) for name in gradients}

    def _judge(self, declared: str | None) -> Judge:
        """A judge of whatever is the candidate when it is asked, so that it weighs rounding once for all of them."""
        request = self._problem.request.model_copy(update={"candidate": self._candidate, "candidate_dtype": declared})
        return Judge(dataclasses.replace(self._problem, request=request), self._routes)
