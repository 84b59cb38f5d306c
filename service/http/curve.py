"""`POST /v1/curve`."""

from functools import partial
from typing import Any

import numpy as np
from flask import Blueprint, Response, request

from schemas.curve import CurveReport
from service.checking import language
from service.curve import curve
from service.http.answers import json_answer
from service.http.body import JSON, body_of, negotiate
from service.http.catalogue import examples
from service.http.limits import limits
from service.http.observed import observed
from service.http.operation import BODY_FORMS, PROBLEMS_OF_WORK, Operation, documented
from service.http.slots import admitted
from service.http.timing import timed

blueprint = Blueprint("curve", __name__)


def _of_first_weight(request: dict[str, Any]) -> dict[str, Any]:
    """A preset's request, and the first element of its first weight."""
    name, weight = next(iter(request["weights"].items()))
    return request | {"element": {"name": name, "index": [0] * np.ndim(weight)}}


@blueprint.post("/v1/curve")
@documented(
    Operation(
        "Difference the loss by one element with steps from 1e-16 to 1",
        answer=CurveReport,
        body=language.OfCurve,
        problems=PROBLEMS_OF_WORK,
        examples=partial(examples, _of_first_weight),
        body_forms=BODY_FORMS,
    )
)
def post_curve() -> Response:
    """Answer with the differences; what is not finite among them is spelled."""
    negotiate(request, JSON)
    with body_of(request, JSON, *BODY_FORMS) as body, timed(), admitted():
        return json_answer(curve(body.parsed(), limits(), observed().counting()))
