"""`POST /v1/plan`: request to the points at which the client evaluates its loss. Knows no Flask."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from schemas.plan import PlanAnswer
from schemas.tensor import Encoding, Tensor, encode
from service.blackbox import language
from service.blackbox.moving import Asked
from service.blackbox.posing import BINARY, posed
from service.blackbox.sealing import sealed, stacked
from service.checking.deadline import clock_of
from service.checking.question import Limits
from service.numerics.pausing import pausing


class Planned(NamedTuple):
    """A plan, how many points it has, and these, by tensor, (evaluations, ...); and how they are asked for in JSON."""

    plan: Mapping[str, Any]
    evaluations: int
    points: Mapping[str, Tensor]
    encoding: Encoding

    @property
    def answer(self) -> PlanAnswer:
        """The answer in JSON: point by point."""
        points = [
            {name: encode(each.array[at], self.encoding, each.datatype) for name, each in self.points.items()}
            for at in pausing(range(self.evaluations))
        ]
        return cast("Any", {**self.rest, "points": points})

    @property
    def rest(self) -> dict[str, Any]:
        """The answer without the points."""
        return {"plan": dict(self.plan), "evaluations": self.evaluations, "order": list(self.points)}

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The points as they are named in a binary answer."""
        return {f"points/{name}": each for name, each in self.points.items()}


def plan(body: object, limits: Limits | None = None, *, binary: bool = False) -> Planned:
    """Answer a request.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        What it may take; of a binary answer more.

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
        with clock.during("the points were being made"):
            return Planned(sealed(found), found.layout.evaluations, stacked(found), request.encoding)
