"""The plan of a judgement: handed back by the client, or made again from its request.

A client may make the points itself, since they follow from the request by a rule of integers
(service/numerics/blackbox/random_numbers.py). It then sends the request in place of a plan, and a digest of its points:
the SHA-256 of their numbers, point by point and tensor by tensor in the order of the request, and then of the
cotangents, all as float64, little-endian, row-major, with 0 for -0.
"""

import hashlib

import numpy as np

from schemas.plan import JudgeRequest, PlanRequest
from schemas.problem_details import InvalidRequestError, error_at
from service.checks.blackbox.evaluation_plan import EvaluationPlan, build_evaluation_plan
from service.checks.blackbox.looks import Look, select_points
from service.checks.blackbox.outputs import read_output_request
from service.checks.blackbox.parse import REQUEST_FIELD
from service.checks.blackbox.plan_codec import decode_plan
from service.checks.blackbox.plan_size import BINARY_SIZE_FACTOR
from service.checks.blackbox.scales_and_bounds import MoveSettings
from service.checks.common.limits import Limits
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly

_BLOCK_NUMBERS = 2**16
"""Numbers of the points that are hashed at once."""
_DIGEST_REMEDY = (
    "Compare your points with those of POST /v1/plan for the same request, or send the `plan` of its answer in place "
    "of `plan_request`"
)


def build_requested_plan(
    request: PlanRequest, limits: Limits, size_factor: int, path_prefix: tuple[str, ...] = ()
) -> EvaluationPlan:
    """Lay out the evaluations of a request for a plan.

    Parameters
    ----------
    request
        Request of valid form.
    limits
        Limits of the request.
    size_factor
        Factor on the number of elements that the points may hold.
    path_prefix
        Path to the request in the body; empty by default.

    Raises
    ------
    InvalidRequestError
        All errors of the point, its moves, its outputs and its size.
    """
    return build_evaluation_plan(
        request.point,
        MoveSettings(request.scale or {}, request.bounds or {}),
        random=request.directions.kind == "random",
        count=request.directions.count,
        seed=request.seed,
        limits=limits,
        has_first_look=request.evaluations == "few",
        outputs=read_output_request(request.outputs, request.cotangents, limits, path_prefix),
        size_factor=size_factor,
        path_prefix=path_prefix,
    )


def read_plan(request: JudgeRequest, limits: Limits) -> EvaluationPlan:
    """Read the plan of a request for a judgement, or make it from the request for a plan that stands in its place.

    Raises
    ------
    InvalidRequestError
        The plan was altered, or its request has errors.
    """
    if request.plan_request is not None:
        return build_requested_plan(request.plan_request, limits, BINARY_SIZE_FACTOR, (REQUEST_FIELD,))
    assert request.plan is not None
    return decode_plan(request.plan, limits, BINARY_SIZE_FACTOR)


def check_digest(digest: str | None, plan: EvaluationPlan, look: Look) -> None:
    """Refuse a digest of other points than those of a look; there may be none.

    Raises
    ------
    InvalidRequestError
        The digest differs.
    """
    if digest is not None and digest != compute_digest(plan, look):
        detail = f"is not that of the {len(look.evaluations)} points that follow from the request. {_DIGEST_REMEDY}"
        raise InvalidRequestError([error_at(detail, "digest")])


def compute_digest(plan: EvaluationPlan, look: Look) -> str:
    """Return the SHA-256 of the points of a look and of the cotangents, in hexadecimal digits."""
    count = len(look.evaluations)
    points = [tensor.array.reshape(count, -1) for tensor in select_points(plan, look.evaluations).values()]
    block = max(1, _BLOCK_NUMBERS // sum(array.shape[1] for array in points))
    hashed = hashlib.sha256()
    for first in iterate_interruptibly(range(0, count, block)):
        hashed.update(_to_bytes(np.concatenate([array[first : first + block] for array in points], axis=1)))
    for cotangent in plan.cotangents.values():
        hashed.update(_to_bytes(cotangent))
    return hashed.hexdigest()


def _to_bytes(array: Array) -> bytes:
    # A sum with 0 is 0 for -0, and nothing else changes.
    return (array + 0.0).astype("<f8").tobytes()
