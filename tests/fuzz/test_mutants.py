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


def of_first_weight(request: dict[str, Any]) -> dict[str, Any]:
    name, weight = next(iter(request["weights"].items()))
    return request | {"element": {"name": name, "index": [0] * np.ndim(weight)}}


POINT = {"w": [[0.5, -1.5], [2.0, 0.25]], "b": {"datatype": "FP32", "shape": [2], "data": [1.0, -0.5]}}
PLANS = [
    {"point": POINT, "directions": {"kind": "coordinates", "count": 2}},
    {"point": POINT, "scale": {"w": 0.5}, "seed": 3},
]


def judged(request: dict[str, Any]) -> dict[str, Any]:
    """A plan that was carried out on a sum of sines."""
    found = plan_evaluations(request)
    points = [each.array for each in found.points.values()]
    losses = [sum(float(np.sin(each[at]).sum()) for each in points) for at in range(len(points[0]))]
    slopes = {name: np.cos(Tensor.decode(each).array).tolist() for name, each in POINT.items()}
    return {"plan": dict(found.plan), "losses": losses, "candidate": slopes}


ADDRESSED = (
    st.tuples(st.just("/v1/check"), mutate_requests_with_options(CHECKS))
    | st.tuples(st.just("/v1/curve"), mutate_requests_with_options(list(map(of_first_weight, CHECKS))))
    | st.tuples(
        st.just("/v1/bugs"), mutate_requests_with_options([*CHECKS, *(each | {"bug": "transposed"} for each in CHECKS)])
    )
    | st.tuples(st.just("/v1/plan"), mutate_requests(PLANS))
    | st.tuples(st.just("/v1/judge"), mutate_requests(list(map(judged, PLANS))))
)


def test_no_change_is_too_much(counting_application: CountingApplication) -> None:
    @settings(max_examples=MUTATED_REQUEST_COUNT, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(ADDRESSED)
    def send(addressed: tuple[str, dict[str, Any]]) -> None:
        path, request = addressed
        body = json.dumps(request).encode()
        response = counting_application.app.test_client().post(path, data=body, content_type="application/json")
        check_response(counting_application.document, response)

    send()
    assert counting_application.statuses.total() >= MUTATED_REQUEST_COUNT
