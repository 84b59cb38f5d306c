"""Looks at a function: all evaluations of a plan at once, or a few of them first.

A plan with a first look has its points in another order: those of the first look, then the others. Its judgement takes
the values of the first look alone, or those of all points in that order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np

from schemas.json_writer import DeferredPart
from schemas.plan import FurtherPoints
from schemas.problem_details import InvalidRequestError, error_at
from schemas.tensor import Encoding, Tensor, encode_tensor
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.plan_codec import encode_plan
from service.checks.common.answer_bytes import check_answer_bytes, estimate_tensor_bytes
from service.checks.common.limits import Limits
from service.numerics.blackbox.first_look import list_first_evaluations, select_first_lines
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly

LookKind = Literal["all", "first", "both"]
"""All points of a plan without a first look; those of the first look; those of the first look, then the others."""
_SUMMARY = "more: the first evaluations do not suffice for a pass. Evaluate the function at these further points too."
_REMEDY = "Plan fewer directions or smaller tensors"
_BYTES_BESIDE_TENSORS = 10_000


@dataclass(frozen=True)
class Look:
    """The evaluations with values of a request.

    Attributes
    ----------
    kind
        Kind of the look.
    evaluations
        Numbers of the evaluations, in the order of the values.
    """

    kind: LookKind
    evaluations: Array

    def spread_values(self, values: Array, evaluation_count: int) -> Array:
        """Return values by the number of their evaluation, (evaluations, ...); NaN for the others."""
        spread = np.full((evaluation_count, *values.shape[1:]), np.nan)
        spread[self.evaluations] = values
        return spread


def list_looks(plan: EvaluationPlan) -> list[Look]:
    """Return the looks of which a judgement may bring the values."""
    return list(_iterate_looks(plan))


def _iterate_looks(plan: EvaluationPlan) -> Iterator[Look]:
    if not plan.has_first_look:
        yield Look("all", np.arange(plan.layout.evaluation_count))
        return
    first = list_first_evaluations(plan.layout)
    yield Look("first", first)
    yield Look("both", np.concatenate([first, _list_further_evaluations(plan)]))


def choose_look(plan: EvaluationPlan, count: int, *path: str) -> Look:
    """Choose the look by the number of its values, found at a path of the request.

    Raises
    ------
    InvalidRequestError
        No look of the plan has as many.
    """
    counts: list[int] = []
    for look in _iterate_looks(plan):
        counts.append(len(look.evaluations))
        if counts[-1] == count:
            return look
    points = f"{counts[0]} points" if len(counts) == 1 else f"{counts[0]} points of its first look, {counts[1]} in all"
    raise InvalidRequestError([error_at(f"{count} {path[0]} were given; the plan has {points}", *path)])


def take_first_look(plan: EvaluationPlan) -> EvaluationPlan:
    """Return the plan with the lines of its first look alone."""
    return replace(plan, layout=select_first_lines(plan.layout))


def _list_further_evaluations(plan: EvaluationPlan) -> Array:
    return np.flatnonzero(~select_first_lines(plan.layout).mark_taken())


def select_points(plan: EvaluationPlan, evaluations: Array) -> dict[str, Tensor]:
    """Return the points of some evaluations by tensor, each of shape (evaluations, ...)."""
    return {
        name: Tensor(plan.layout.stack_points(name, evaluations), plan.datatypes[name], is_integral=False)
        for name in iterate_interruptibly(plan.layout.points)
    }


def build_further_points(
    plan: EvaluationPlan,
    encoding: Encoding | Literal["binary"],
    limits: Limits,
    reserve_answer_bytes: Callable[[int], None] | None,
    plan_field: str = "plan",
) -> FurtherPoints:
    """Build the answer of a first look that does not suffice.

    Parameters
    ----------
    plan
        Plan with a first look.
    encoding
        Encoding of the points; "binary" leaves them as tensors, stacked by name.
    limits
        Limits of the request.
    reserve_answer_bytes
        Receiver of the largest size of the answer, in bytes, before the points are made; may raise to refuse it.
        With it, points in JSON are left to `schemas.json_writer`.
    plan_field
        Field of the request that the plan came from; "plan" by default.
    """
    evaluations, layout = _list_further_evaluations(plan), plan.layout
    size = _BYTES_BESIDE_TENSORS + sum(
        len(evaluations) * (6 * len(name) + 8 + _estimate_bytes(plan, name, encoding)) + 500 + 11 * point.values.size
        for name, point in layout.points.items()
    )
    if reserve_answer_bytes is not None:
        reserve_answer_bytes(check_answer_bytes(size, limits, _REMEDY, plan_field))
    tensors = select_points(plan, evaluations)
    points: Any = tensors
    if encoding != "binary":
        encoders = [partial(_encode_point, tensors, index, encoding) for index in range(len(evaluations))]
        points = [encode() if reserve_answer_bytes is None else DeferredPart(encode) for encode in encoders]
    return cast(
        "FurtherPoints",
        {
            "outcome": "more",
            "summary": _SUMMARY,
            "plan": encode_plan(plan),
            "evaluations": len(evaluations),
            "order": list(layout.points),
            "points": points,
        },
    )


def _estimate_bytes(plan: EvaluationPlan, name: str, encoding: Encoding | Literal["binary"]) -> int:
    shape, itemsize = plan.layout.points[name].values.shape, plan.datatypes[name].storage_dtype.itemsize
    return estimate_tensor_bytes(shape, encoding, itemsize)


def _encode_point(tensors: dict[str, Tensor], index: int, encoding: Encoding) -> dict[str, Any]:
    return {name: encode_tensor(tensor.array[index], encoding, tensor.datatype) for name, tensor in tensors.items()}
