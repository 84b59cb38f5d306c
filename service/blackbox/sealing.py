"""Plans as they cross the wire: what is needed to lay the evaluations out again, and checksums of it.

The checksums keep nobody from forging a plan, who would deceive nobody but himself; they find what was altered on the
way, and say which part. The order of the tensors is a list of its own: a client may keep objects in an order of its
own, and the losses come in that of the request. Whatever a plan says is held to the limits of a request all the same.
One of the checksums is of the directions as they were drawn: another version of NumPy might draw others of the same
seed.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.datatype import DATATYPES
from schemas.plan import VERSION, BoundsSpec, Plan
from schemas.problem import InvalidRequestError, PlacedError, placed
from schemas.tensor import Tensor, encode, spelled
from service.blackbox.moving import Asked
from service.blackbox.posing import Posed, posed
from service.checking.question import Limits
from service.numerics.tiles import Array

_SEED_END = 2**63
_NARROW = 120
"""Exponents of bfloat16, and float32, that are normal numbers by far."""


def sealed(found: Posed) -> dict[str, Any]:
    """Write a plan."""
    points, kind = found.layout.points, "random" if found.random else "coordinates"
    plan: dict[str, Any] = {
        "version": VERSION,
        "seed": str(found.layout.seed),
        "order": list(points),
        "directions": {"kind": kind, "count": found.count},
        "point": {name: encode(each.values, "b64", found.datatypes[name]) for name, each in points.items()},
        "scale": {name: _scale(each, points[name].values.shape) for name, each in found.sizes.items()},
        "evaluations": found.layout.evaluations,
    }
    if found.bounds:
        plan["bounds"] = {name: _bounds(each) for name, each in found.bounds.items()}
    return plan | {"checks": _checks(found)}


def _scale(sizes: Array, shape: tuple[int, ...]) -> Any:
    """A number where all elements have one scale, or else a tensor, of a datatype as narrow as powers of two allow."""
    if (sizes == sizes[0]).all():
        return float(sizes[0])
    _, exponents = np.frexp(sizes)
    narrow = np.abs(exponents).max() < _NARROW
    return encode(sizes.reshape(shape), "b64", DATATYPES["BF16" if narrow else "FP64"])


def _bounds(given: BoundsSpec) -> dict[str, Any]:
    return {side: _bound(getattr(given, side)) for side in ("min", "max") if side in given.model_fields_set}


def _bound(bound: Tensor) -> Any:
    array = bound.array.astype(np.float64)
    return encode(array, "b64", DATATYPES["FP64"]) if array.ndim else spelled(float(array))


def opened(plan: Plan, limits: Limits, room: int) -> Posed:
    """Lay out again what a plan says.

    Raises
    ------
    InvalidRequestError
        Where it was altered, or is of another version.
    """
    if plan.version != VERSION:
        detail = f"plans of version {VERSION} are judged here; this one has version {plan.version}: ask for a new one"
        raise InvalidRequestError([placed(detail, "plan", "version")])
    if int(plan.seed) >= _SEED_END:
        raise InvalidRequestError([placed("must be below 2^63", "plan", "seed")])
    if len(plan.order) != len(plan.point) or set(plan.order) != plan.point.keys():
        detail = "was altered: it has each name of the point once, in the order of the request"
        raise InvalidRequestError([placed(detail, "plan", "order")])
    if errors := _unscaled(plan):
        raise InvalidRequestError(errors)
    found = posed(
        {name: plan.point[name] for name in plan.order},
        Asked(plan.scale, plan.bounds),
        random=plan.directions.kind == "random",
        count=plan.directions.count,
        seed=int(plan.seed),
        limits=limits,
        room=room,
        within=("plan",),
    )
    if errors := _altered(plan, found):
        raise InvalidRequestError(errors)
    return found


def _unscaled(plan: Plan) -> list[PlacedError]:
    return [
        placed("is missing: the plan was altered", "plan", "scale", name) for name in plan.point.keys() - plan.scale
    ]


def _altered(plan: Plan, found: Posed) -> list[PlacedError]:
    expected = _checks(found)
    errors = [
        placed("was altered: a plan is handed back as it came", "plan", *_path(part))
        for part in expected
        if part != _DRAWN and plan.checks.get(part) != expected[part]
    ]
    errors += [
        placed("was altered: a scale is a power of two", "plan", "scale", name)
        for name, each in found.sizes.items()
        if not (each.reshape(found.layout.points[name].values.shape) == plan.scale[name].array).all()
    ]
    if plan.directions.count != found.count:
        errors.append(placed("was altered: more than there are elements", "plan", "directions", "count"))
    if plan.evaluations != found.layout.evaluations:
        detail = f"was altered: what the plan says makes {found.layout.evaluations} evaluations"
        errors.append(placed(detail, "plan", "evaluations"))
    if not errors and plan.checks.keys() != expected.keys():
        errors.append(placed("was altered: there are checksums of parts that are not there", "plan", "checks"))
    if not errors and plan.checks[_DRAWN] != expected[_DRAWN]:
        detail = "the directions are drawn differently here, by another version of the service: ask for a new plan"
        errors.append(placed(detail, "plan", "checks", _DRAWN))
    return errors


_DRAWN = "drawn"


def _path(part: str) -> list[str]:
    return part.split("/", 1)


def _checks(found: Posed) -> dict[str, str]:
    layout, kind = found.layout, "random" if found.random else "coordinates"
    checks = {
        "seed": _digest(str(layout.seed)),
        "order": _digest(json.dumps(list(layout.points))),
        "directions": _digest(f"{kind} {found.count}"),
        "evaluations": _digest(str(layout.evaluations)),
    }
    drawn = hashlib.sha256()
    for name, point in layout.points.items():
        stored = found.datatypes[name].stored_from(point.values).tobytes()
        checks[f"point/{name}"] = _digest(f"{found.datatypes[name].name} {list(point.values.shape)} ", stored)
        checks[f"scale/{name}"] = _digest("", np.ascontiguousarray(found.sizes[name], "<f8").tobytes())
        for each in (layout.lines[name].moves.starts, layout.lines[name].moves.moves):
            drawn.update(np.ascontiguousarray(each, "<f8").tobytes())
    for name, each in found.bounds.items():
        given = json.dumps(_bounds(each), sort_keys=True)
        checks[f"bounds/{name}"] = _digest(given)
    return checks | {_DRAWN: drawn.hexdigest()[:16]}


def _digest(text: str, raw: bytes = b"") -> str:
    return hashlib.sha256(text.encode() + raw).hexdigest()[:16]


def stacked(found: Posed) -> Mapping[str, Tensor]:
    """All points, by tensor, (evaluations, ...)."""
    return {
        name: Tensor(found.layout.stacked(name), found.datatypes[name], integral=False) for name in found.layout.points
    }
