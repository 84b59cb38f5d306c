"""The code of the page on the rule makes the points of the service, and its check runs."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.app import create_app
from service.checks.blackbox.plan import PlanResult, plan_evaluations
from service.checks.blackbox.plan_source import compute_digest
from tests.document_text import DOCS, find_blocks
from tests.random_plan_requests import RandomPlanRequest, draw_plan_requests
from tests.service.checks.blackbox.plan_requests import decode_whole_plan

BLOCKS = find_blocks((DOCS / "points.md").read_text(), "python")
NAMES = {"float64": "FP64", "float32": "FP32", "float16": "FP16"}
COMPARED = 60


@pytest.fixture(scope="module")
def rule() -> dict[str, Any]:
    """The names that the code of the page defines, its check apart."""
    names: dict[str, Any] = {}
    exec("\n".join(BLOCKS[:-1]), names)
    return names


def list_numbers(value: Any) -> Any:
    return value if isinstance(value, float) else value.ravel().tolist()


def plan_by_service(request: RandomPlanRequest) -> PlanResult:
    body: dict[str, Any] = request.fields | {
        "point": {
            name: {"datatype": NAMES[values.dtype.name], "shape": list(values.shape), "data": list_numbers(values)}
            for name, values in request.point.items()
        }
    }
    if "scale" in body:
        scales = body["scale"].items()
        body["scale"] = {name: scale if isinstance(scale, float) else scale.tolist() for name, scale in scales}
    if request.outputs is not None:
        body["outputs"] = {name: list(array.shape) for name, array in request.outputs.items()}
    return plan_evaluations(body)


def plan_by_page(rule: dict[str, Any], request: RandomPlanRequest) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    fields, point = request.fields, request.point
    directions, seed = fields.get("directions", {}), fields.get("seed", 0)
    points = rule["make_points"](
        {name: list_numbers(values.astype(float)) for name, values in point.items()},
        {name: NAMES[values.dtype.name] for name, values in point.items()},
        directions.get("kind", "random") == "random",
        directions.get("count"),
        seed,
        {
            name: list_numbers(scale) if point[name].ndim or isinstance(scale, float) else float(scale)
            for name, scale in fields.get("scale", {}).items()
        },
        fields.get("evaluations") == "few",
    )
    outputs = request.outputs or {}
    return points, {name: rule["draw_cotangent"](seed, name, array.size) for name, array in outputs.items()}


def test_its_code_makes_the_points_of_the_service(rule: dict[str, Any]) -> None:
    compared = 0
    for request in draw_plan_requests(1):
        with contextlib.suppress(InvalidRequestError):
            result = plan_by_service(request)
            points, cotangents = plan_by_page(rule, request)
            assert len(points) == result.evaluations, request
            for name, tensor in result.points.items():
                expected = tensor.array.astype(float).reshape(result.evaluations, -1)
                assert (np.array([point[name] for point in points]) == expected).all(), (name, request)
            for name, tensor in result.cotangents.items():
                assert cotangents[name] == tensor.array.ravel().tolist()
            assert rule["compute_digest"](points, cotangents) == compute_digest(*decode_whole_plan(result))
            compared += 1
        if compared == COMPARED:
            break


def test_another_rule_makes_other_points(rule: dict[str, Any]) -> None:
    """A comparison that could not fail would be none."""
    point = {"w": [0.5, -1.5]}
    points = [rule["make_points"](point, {"w": "FP64"}, seed=seed) for seed in (0, 1)]
    assert points[0] != points[1]
    assert rule["compute_digest"](points[0], {}) != rule["compute_digest"](points[1], {})


def test_its_check_takes_one_request(rule: dict[str, Any]) -> None:
    client, asked = create_app().test_client(), []

    def post(path: str, body: Any) -> Any:
        asked.append(path)
        return client.post(path, json=body).get_json()

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(BLOCKS[-1], rule | {"post": post})
    assert asked == ["/v1/judge"]
    page = (DOCS / "points.md").read_text()
    assert find_blocks(page, "console")[-1] == output.getvalue()
