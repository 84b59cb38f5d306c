"""The presets' requests, changed: most of what is wrong with them is found late, when much of them is right."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.tensor import Tensor
from service.checks.blackbox.plan import plan_evaluations
from service.numerics.model.presets import PRESETS
from tests.fuzz import MUTATED_REQUEST_COUNT
from tests.fuzz.request_mutations import mutate_requests, mutate_requests_with_options
from tests.fuzz.response_checks import CountingApplication, check_response

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

NAMED = [preset.example_request for preset in PRESETS.values()]
# As models of one's own too, so that their nodes are changed as well.
WRITTEN = [
    preset.example_request | {"model": {"nodes": [dict(node) for node in preset.nodes]}} for preset in PRESETS.values()
]
CHECKS = [*NAMED, *WRITTEN]


def select_first_element(request: dict[str, Any]) -> dict[str, Any]:
    name, weight = next(iter(request["weights"].items()))
    return request | {"element": {"name": name, "index": [0] * np.ndim(weight)}}


POINT = {"w": [[0.5, -1.5], [2.0, 0.25]], "b": {"datatype": "FP32", "shape": [2], "data": [1.0, -0.5]}}
PLANS = [
    {"point": POINT, "directions": {"kind": "coordinates", "count": 2}},
    {"point": POINT, "scale": {"w": 0.5}, "seed": 3},
]


def make_judge_request(request: dict[str, Any]) -> dict[str, Any]:
    """A plan that was carried out on a sum of sines."""
    plan_result = plan_evaluations(request)
    points = [point.array for point in plan_result.points.values()]
    losses = [sum(float(np.sin(point[at]).sum()) for point in points) for at in range(len(points[0]))]
    slopes = {name: np.cos(Tensor.decode(tensor).array).tolist() for name, tensor in POINT.items()}
    return {"plan": dict(plan_result.plan), "losses": losses, "candidate": slopes}


OUTPUTS = {"y": [2], "s": []}
OUTPUT_PLANS = [
    {"point": POINT, "outputs": OUTPUTS, "directions": {"kind": "coordinates", "count": 2}},
    {"point": POINT, "cotangents": {"y": [0.5, -2.0], "s": 1.0}, "seed": 3, "directions": {"count": 2}},
]


def make_output_judge_requests(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Judgements of the products of y = (sum of sines, sum of w) and s = the product of both."""
    result = plan_evaluations(request)
    points = [tensor.array for tensor in result.points.values()]
    sums = [sum(float(np.sin(array[number]).sum()) for array in points) for number in range(result.evaluations)]
    weights = [float(array.sum()) for array in points[0]]
    values = {"y": [list(pair) for pair in zip(sums, weights, strict=True)], "s": np.multiply(sums, weights).tolist()}
    jacobian = {"y": {}, "s": {}}
    for number, (name, tensor) in enumerate(POINT.items()):
        cosines = np.cos(Tensor.decode(tensor).array)
        linear = np.full(cosines.shape, 1.0 - number)
        jacobian["y"][name] = np.stack([cosines, linear])
        jacobian["s"][name] = cosines * weights[0] + linear * sums[0]
    cotangents = {name: tensor.array for name, tensor in result.cotangents.items()}
    vjp = {
        output: {
            name: np.tensordot(cotangents[output], block, cotangents[output].ndim).tolist()
            for name, block in by_tensor.items()
        }
        for output, by_tensor in jacobian.items()
    }
    jvp = {
        output: [
            np.tensordot(by_tensor[name], tangent, tangent.ndim).tolist()
            for name, tangents in result.tangents.items()
            for tangent in tangents.array
        ]
        for output, by_tensor in jacobian.items()
    }
    blocks = {
        output: {name: block.tolist() for name, block in by_tensor.items()} for output, by_tensor in jacobian.items()
    }
    body = {"plan": dict(result.plan), "values": values}
    products: list[dict[str, Any]] = [{"vjp": vjp, "jvp": jvp}, {"vjp": vjp, "tolerance": {"rtol": 1e-3}}, {"jvp": jvp}]
    if request["directions"].get("kind") == "coordinates":
        products += [{"jacobian": blocks, "include": ["derivatives"]}, {"include": ["derivatives"], "encoding": "b64"}]
    return [body | given for given in products]


JUDGEMENTS = [
    *map(make_judge_request, PLANS),
    *(body for request in OUTPUT_PLANS for body in make_output_judge_requests(request)),
]


def test_the_judgements_of_outputs_pass_unchanged(counting_application: CountingApplication) -> None:
    client = counting_application.app.test_client()
    outcomes = [client.post("/v1/judge", json=body).json["outcome"] for body in JUDGEMENTS]  # type: ignore[index]
    assert outcomes == ["pass"] * (len(outcomes) - 4) + ["inconclusive"] + ["pass"] * 3


ADDRESSED = (
    st.tuples(st.just("/v1/check"), mutate_requests_with_options(CHECKS))
    | st.tuples(st.just("/v1/curve"), mutate_requests_with_options(list(map(select_first_element, CHECKS))))
    | st.tuples(
        st.just("/v1/bugs"),
        mutate_requests_with_options([*CHECKS, *(check | {"bug": "transposed"} for check in CHECKS)]),
    )
    | st.tuples(st.just("/v1/plan"), mutate_requests([*PLANS, *OUTPUT_PLANS]))
    | st.tuples(st.just("/v1/judge"), mutate_requests(JUDGEMENTS))
)


def test_any_mutated_request_is_answered_as_described(counting_application: CountingApplication) -> None:
    @settings(max_examples=MUTATED_REQUEST_COUNT, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(ADDRESSED)
    def send(addressed: tuple[str, dict[str, Any]]) -> None:
        path, request = addressed
        body = json.dumps(request).encode()
        response = counting_application.app.test_client().post(path, data=body, content_type="application/json")
        check_response(counting_application.document, response)

    send()
    assert counting_application.statuses.total() >= MUTATED_REQUEST_COUNT
