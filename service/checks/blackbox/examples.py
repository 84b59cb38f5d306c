"""Example requests for a plan and for a judgement: the loss w0^2 + w0 w1 at one point."""

from functools import cache
from typing import Any

from service.checks.blackbox.plan import plan_evaluations

_POINT = {"w": [0.5, -1.5]}
_GRADIENT = {"w": [-0.5, 0.5]}
_DIRECTIONS = {"kind": "coordinates"}


def build_plan_examples() -> dict[str, Any]:
    """Return requests for plans by name, as OpenAPI has examples."""
    example = {"point": _POINT, "directions": _DIRECTIONS, "seed": 0}
    return {
        "coordinates": {"value": example},
        "random": {"value": example | {"directions": {"kind": "random"}}},
        "outputs": {"value": example | {"outputs": {"y": [2], "total": []}}},
        "bounds": {"value": example | {"scale": {"w": [0.5, 0.25]}, "bounds": {"w": {"min": [0, "-Infinity"]}}}},
    }


@cache
def build_judge_examples() -> dict[str, Any]:
    """Return the request for a judgement of the right gradient, as OpenAPI has examples."""
    result = plan_evaluations({"point": _POINT, "directions": _DIRECTIONS})
    points = result.points["w"].array
    losses = (points[:, 0] ** 2 + points[:, 0] * points[:, 1]).tolist()
    return {"coordinates": {"value": {"plan": dict(result.plan), "losses": losses, "candidate": _GRADIENT}}}
