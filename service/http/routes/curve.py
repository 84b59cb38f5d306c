"""`POST /v1/curve`."""

from functools import partial
from typing import Any

import numpy as np
from flask import Blueprint, Response, request

from schemas.curve import CurveReport
from service.checks.curve import compute_curve
from service.checks.graph import model_language
from service.http.body.request_body import JSON, negotiate_media_type, receive_body
from service.http.middleware.compute_deadline import limit_compute_time
from service.http.middleware.concurrency import acquire_compute
from service.http.middleware.request_limits import current_limits
from service.http.middleware.request_log import current_record
from service.http.operations import COMPUTE_PROBLEMS, TENSOR_BODY_FORMATS, Operation, describe_operation
from service.http.response.responses import make_json_response
from service.http.routes.catalogue import build_examples

blueprint = Blueprint("curve", __name__)


def _build_curve_example(request: dict[str, Any]) -> dict[str, Any]:
    """A preset's request, and the first element of its first weight."""
    name, weight = next(iter(request["weights"].items()))
    return request | {"element": {"name": name, "index": [0] * np.ndim(weight)}}


@blueprint.post("/v1/curve")
@describe_operation(
    Operation(
        "Difference the loss by one element with steps from 1e-16 to 1",
        answer_type=CurveReport,
        body_type=model_language.CurveRequestSchema,
        problems=COMPUTE_PROBLEMS,
        examples=partial(build_examples, _build_curve_example),
        body_formats=TENSOR_BODY_FORMATS,
    )
)
def post_curve() -> Response:
    """Answer with the differences; what is not finite among them is spelled."""
    negotiate_media_type(request, JSON)
    with receive_body(request, JSON, *TENSOR_BODY_FORMATS) as body, limit_compute_time(), acquire_compute():
        return make_json_response(compute_curve(body.parse(), current_limits(), current_record().track_progress()))
