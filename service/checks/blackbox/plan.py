"""`POST /v1/plan`: request to the points at which the client evaluates its loss. Knows no Flask."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from schemas.json_writer import DeferredPart
from schemas.plan import PlanAnswer
from schemas.tensor import Encoding, Tensor, encode_tensor
from service.checks.blackbox import parse
from service.checks.blackbox.evaluation_plan import BINARY_SIZE_FACTOR, EvaluationPlan, build_evaluation_plan
from service.checks.blackbox.plan_codec import encode_plan, stack_points
from service.checks.blackbox.scales_and_bounds import MoveSettings
from service.checks.common.deadline import current_clock
from service.checks.common.limits import Limits
from service.checks.graph.answer_size import check_answer_bytes, estimate_tensor_bytes
from service.numerics.core.interrupts import iterate_interruptibly

_REMEDY = "Take fewer directions or smaller tensors, or ask for the points in the safetensors format (Accept)"
_BYTES_BESIDE_TENSORS = 10_000
"""Bytes of an answer beside tensors."""


class PlanResult(NamedTuple):
    """A plan, how many points it has, and these, by tensor, (evaluations, ...); and how they are asked for in JSON."""

    plan: Mapping[str, Any]
    evaluations: int
    points: Mapping[str, Tensor]
    encoding: Encoding

    @property
    def answer(self) -> PlanAnswer:
        """The answer in JSON: point by point."""
        return self._build_answer([self._encode_point(at) for at in iterate_interruptibly(range(self.evaluations))])

    @property
    def deferred_answer(self) -> PlanAnswer:
        """The same to be written by `schemas.json_writer`, which has each point made as it is written."""
        return self._build_answer([DeferredPart(partial(self._encode_point, at)) for at in range(self.evaluations)])

    @property
    def answer_without_points(self) -> dict[str, Any]:
        """The answer without the points."""
        return {"plan": dict(self.plan), "evaluations": self.evaluations, "order": list(self.points)}

    def _build_answer(self, points: list[Any]) -> PlanAnswer:
        return cast("Any", {**self.answer_without_points, "points": points})

    def _encode_point(self, index: int) -> Mapping[str, Any]:
        return {
            name: encode_tensor(each.array[index], self.encoding, each.datatype) for name, each in self.points.items()
        }

    @property
    def binary_tensors(self) -> Mapping[str, Tensor]:
        """The points as they are named in a binary answer."""
        return {f"points/{name}": each for name, each in self.points.items()}


def plan_evaluations(
    body: object,
    limits: Limits | None = None,
    *,
    binary: bool = False,
    reserve_answer_bytes: Callable[[int], None] | None = None,
) -> PlanResult:
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
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline(), clock.refuse_on_timeout("Ask for fewer directions", "directions", "count"):
        request = parse.parse_plan_request(body, limits)
        found = build_evaluation_plan(
            request.point,
            MoveSettings(request.scale or {}, request.bounds or {}),
            random=request.directions.kind == "random",
            count=request.directions.count,
            seed=request.seed,
            limits=limits,
            size_factor=BINARY_SIZE_FACTOR if binary else 1,
        )
        if reserve_answer_bytes is not None:
            size = _estimate_answer_bytes(found, "binary" if binary else request.encoding)
            reserve_answer_bytes(check_answer_bytes(size, limits, _REMEDY, "directions"))
        with clock.name_stage("the points were being made"):
            return PlanResult(encode_plan(found), found.layout.evaluation_count, stack_points(found), request.encoding)


def _estimate_answer_bytes(evaluation_plan: EvaluationPlan, encoding: Encoding) -> int:
    """Bytes of the answer, at most: of every point every tensor, with its name, and the plan."""
    points = evaluation_plan.layout.points
    of_a_point = sum(
        6 * len(name)
        + 8
        + estimate_tensor_bytes(each.values.shape, encoding, evaluation_plan.datatypes[name].storage_dtype.itemsize)
        for name, each in points.items()
    )
    of_the_plan = sum(40 * len(name) + 500 + 11 * each.values.size for name, each in points.items())
    return _BYTES_BESIDE_TENSORS + evaluation_plan.layout.evaluation_count * of_a_point + of_the_plan
