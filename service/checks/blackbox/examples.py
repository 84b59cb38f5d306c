"""Example requests for plans and judgements: the loss w0^2 + w0 w1 at one point, and y = (w0^2, w0 w1) there."""

from functools import cache
from typing import Any

import numpy as np

from service.checks.blackbox.looks import list_looks, select_points
from service.checks.blackbox.parse import parse_plan_request
from service.checks.blackbox.plan import plan_evaluations
from service.checks.blackbox.plan_source import build_requested_plan, compute_digest
from service.checks.common.limits import Limits

_POINT = {"w": [0.5, -1.5]}
_GRADIENT = {"w": [-0.5, 0.5]}
_JACOBIAN = [[1.0, 0.0], [-1.5, 0.5]]
_OUTPUTS = {"y": [2]}
_DIRECTIONS = {"kind": "coordinates"}


def build_plan_examples() -> dict[str, Any]:
    """Return requests for plans by name, as OpenAPI has examples."""
    example = {"point": _POINT, "directions": _DIRECTIONS, "seed": 0}
    return {
        "coordinates": {"value": example},
        "random": {"value": example | {"directions": {"kind": "random"}}},
        "bounds": {"value": example | {"scale": {"w": [0.5, 0.25]}, "bounds": {"w": {"min": [0, "-Infinity"]}}}},
        "outputs": {"value": example | {"outputs": _OUTPUTS}},
    }


@cache
def build_judge_examples() -> dict[str, Any]:
    """Return requests for judgements of right derivatives by name, as OpenAPI has examples."""
    return {
        "coordinates": {"value": _build_loss_example()},
        "own points": {"value": _build_own_points_example()},
        "products": {"value": _build_product_example()},
        "jacobian": {"value": _build_jacobian_example()},
    }


def _build_loss_example() -> dict[str, Any]:
    result = plan_evaluations({"point": _POINT, "directions": _DIRECTIONS})
    losses = _evaluate_loss(result.points["w"].array)
    return {"plan": dict(result.plan), "losses": losses, "candidate": _GRADIENT}


def _build_own_points_example() -> dict[str, Any]:
    request = {"point": _POINT, "directions": _DIRECTIONS, "evaluations": "few"}
    limits = Limits()
    plan = build_requested_plan(parse_plan_request(request, limits), limits, 1)
    look = list_looks(plan)[0]
    losses = _evaluate_loss(select_points(plan, look.evaluations)["w"].array)
    return {
        "plan_request": request,
        "digest": compute_digest(plan, look),
        "losses": losses,
        "candidate": _GRADIENT,
    }


def _evaluate_loss(points: Any) -> list[float]:
    return (points[:, 0] ** 2 + points[:, 0] * points[:, 1]).tolist()


def _build_product_example() -> dict[str, Any]:
    result = plan_evaluations({"point": _POINT, "outputs": _OUTPUTS})
    vjp = result.cotangents["y"].array @ np.array(_JACOBIAN)
    jvp = result.tangents["w"].array @ np.array(_JACOBIAN).T
    values = _evaluate_output(result.points["w"].array)
    return {"plan": dict(result.plan), "values": values, "vjp": {"y": {"w": vjp.tolist()}}, "jvp": {"y": jvp.tolist()}}


def _build_jacobian_example() -> dict[str, Any]:
    result = plan_evaluations({"point": _POINT, "outputs": _OUTPUTS, "directions": _DIRECTIONS})
    values = _evaluate_output(result.points["w"].array)
    return {"plan": dict(result.plan), "values": values, "jacobian": {"y": {"w": _JACOBIAN}}}


def _evaluate_output(points: Any) -> dict[str, Any]:
    return {"y": np.stack([points[:, 0] ** 2, points[:, 0] * points[:, 1]], axis=1).tolist()}
