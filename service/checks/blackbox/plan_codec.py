"""Plans on the wire: the data that lays evaluations out, and its checksums.

The checksums find an alteration on the way and name the part. They do not prevent forgery: a forger would deceive
nobody else. The order of the tensors is a list of its own, since a client may keep objects in another order, and the
losses follow the order of the request. The limits of a request hold for a plan too. One checksum covers the directions
themselves: another version of NumPy might draw others from the same seed.
"""

import hashlib
import json
from typing import Any

import numpy as np

from schemas.datatype import DATATYPES, round_to_bfloat16
from schemas.plan import PLAN_VERSION, BoundsSpec, Plan
from schemas.problem_details import InvalidRequestError, PlacedError, error_at
from schemas.tensor import Tensor, encode_number, encode_tensor
from service.checks.blackbox.evaluation_plan import EvaluationPlan, build_evaluation_plan
from service.checks.blackbox.outputs import OutputRequest
from service.checks.blackbox.scales_and_bounds import MoveSettings
from service.checks.common.limits import Limits
from service.numerics.blackbox.first_look import list_first_evaluations
from service.numerics.core.batching import Array

_SEED_LIMIT = 2**63
_NARROW_EXPONENT_LIMIT = 120
"""Exponents that are well within the normal numbers of bfloat16 and float32."""


def encode_plan(evaluation_plan: EvaluationPlan) -> dict[str, Any]:
    """Encode a plan for the wire."""
    points, kind = evaluation_plan.layout.points, "random" if evaluation_plan.random else "coordinates"
    plan: dict[str, Any] = {
        "version": PLAN_VERSION,
        "seed": str(evaluation_plan.layout.seed),
        "order": list(points),
        "directions": {"kind": kind, "count": evaluation_plan.direction_count},
        "point": {
            name: encode_tensor(point.values, "b64", evaluation_plan.datatypes[name]) for name, point in points.items()
        },
        "scale": {
            name: _encode_scale(sizes, points[name].values.shape) for name, sizes in evaluation_plan.step_sizes.items()
        },
        "evaluations": evaluation_plan.layout.evaluation_count,
    }
    if evaluation_plan.bounds:
        plan["bounds"] = {name: _encode_bounds(bounds) for name, bounds in evaluation_plan.bounds.items()}
    if evaluation_plan.cotangents:
        plan["output_order"] = list(evaluation_plan.cotangents)
        plan["outputs"] = {name: list(array.shape) for name, array in evaluation_plan.cotangents.items()}
        plan["cotangents"] = {name: _encode_cotangent(array) for name, array in evaluation_plan.cotangents.items()}
    if evaluation_plan.has_first_look:
        plan["first_evaluations"] = len(list_first_evaluations(evaluation_plan.layout))
    return plan | {"checks": _compute_checksums(evaluation_plan)}


def _encode_scale(sizes: Array, shape: tuple[int, ...]) -> Any:
    """Encode a scale: a number if all elements share it, else a tensor.

    The tensor has the narrowest datatype that holds its powers of two.
    """
    if (sizes == sizes[0]).all():
        return float(sizes[0])
    _, exponents = np.frexp(sizes)
    is_narrow = np.abs(exponents).max() < _NARROW_EXPONENT_LIMIT
    return encode_tensor(sizes.reshape(shape), "b64", DATATYPES["BF16" if is_narrow else "FP64"])


def _encode_cotangent(cotangent: Array) -> Any:
    """Encode a cotangent in the narrowest datatype that holds its numbers; random ones have 8 significant bits."""
    with np.errstate(over="ignore"):
        narrow = bool((round_to_bfloat16(cotangent) == cotangent).all())
    return encode_tensor(cotangent, "b64", DATATYPES["BF16" if narrow else "FP64"])


def _encode_bounds(bounds: BoundsSpec) -> dict[str, Any]:
    return {side: _encode_bound(getattr(bounds, side)) for side in ("min", "max") if side in bounds.model_fields_set}


def _encode_bound(bound: Tensor) -> Any:
    array = bound.array.astype(np.float64)
    return encode_tensor(array, "b64", DATATYPES["FP64"]) if array.ndim else encode_number(float(array))


def decode_plan(plan: Plan, limits: Limits, size_factor: int) -> EvaluationPlan:
    """Lay the evaluations of a plan out again.

    Parameters
    ----------
    plan
        Plan of the request.
    limits
        Limits of the request.
    size_factor
        Factor on the number of elements that the points may hold.

    Raises
    ------
    InvalidRequestError
        The plan was altered, or has another version.
    """
    if plan.version != PLAN_VERSION:
        detail = (
            f"plans of version {PLAN_VERSION} are judged here; this one has version {plan.version}: ask for a new one"
        )
        raise InvalidRequestError([error_at(detail, "plan", "version")])
    if int(plan.seed) >= _SEED_LIMIT:
        raise InvalidRequestError([error_at("must be below 2^63", "plan", "seed")])
    if len(plan.order) != len(plan.point) or set(plan.order) != plan.point.keys():
        detail = "was altered: it has each name of the point once, in the order of the request"
        raise InvalidRequestError([error_at(detail, "plan", "order")])
    if errors := [*_find_missing_scales(plan), *_find_unmatched_cotangents(plan)]:
        raise InvalidRequestError(errors)
    rebuilt_plan = build_evaluation_plan(
        {name: plan.point[name] for name in plan.order},
        MoveSettings(plan.scale, plan.bounds),
        random=plan.directions.kind == "random",
        count=plan.directions.count,
        seed=int(plan.seed),
        limits=limits,
        has_first_look=plan.first_evaluations is not None,
        outputs=OutputRequest(
            {name: plan.outputs[name] for name in plan.output_order},
            {name: plan.cotangents[name] for name in plan.output_order},
        ),
        size_factor=size_factor,
        path_prefix=("plan",),
    )
    if errors := _find_altered_parts(plan, rebuilt_plan):
        raise InvalidRequestError(errors)
    return rebuilt_plan


def _find_missing_scales(plan: Plan) -> list[PlacedError]:
    return [
        error_at("is missing: the plan was altered", "plan", "scale", name) for name in plan.point.keys() - plan.scale
    ]


def _find_unmatched_cotangents(plan: Plan) -> list[PlacedError]:
    if plan.outputs.keys() != plan.cotangents.keys():
        return [error_at("was altered: there is one cotangent for each of its outputs", "plan", "cotangents")]
    if len(plan.output_order) != len(plan.outputs) or set(plan.output_order) != plan.outputs.keys():
        return [error_at("was altered: it has each output once, in the order of the request", "plan", "output_order")]
    return [
        error_at(f"was altered: its shape is {list(tensor.array.shape)}", "plan", "cotangents", name)
        for name, tensor in plan.cotangents.items()
        if tensor.array.shape != plan.outputs[name]
    ]


def _find_altered_parts(plan: Plan, rebuilt_plan: EvaluationPlan) -> list[PlacedError]:
    expected = _compute_checksums(rebuilt_plan)
    errors = [
        error_at("was altered: a plan is handed back as it came", "plan", *_split_part(part))
        for part in expected
        if part != _DIRECTIONS_CHECKSUM and plan.checks.get(part) != expected[part]
    ]
    errors += [
        error_at("was altered: a scale is a power of two", "plan", "scale", name)
        for name, sizes in rebuilt_plan.step_sizes.items()
        if not (sizes.reshape(rebuilt_plan.layout.points[name].values.shape) == plan.scale[name].array).all()
    ]
    if plan.directions.count != rebuilt_plan.direction_count:
        errors.append(error_at("was altered: more than there are elements", "plan", "directions", "count"))
    if plan.evaluations != rebuilt_plan.layout.evaluation_count:
        detail = f"was altered: what the plan says makes {rebuilt_plan.layout.evaluation_count} evaluations"
        errors.append(error_at(detail, "plan", "evaluations"))
    if plan.first_evaluations is not None and plan.first_evaluations != len(
        list_first_evaluations(rebuilt_plan.layout)
    ):
        errors.append(error_at("was altered: a plan is handed back as it came", "plan", "first_evaluations"))
    if not errors and plan.checks.keys() != expected.keys():
        errors.append(error_at("was altered: there are checksums of parts that are not there", "plan", "checks"))
    if not errors and plan.checks[_DIRECTIONS_CHECKSUM] != expected[_DIRECTIONS_CHECKSUM]:
        detail = "the directions are drawn differently here, by another version of the service: ask for a new plan"
        errors.append(error_at(detail, "plan", "checks", _DIRECTIONS_CHECKSUM))
    return errors


_DIRECTIONS_CHECKSUM = "drawn"


def _split_part(part: str) -> list[str]:
    return part.split("/", 1)


def _compute_checksums(plan: EvaluationPlan) -> dict[str, str]:
    layout, kind = plan.layout, "random" if plan.random else "coordinates"
    checks = {
        "seed": _compute_checksum(str(layout.seed)),
        "order": _compute_checksum(json.dumps(list(layout.points))),
        "directions": _compute_checksum(f"{kind} {plan.direction_count}"),
        "evaluations": _compute_checksum(str(layout.evaluation_count)),
    }
    directions_hash = hashlib.sha256()
    for name, point in layout.points.items():
        point_bytes = plan.datatypes[name].to_storage(point.values).tobytes()
        checks[f"point/{name}"] = _compute_checksum(
            f"{plan.datatypes[name].name} {list(point.values.shape)} ", point_bytes
        )
        checks[f"scale/{name}"] = _compute_checksum("", np.ascontiguousarray(plan.step_sizes[name], "<f8").tobytes())
        for array in (layout.lines[name].moves.starts, layout.lines[name].moves.directions):
            directions_hash.update(np.ascontiguousarray(array, "<f8").tobytes())
    if plan.cotangents:
        shapes = [(name, array.shape) for name, array in plan.cotangents.items()]
        checks["outputs"] = _compute_checksum(json.dumps(shapes))
    for name, array in plan.cotangents.items():
        checks[f"cotangents/{name}"] = _compute_checksum("", np.ascontiguousarray(array, "<f8").tobytes())
    if plan.has_first_look:
        first_bytes = np.ascontiguousarray(list_first_evaluations(layout), "<i8").tobytes()
        checks["first_evaluations"] = _compute_checksum("", first_bytes)
    for name, bounds in plan.bounds.items():
        checks[f"bounds/{name}"] = _compute_checksum(json.dumps(_encode_bounds(bounds), sort_keys=True))
    return checks | {_DIRECTIONS_CHECKSUM: directions_hash.hexdigest()[:16]}


def _compute_checksum(text: str, raw: bytes = b"") -> str:
    return hashlib.sha256(text.encode() + raw).hexdigest()[:16]
