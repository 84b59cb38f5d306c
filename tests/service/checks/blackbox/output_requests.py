"""A function with two outputs on the client's side, its derivatives, and requests for their judgement."""

import json
from typing import Any

import numpy as np

from service.checks.blackbox.plan import PlanResult, plan_evaluations

EXAMPLE_POINT = {"w": [[0.5, -1.5], [2.0, 0.25]], "b": [1.0, -0.5, 0.75]}
EXAMPLE_OUTPUTS: dict[str, list[int]] = {"y": [2, 3], "total": []}
VALUE_SIZES = {"y": 6, "total": 1}


def compute_outputs(w: Any, b: Any) -> dict[str, Any]:
    """y = sin(w) b^T by rows, total = sum(w^2) b0 / 1000."""
    return {"y": np.sin(w).sum(axis=1)[:, None] * b + b**2, "total": (w**2).sum() * b[0] / 1000}


def compute_jacobian() -> dict[str, dict[str, Any]]:
    """The Jacobians, of the shapes of the output and then of the tensor."""
    w, b = (np.array(EXAMPLE_POINT[name]) for name in ("w", "b"))
    y_by_w = np.zeros((2, 3, 2, 2))
    y_by_b = np.zeros((2, 3, 3))
    for row in range(2):
        for column in range(3):
            y_by_w[row, column, row] = np.cos(w[row]) * b[column]
            y_by_b[row, column, column] = np.sin(w[row]).sum() + 2 * b[column]
    total_by_b = np.array([(w**2).sum() / 1000, 0.0, 0.0])
    return {"y": {"w": y_by_w, "b": y_by_b}, "total": {"w": 2 * w * b[0] / 1000, "b": total_by_b}}


def compute_vjp(result: PlanResult) -> dict[str, dict[str, Any]]:
    """The products of the cotangents of a plan with the Jacobians."""
    return {
        output: {
            name: np.tensordot(result.cotangents[output].array, block, result.cotangents[output].array.ndim)
            for name, block in by_tensor.items()
        }
        for output, by_tensor in compute_jacobian().items()
    }


def compute_jvp(result: PlanResult) -> dict[str, Any]:
    """The products of the Jacobians with the tangents of a plan, the directions first."""
    products = {}
    for output, by_tensor in compute_jacobian().items():
        rows = [
            np.tensordot(by_tensor[name], tangent, tangent.ndim)
            for name, tangents in result.tangents.items()
            for tangent in tangents.array
        ]
        products[output] = np.stack(rows)
    return products


def plan_outputs(kind: str = "random", **fields: Any) -> PlanResult:
    request = {"point": EXAMPLE_POINT, "outputs": EXAMPLE_OUTPUTS, "directions": {"kind": kind}, "seed": 5}
    return plan_evaluations(request | fields)


def evaluate_plan(result: PlanResult) -> dict[str, Any]:
    """The values of all outputs, the points first."""
    values = [
        compute_outputs(*(tensor.array[number] for tensor in result.points.values()))
        for number in range(result.evaluations)
    ]
    return {name: np.stack([np.asarray(value[name]) for value in values]) for name in EXAMPLE_OUTPUTS}


def to_wire(document: Any) -> Any:
    """The document as a client sends it."""
    return json.loads(json.dumps(document, default=lambda value: value.tolist()))


def make_output_request(kind: str = "random", *products: str, **fields: Any) -> dict[str, Any]:
    """A request for a judgement that passes, with these products."""
    result = plan_outputs(kind, **fields)
    computed = {
        "vjp": lambda: compute_vjp(result),
        "jvp": lambda: compute_jvp(result),
        "jacobian": compute_jacobian,
    }
    request = {"plan": dict(result.plan), "values": evaluate_plan(result)}
    return to_wire(request | {product: computed[product]() for product in products})
