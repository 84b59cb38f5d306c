"""The presets' requests, changed: most of what is wrong with them is found late, when much of them is right."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.numerics.models import PRESETS
from tests.fuzz import MUTANTS
from tests.fuzz.held import Asked, hold
from tests.fuzz.mutating import mutants

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

NAMED = [preset.request for preset in PRESETS.values()]
# As models of one's own too, so that their nodes are changed as well.
WRITTEN = [preset.request | {"model": {"nodes": [dict(node) for node in preset.nodes]}} for preset in PRESETS.values()]
CHECKS = [*NAMED, *WRITTEN]


def of_first_weight(request: dict[str, Any]) -> dict[str, Any]:
    name, weight = next(iter(request["weights"].items()))
    return request | {"element": {"name": name, "index": [0] * np.ndim(weight)}}


ADDRESSED = (
    st.tuples(st.just("/v1/check"), mutants(CHECKS))
    | st.tuples(st.just("/v1/curve"), mutants(list(map(of_first_weight, CHECKS))))
    | st.tuples(st.just("/v1/bugs"), mutants([*CHECKS, *(each | {"bug": "transposed"} for each in CHECKS)]))
)


def test_no_change_is_too_much(asked: Asked) -> None:
    @settings(max_examples=MUTANTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(ADDRESSED)
    def send(addressed: tuple[str, dict[str, Any]]) -> None:
        path, request = addressed
        body = json.dumps(request).encode()
        response = asked.app.test_client().post(path, data=body, content_type="application/json")
        hold(asked.document, response)

    send()
    assert asked.statuses.total() >= MUTANTS
