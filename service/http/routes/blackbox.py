"""`POST /v1/plan` and `POST /v1/judge`."""

from functools import cache
from typing import Any

from flask import Blueprint, Response, request

from schemas.json_writer import write_json
from schemas.plan import JudgeReport, JudgeRequest, PlanAnswer, PlanRequest
from schemas.safetensors_body import SAFETENSORS, reorder_header, to_safetensors
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import plan_evaluations
from service.http.body.request_body import JSON, negotiate_media_type, receive_body
from service.http.middleware.compute_deadline import limit_compute_time
from service.http.middleware.concurrency import acquire_compute
from service.http.middleware.memory_quota import reserve_answer
from service.http.middleware.request_limits import current_limits
from service.http.middleware.request_log import current_record
from service.http.operations import COMPUTE_PROBLEMS, REPORT_TEXT_FORMATS, BodyFormat, Operation, describe_operation
from service.http.response.responses import add_vary_header, make_reserved_response, serialize_report

blueprint = Blueprint("blackbox", __name__)
blueprint.after_request(add_vary_header)

_METADATA_NOTE = "and in the metadata entry `request` the other fields as JSON text"
_PLAN_BODY_FORMATS = {
    SAFETENSORS: BodyFormat(f"Tensors named point/w1 (F64, F32, F16, BF16), {_METADATA_NOTE}.", is_binary=True)
}
_JUDGE_BODY_FORMATS = {
    SAFETENSORS: BodyFormat(f"Tensors named candidate/w1 (F64, F32, F16, BF16), {_METADATA_NOTE}.", is_binary=True)
}
_PLAN_ANSWER_FORMATS = {
    SAFETENSORS: BodyFormat(
        "All points of each tensor as one, points/w1, of one dimension more, in the order of the request; in the "
        "metadata entry `report` the plan, the number of evaluations and that order as JSON text.",
        is_binary=True,
    )
}
_EXAMPLE_POINT = {"w": [0.5, -1.5]}
_EXAMPLE_DIRECTIONS = {"kind": "coordinates"}


def _build_plan_examples() -> dict[str, Any]:
    example = {"point": _EXAMPLE_POINT, "directions": _EXAMPLE_DIRECTIONS, "seed": 0}
    return {
        "coordinates": {"value": example},
        "random": {"value": example | {"directions": {"kind": "random"}}},
        "bounds": {"value": example | {"scale": {"w": [0.5, 0.25]}, "bounds": {"w": {"min": [0, "-Infinity"]}}}},
    }


@cache
def _build_judge_examples() -> dict[str, Any]:
    """The loss w0^2 + w0 w1, and its gradient at the point."""
    found = plan_evaluations({"point": _EXAMPLE_POINT, "directions": _EXAMPLE_DIRECTIONS})
    points = found.points["w"].array
    losses = (points[:, 0] ** 2 + points[:, 0] * points[:, 1]).tolist()
    return {"coordinates": {"value": {"plan": dict(found.plan), "losses": losses, "candidate": {"w": [-0.5, 0.5]}}}}


@blueprint.post("/v1/plan")
@describe_operation(
    Operation(
        "Plan where a loss that only you can evaluate is to be evaluated",
        answer_type=PlanAnswer,
        body_type=PlanRequest,
        problems=COMPUTE_PROBLEMS,
        examples=_build_plan_examples,
        body_formats=_PLAN_BODY_FORMATS,
        answer_formats=_PLAN_ANSWER_FORMATS,
    )
)
def post_plan() -> Response:
    """Answer with the points."""
    form = negotiate_media_type(request, JSON, *_PLAN_ANSWER_FORMATS)
    with (
        reserve_answer() as held,
        receive_body(request, JSON, *_PLAN_BODY_FORMATS, sections=("point",)) as body,
        limit_compute_time(),
        acquire_compute(),
    ):
        found = plan_evaluations(
            body.parse(), current_limits(), binary=form == SAFETENSORS, reserve_answer_bytes=held.resize
        )
        if form == SAFETENSORS:
            return make_reserved_response(
                reorder_header(to_safetensors(found.binary_tensors, found.answer_without_points), found.binary_tensors),
                form,
                held,
            )
        return make_reserved_response(write_json(found.deferred_answer), form, held)


@blueprint.post("/v1/judge")
@describe_operation(
    Operation(
        "Judge a gradient by the losses at the points of a plan",
        answer_type=JudgeReport,
        body_type=JudgeRequest,
        problems=COMPUTE_PROBLEMS,
        examples=_build_judge_examples,
        body_formats=_JUDGE_BODY_FORMATS,
        answer_formats=REPORT_TEXT_FORMATS,
    )
)
def post_judge() -> Response:
    """Answer with a report; a failed gradient is a successful judgement."""
    form = negotiate_media_type(request, JSON, *REPORT_TEXT_FORMATS)
    with (
        reserve_answer() as held,
        receive_body(request, JSON, *_JUDGE_BODY_FORMATS, sections=("candidate",)) as body,
        limit_compute_time(),
        acquire_compute(),
    ):
        report = judge_losses(body.parse(), current_limits())
        current_record().record_judgement(report)
        return make_reserved_response(serialize_report(report, form), form, held)
