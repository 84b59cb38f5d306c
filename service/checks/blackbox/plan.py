"""`POST /v1/plan`: from a request to the points of evaluation, without Flask."""

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
    """A plan and its points.

    Attributes
    ----------
    plan
        The plan, as it crosses the wire.
    evaluations
        Number of points.
    points
        Points by tensor, each of shape (evaluations, ...).
    encoding
        Encoding of the tensors in JSON.
    """

    plan: Mapping[str, Any]
    evaluations: int
    points: Mapping[str, Tensor]
    encoding: Encoding

    @property
    def answer(self) -> PlanAnswer:
        """Return the answer in JSON, point by point."""
        return self._build_answer(
            [self._encode_point(index) for index in iterate_interruptibly(range(self.evaluations))]
        )

    @property
    def deferred_answer(self) -> PlanAnswer:
        """Return the answer for `schemas.json_writer`, which makes each point as it writes it."""
        return self._build_answer(
            [DeferredPart(partial(self._encode_point, index)) for index in range(self.evaluations)]
        )

    @property
    def answer_without_points(self) -> dict[str, Any]:
        """Return the answer without the points."""
        return {"plan": dict(self.plan), "evaluations": self.evaluations, "order": list(self.points)}

    def _build_answer(self, points: list[Any]) -> PlanAnswer:
        return cast("Any", {**self.answer_without_points, "points": points})

    def _encode_point(self, index: int) -> Mapping[str, Any]:
        return {
            name: encode_tensor(tensor.array[index], self.encoding, tensor.datatype)
            for name, tensor in self.points.items()
        }

    @property
    def binary_tensors(self) -> Mapping[str, Tensor]:
        """Return the points under their names in a binary answer."""
        return {f"points/{name}": tensor for name, tensor in self.points.items()}


def plan_evaluations(
    body: object,
    limits: Limits | None = None,
    *,
    binary: bool = False,
    reserve_answer_bytes: Callable[[int], None] | None = None,
) -> PlanResult:
    """Plan the evaluations of a loss.

    Parameters
    ----------
    body
        Request, as parsed from JSON.
    limits
        Limits of the request; the default limits if left out.
    binary
        True for an answer in safetensors, whose points may hold more numbers. False by default.
    reserve_answer_bytes
        Receiver of the largest size of the answer, in bytes, before the points are made; may raise to refuse it. None
        by default.

    Raises
    ------
    InvalidRequestError
        All errors of the request.
    """
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline(), clock.refuse_on_timeout("Ask for fewer directions", "directions", "count"):
        request = parse.parse_plan_request(body, limits)
        plan = build_evaluation_plan(
            request.point,
            MoveSettings(request.scale or {}, request.bounds or {}),
            random=request.directions.kind == "random",
            count=request.directions.count,
            seed=request.seed,
            limits=limits,
            size_factor=BINARY_SIZE_FACTOR if binary else 1,
        )
        if reserve_answer_bytes is not None:
            answer_bytes = _estimate_answer_bytes(plan, "binary" if binary else request.encoding)
            reserve_answer_bytes(check_answer_bytes(answer_bytes, limits, _REMEDY, "directions"))
        with clock.name_stage("the points were being made"):
            return PlanResult(encode_plan(plan), plan.layout.evaluation_count, stack_points(plan), request.encoding)


def _estimate_answer_bytes(evaluation_plan: EvaluationPlan, encoding: Encoding) -> int:
    """Return the largest size of the answer: all points with names, and the plan."""
    points = evaluation_plan.layout.points
    point_bytes = sum(
        6 * len(name)
        + 8
        + estimate_tensor_bytes(point.values.shape, encoding, evaluation_plan.datatypes[name].storage_dtype.itemsize)
        for name, point in points.items()
    )
    plan_bytes = sum(40 * len(name) + 500 + 11 * point.values.size for name, point in points.items())
    return _BYTES_BESIDE_TENSORS + evaluation_plan.layout.evaluation_count * point_bytes + plan_bytes
