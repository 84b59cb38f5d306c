"""`POST /v1/plan`: request to the points at which the client evaluates its loss. Knows no Flask."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from schemas.plan import PlanAnswer
from schemas.tensor import Encoding, Tensor, encode
from schemas.writing import Later
from service.blackbox import language
from service.blackbox.moving import Asked
from service.blackbox.posing import BINARY, Posed, posed
from service.blackbox.sealing import sealed, stacked
from service.checking.answering import checked_bytes, tensor_bytes
from service.checking.deadline import clock_of
from service.checking.question import Limits
from service.numerics.pausing import pausing

_REMEDY = "Take fewer directions or smaller tensors, or ask for the points in the safetensors format (Accept)"
_ASIDE = 10_000
"""Bytes of an answer beside tensors."""


class Planned(NamedTuple):
    """A plan, how many points it has, and these, by tensor, (evaluations, ...); and how they are asked for in JSON."""

    plan: Mapping[str, Any]
    evaluations: int
    points: Mapping[str, Tensor]
    encoding: Encoding

    @property
    def answer(self) -> PlanAnswer:
        """The answer in JSON: point by point."""
        return self._answer([self._point(at) for at in pausing(range(self.evaluations))])

    @property
    def late(self) -> PlanAnswer:
        """The same to be written by `schemas.writing`, which has each point made as it is written."""
        return self._answer([Later(partial(self._point, at)) for at in range(self.evaluations)])

    @property
    def rest(self) -> dict[str, Any]:
        """The answer without the points."""
        return {"plan": dict(self.plan), "evaluations": self.evaluations, "order": list(self.points)}

    def _answer(self, points: list[Any]) -> PlanAnswer:
        return cast("Any", {**self.rest, "points": points})

    def _point(self, at: int) -> Mapping[str, Any]:
        return {name: encode(each.array[at], self.encoding, each.datatype) for name, each in self.points.items()}

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The points as they are named in a binary answer."""
        return {f"points/{name}": each for name, each in self.points.items()}


def plan(
    body: object,
    limits: Limits | None = None,
    *,
    binary: bool = False,
    reserve: Callable[[int], None] | None = None,
) -> Planned:
    """Answer a request.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        What it may take; of a binary answer more.
    reserve
        Is told of how many bytes the answer is at most, before the points are made, and may raise to refuse it.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it.
    """
    limits = limits or Limits()
    clock = clock_of(limits.seconds)
    with clock.watching(), clock.refusing("Ask for fewer directions", "directions", "count"):
        request = language.parsed_plan(body, limits)
        found = posed(
            request.point,
            Asked(request.scale or {}, request.bounds or {}),
            random=request.directions.kind == "random",
            count=request.directions.count,
            seed=request.seed,
            limits=limits,
            room=BINARY if binary else 1,
        )
        if reserve is not None:
            size = _bytes(found, "binary" if binary else request.encoding)
            reserve(checked_bytes(size, limits, _REMEDY, "directions"))
        with clock.during("the points were being made"):
            return Planned(sealed(found), found.layout.evaluations, stacked(found), request.encoding)


def _bytes(found: Posed, encoding: Encoding) -> int:
    """Bytes of the answer, at most: of every point every tensor, with its name, and the plan."""
    points = found.layout.points
    of_a_point = sum(
        6 * len(name) + 8 + tensor_bytes(each.values.shape, encoding, found.datatypes[name].stored.itemsize)
        for name, each in points.items()
    )
    of_the_plan = sum(40 * len(name) + 500 + 11 * each.values.size for name, each in points.items())
    return _ASIDE + found.layout.evaluations * of_a_point + of_the_plan
