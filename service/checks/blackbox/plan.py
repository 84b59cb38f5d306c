"""`POST /v1/plan`: from a request to the points of evaluation, without Flask."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from schemas.datatype import DATATYPES
from schemas.json_writer import DeferredPart
from schemas.plan import PlanAnswer
from schemas.tensor import Encoding, Tensor, encode_tensor
from service.checks.blackbox import parse
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.looks import list_looks, select_points
from service.checks.blackbox.outputs import stack_tangents
from service.checks.blackbox.plan_codec import encode_plan
from service.checks.blackbox.plan_size import BINARY_SIZE_FACTOR
from service.checks.blackbox.plan_source import build_requested_plan
from service.checks.common.answer_bytes import check_answer_bytes, estimate_tensor_bytes
from service.checks.common.deadline import current_clock
from service.checks.common.limits import Limits
from service.numerics.core.batching import Array
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
    cotangents
        Cotangents of the outputs, by name; none of a loss.
    tangents
        Tangents by tensor, each of shape (directions, ...); none of a loss.
    """

    plan: Mapping[str, Any]
    evaluations: int
    points: Mapping[str, Tensor]
    encoding: Encoding
    cotangents: Mapping[str, Tensor] = MappingProxyType({})
    tangents: Mapping[str, Tensor] = MappingProxyType({})

    @property
    def answer(self) -> PlanAnswer:
        """Return the answer in JSON, point by point."""
        points = [self._encode_point(index) for index in iterate_interruptibly(range(self.evaluations))]
        return self._build_answer(points, [encode() for encode in self._list_tangents()])

    @property
    def deferred_answer(self) -> PlanAnswer:
        """Return the answer for `schemas.json_writer`, which makes each point as it writes it."""
        points = [DeferredPart(partial(self._encode_point, index)) for index in range(self.evaluations)]
        return self._build_answer(points, [DeferredPart(encode) for encode in self._list_tangents()])

    @property
    def answer_without_points(self) -> dict[str, Any]:
        """Return the answer without the points."""
        return {"plan": dict(self.plan), "evaluations": self.evaluations, "order": list(self.points)}

    def _build_answer(self, points: list[Any], tangents: list[Any]) -> PlanAnswer:
        answer = {**self.answer_without_points, "points": points}
        if self.cotangents:
            answer["cotangents"] = {name: self._encode_tensor(tensor) for name, tensor in self.cotangents.items()}
            answer["tangents"] = tangents
        return cast("Any", answer)

    def _list_tangents(self) -> Iterator[Callable[[], Mapping[str, Any]]]:
        """List the functions that encode one tangent each, in the order of the directions."""
        for name, tensor in self.tangents.items():
            for direction in range(len(tensor.array)):
                yield partial(self._encode_tangent, name, direction)

    def _encode_tangent(self, name: str, direction: int) -> Mapping[str, Any]:
        tensor = self.tangents[name]
        return {name: encode_tensor(tensor.array[direction], self.encoding, tensor.datatype)}

    def _encode_tensor(self, tensor: Tensor) -> Any:
        return encode_tensor(tensor.array, self.encoding, tensor.datatype)

    def _encode_point(self, index: int) -> Mapping[str, Any]:
        return {
            name: encode_tensor(tensor.array[index], self.encoding, tensor.datatype)
            for name, tensor in self.points.items()
        }

    @property
    def binary_tensors(self) -> Mapping[str, Tensor]:
        """Return the points, cotangents and tangents under their names in a binary answer."""
        parts = {"points": self.points, "cotangents": self.cotangents, "tangents": self.tangents}
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


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
        plan = build_requested_plan(request, limits, BINARY_SIZE_FACTOR if binary else 1)
        if reserve_answer_bytes is not None:
            answer_bytes = _estimate_answer_bytes(plan, "binary" if binary else request.encoding)
            reserve_answer_bytes(check_answer_bytes(answer_bytes, limits, _REMEDY, "directions"))
        with clock.name_stage("the points were being made"):
            evaluations = list_looks(plan)[0].evaluations
            return PlanResult(
                encode_plan(plan),
                len(evaluations),
                select_points(plan, evaluations),
                request.encoding,
                {name: _to_float64_tensor(cotangent) for name, cotangent in plan.cotangents.items()},
                _stack_tangents(plan),
            )


def _stack_tangents(plan: EvaluationPlan) -> Mapping[str, Tensor]:
    """Return the tangents by tensor; none of a loss."""
    names = plan.layout.points if plan.cotangents else ()
    return {name: _to_float64_tensor(stack_tangents(plan.layout, name)) for name in iterate_interruptibly(names)}


def _to_float64_tensor(array: Array) -> Tensor:
    return Tensor(array, DATATYPES["FP64"], is_integral=False)


def _estimate_answer_bytes(evaluation_plan: EvaluationPlan, encoding: Encoding) -> int:
    """Return the largest size of the answer: all points with names, and the plan."""
    layout = evaluation_plan.layout
    point_bytes = sum(
        6 * len(name)
        + 8
        + estimate_tensor_bytes(point.values.shape, encoding, evaluation_plan.datatypes[name].storage_dtype.itemsize)
        for name, point in layout.points.items()
    )
    plan_bytes = sum(40 * len(name) + 500 + 11 * point.values.size for name, point in layout.points.items())
    total = _BYTES_BESIDE_TENSORS + layout.evaluation_count * point_bytes + plan_bytes
    return total + _estimate_output_bytes(evaluation_plan, encoding)


def _estimate_output_bytes(evaluation_plan: EvaluationPlan, encoding: Encoding) -> int:
    """Return the largest size of the cotangents, in the plan too, and of the tangents."""
    if not evaluation_plan.cotangents:
        return 0
    layout = evaluation_plan.layout
    cotangent_bytes = sum(
        40 * len(name) + 500 + 11 * array.size + estimate_tensor_bytes(array.shape, encoding, 8)
        for name, array in evaluation_plan.cotangents.items()
    )
    tangent_bytes = sum(
        len(layout.lines[name]) * (6 * len(name) + 8 + estimate_tensor_bytes(point.values.shape, encoding, 8))
        for name, point in layout.points.items()
    )
    return cotangent_bytes + tangent_bytes
