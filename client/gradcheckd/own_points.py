"""Plans that need no service: the points follow from the request by a rule of integers (point_rule.py).

A service checks by their digest that it would have made the same ones. A request with bounds, with many numbers, or of
a form that a service refuses is left to the service.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from gradcheckd.arrays import Array, TypedTensor
from gradcheckd.blackbox import DIGEST_FIELD, REQUEST_FIELD, PlannedPoints, PlanParameters, list_output_shapes
from gradcheckd.errors import ProblemError
from gradcheckd.function_forms import TensorForm
from gradcheckd.move_sizes import DATATYPE_RULES, choose_scaled_sizes, choose_sizes
from gradcheckd.point_rule import MovedTensor, compute_digest, count_points, place_points
from gradcheckd.progress import decode_array
from gradcheckd.random_numbers import draw_cotangent

_MAX_NUMBERS = 2**18
"""Numbers of the points of a whole plan from which on a service makes them."""
_DEFAULT_DIRECTIONS = 4
_FIELDS = frozenset({"directions", "scale", "seed", "evaluations"})
_SEED_LIMIT = 2**63
_OWN_POINTERS = ("/plan", f"/{REQUEST_FIELD}", f"/{DIGEST_FIELD}")


def make_plan(parameters: PlanParameters) -> PlannedPoints | None:
    """Make the points of a request for a plan; None for a request that is left to a service."""
    point, outputs, fields = parameters.point, parameters.outputs, parameters.fields
    # What overflows is refused by the service, with its place.
    with np.errstate(all="ignore"):
        tensors = _move_tensors(point, fields)
        if tensors is None or not all(tensor.moves_as_meant() for tensor in tensors):
            return None
        chosen = _choose_cotangents(outputs, parameters.cotangents, tensors[0].seed)
        if chosen is None:
            return None
        has_first_look = fields.get("evaluations") == "few"
        shapes = point.shapes
        placed = place_points(tensors, is_first=has_first_look)
        points = {
            tensor.name: array.reshape(-1, *shapes[tensor.name]) for tensor, array in zip(tensors, placed, strict=True)
        }
        request = _encode_request(parameters)
        return PlannedPoints(
            {REQUEST_FIELD: request, DIGEST_FIELD: compute_digest(points, chosen)},
            len(placed[0]),
            {name: _narrow(array, point.tensors[name]) for name, array in points.items()},
            chosen,
            {tensor.name: tensor.list_tangents().reshape(-1, *shapes[tensor.name]) for tensor in tensors}
            if outputs
            else {},
            {tensor.name: _shorten_sizes(tensor.sizes, shapes[tensor.name]) for tensor in tensors},
            has_first_look,
        )


def _move_tensors(point: TensorForm, fields: Mapping[str, Any]) -> list[MovedTensor] | None:
    """Return the tensors with their moves, or None."""
    directions = _read_directions(fields.get("directions"), point)
    seed, scales = fields.get("seed", 0), _read_scales(fields.get("scale"), point)
    if not fields.keys() <= _FIELDS or directions is None or scales is None or not _is_whole(seed, 0, _SEED_LIMIT - 1):
        return None
    random, count = directions
    tensors: list[MovedTensor] = []
    for name, tensor in point.tensors.items():
        rule, values = DATATYPE_RULES[tensor.datatype.name], _widen(tensor)
        if not values.size or not np.isfinite(values).all():
            return None
        scale = scales.get(name)
        sizes = (
            choose_sizes(values.ravel(), rule, random=random)
            if scale is None
            else choose_scaled_sizes(values, scale, rule, random=random)
        )
        if sizes is None:
            return None
        own_count = count if random else min(count, values.size)
        tensors.append(MovedTensor(name, values.ravel(), rule, sizes, random, own_count, int(seed)))
    numbers = count_points(tensors) * sum(tensor.values.size for tensor in tensors)
    return tensors if numbers < _MAX_NUMBERS else None


def _read_directions(directions: Any, point: TensorForm) -> tuple[bool, int] | None:
    """Return whether directions are random, and their number for the largest tensor; None if a service refuses them."""
    if not isinstance(directions, Mapping | None):
        return None
    spec = cast("Mapping[str, Any]", directions or {})
    if not spec.keys() <= {"kind", "count"}:
        return None
    kind, count = spec.get("kind", "random"), spec.get("count")
    if kind not in ("random", "coordinates") or not (count is None or _is_whole(count, 1, _MAX_NUMBERS)):
        return None
    largest = max(tensor.array.size for tensor in point.tensors.values())
    if kind == "random":
        return True, count or _DEFAULT_DIRECTIONS
    return False, min(count or largest, largest)


def _is_whole(number: Any, low: int, high: int) -> bool:
    return not isinstance(number, bool) and isinstance(number, int | np.integer) and bool(low <= number <= high)


def _read_scales(scale: Any, point: TensorForm) -> dict[str, Array] | None:
    """Return the scales of a request by name, float64; None if a service refuses them."""
    if scale is None:
        return {}
    scales = cast("Mapping[str, Any]", scale)
    if not scales.keys() <= point.tensors.keys():
        return None
    try:
        return {name: np.asarray(decode_array(value), np.float64) for name, value in scales.items()}
    except (ValueError, TypeError, OverflowError):
        return None


def _choose_cotangents(
    outputs: TensorForm | None, cotangents: Mapping[str, TypedTensor] | None, seed: int
) -> dict[str, Array] | None:
    """Return the cotangents by output, float64; None if a service refuses them."""
    if outputs is None:
        return {}
    if cotangents is None:
        return {
            name: draw_cotangent(seed, name, tensor.array.size).reshape(tensor.array.shape)
            for name, tensor in outputs.tensors.items()
        }
    chosen = {name: _widen(cotangents[name]) for name in cotangents}
    return chosen if all(np.isfinite(array).all() and array.any() for array in chosen.values()) else None


def _widen(tensor: TypedTensor) -> Array:
    return np.asarray(tensor.datatype.from_storage(tensor.array), np.float64)


def _narrow(array: Array, tensor: TypedTensor) -> Array:
    """Return points as an answer of a service has them: in the datatype of their tensor, read-only."""
    is_bfloat16 = tensor.datatype.name == "BF16"
    narrowed = array.astype(np.float32 if is_bfloat16 else tensor.datatype.storage_dtype.newbyteorder("="))
    narrowed.flags.writeable = False
    return narrowed


def _shorten_sizes(sizes: Array, shape: tuple[int, ...]) -> Array:
    """Return the scale of a tensor as a plan has it: a number if all elements share it."""
    return sizes[0] if (sizes == sizes[0]).all() else sizes.reshape(shape)


def _encode_request(parameters: PlanParameters) -> dict[str, Any]:
    point = {name: tensor.as_json() for name, tensor in parameters.point.tensors.items()}
    request: dict[str, Any] = {**parameters.fields, "point": point}
    if parameters.cotangents is not None:
        request["cotangents"] = {name: tensor.as_json() for name, tensor in parameters.cotangents.items()}
    elif parameters.outputs is not None:
        request["outputs"] = list_output_shapes(parameters.outputs)
    return request


def get_plan_fields(plan: PlannedPoints) -> dict[str, Any]:
    """Return the fields of the request of a plan that was made here, as `make_plan` takes them."""
    return {name: value for name, value in plan.source[REQUEST_FIELD].items() if name in _FIELDS}


def is_about_own_points(error: ProblemError) -> bool:
    """Tell whether a service refused points that were made here, or knows none such."""
    return bool(error.errors) and all(_is_own_pointer(place["pointer"]) for place in error.errors)


def _is_own_pointer(pointer: str) -> bool:
    return any(pointer == own or pointer.startswith(f"{own}/") for own in _OWN_POINTERS)


def knows_no_own_points(error: ProblemError) -> bool:
    """Tell whether a service will refuse all other such points too: it is older, or has another rule."""
    return any(place["pointer"] in _OWN_POINTERS for place in error.errors)
