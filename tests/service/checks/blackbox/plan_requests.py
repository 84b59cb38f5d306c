"""A loss on the client's side, and plans that it carries out."""

import json
from typing import Any

import numpy as np

from schemas.plan import Plan
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.looks import Look, list_looks
from service.checks.blackbox.plan import PlanResult, plan_evaluations
from service.checks.blackbox.plan_codec import decode_plan
from service.checks.blackbox.plan_size import BINARY_SIZE_FACTOR
from service.checks.common.limits import Limits

EXAMPLE_POINT = {"w1": [[0.1, -0.1], [0.2, 0.001]], "b": {"datatype": "FP32", "shape": [2], "data": [0.5, -0.25]}}


def compute_loss(point: Any) -> float:
    w, b = np.array(point["w1"]), np.array(point["b"])
    return float(np.tanh(w).sum() ** 2 + np.sin(w[0, 0] * b[0]) + (b**3).sum())


def compute_gradient() -> dict[str, Any]:
    w, b = np.array(EXAMPLE_POINT["w1"]), np.array([0.5, -0.25])
    by_w = 2 * np.tanh(w).sum() * (1 - np.tanh(w) ** 2)
    by_w[0, 0] += b[0] * np.cos(w[0, 0] * b[0])
    return {"w1": by_w.tolist(), "b": [3 * b[0] ** 2 + w[0, 0] * np.cos(w[0, 0] * b[0]), 3 * b[1] ** 2]}


def make_plan_request(kind: str = "random", **fields: Any) -> dict[str, Any]:
    return {"point": EXAMPLE_POINT, "directions": {"kind": kind}, "seed": 3} | fields


def make_judge_request(kind: str = "random", **fields: Any) -> dict[str, Any]:
    """A request for a judgement that passes, as the client writes it."""
    plan_result = plan_evaluations(make_plan_request(kind, **fields))
    losses = [
        compute_loss({name: point.array[at] for name, point in plan_result.points.items()})
        for at in range(plan_result.evaluations)
    ]
    return json.loads(json.dumps({"plan": dict(plan_result.plan), "losses": losses, "candidate": compute_gradient()}))


def decode_whole_plan(result: PlanResult) -> tuple[EvaluationPlan, Look]:
    """The plan of an answer as a judgement reads it, and the look at its points."""
    plan = decode_plan(Plan.model_validate(json.loads(json.dumps(dict(result.plan)))), Limits(), BINARY_SIZE_FACTOR)
    return plan, list_looks(plan)[0]
