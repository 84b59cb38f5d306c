"""`POST /v1/plan` and `POST /v1/judge`."""

from functools import cache
from typing import Any

from flask import Blueprint, Response, request

from schemas.binary import SAFETENSORS, listed, packed
from schemas.plan import JudgeReport, JudgeRequest, PlanAnswer, PlanRequest
from schemas.writing import written
from service.http.answers import held_answer, report_bytes, vary_by_accept
from service.http.body import JSON, body_of, negotiate
from service.http.held import answering
from service.http.limits import limits
from service.http.observed import observed
from service.http.operation import PROBLEMS_OF_WORK, TEXT_FORMS, Form, Operation, documented
from service.http.slots import admitted
from service.http.timing import timed
from service.judge import judge
from service.plan import plan

blueprint = Blueprint("blackbox", __name__)
blueprint.after_request(vary_by_accept)

_FIELDS = "and in the metadata entry `request` the other fields as JSON text"
_PLAN_FORMS = {SAFETENSORS: Form(f"Tensors named point/w1 (F64, F32, F16, BF16), {_FIELDS}.", binary=True)}
_JUDGE_FORMS = {SAFETENSORS: Form(f"Tensors named candidate/w1 (F64, F32, F16, BF16), {_FIELDS}.", binary=True)}
_ANSWER_FORMS = {
    SAFETENSORS: Form(
        "All points of each tensor as one, points/w1, of one dimension more, in the order of the request; in the "
        "metadata entry `report` the plan, the number of evaluations and that order as JSON text.",
        binary=True,
    )
}
_POINT = {"w": [0.5, -1.5]}
_DIRECTIONS = {"kind": "coordinates"}


def _plan_examples() -> dict[str, Any]:
    example = {"point": _POINT, "directions": _DIRECTIONS, "seed": 0}
    return {
        "coordinates": {"value": example},
        "random": {"value": example | {"directions": {"kind": "random"}}},
        "bounds": {"value": example | {"scale": {"w": [0.5, 0.25]}, "bounds": {"w": {"min": [0, "-Infinity"]}}}},
    }


@cache
def _judge_examples() -> dict[str, Any]:
    """The loss w0^2 + w0 w1, and its gradient at the point."""
    found = plan({"point": _POINT, "directions": _DIRECTIONS})
    points = found.points["w"].array
    losses = (points[:, 0] ** 2 + points[:, 0] * points[:, 1]).tolist()
    return {"coordinates": {"value": {"plan": dict(found.plan), "losses": losses, "candidate": {"w": [-0.5, 0.5]}}}}


@blueprint.post("/v1/plan")
@documented(
    Operation(
        "Plan where a loss that only you can evaluate is to be evaluated",
        answer=PlanAnswer,
        body=PlanRequest,
        problems=PROBLEMS_OF_WORK,
        examples=_plan_examples,
        body_forms=_PLAN_FORMS,
        answer_forms=_ANSWER_FORMS,
    )
)
def post_plan() -> Response:
    """Answer with the points."""
    form = negotiate(request, JSON, *_ANSWER_FORMS)
    with answering() as held, body_of(request, JSON, *_PLAN_FORMS, sections=("point",)) as body, timed(), admitted():
        found = plan(body.parsed(), limits(), binary=form == SAFETENSORS, reserve=held.settle)
        if form == SAFETENSORS:
            return held_answer(listed(packed(found.tensors, found.rest), found.tensors), form, held)
        return held_answer(written(found.late), form, held)


@blueprint.post("/v1/judge")
@documented(
    Operation(
        "Judge a gradient by the losses at the points of a plan",
        answer=JudgeReport,
        body=JudgeRequest,
        problems=PROBLEMS_OF_WORK,
        examples=_judge_examples,
        body_forms=_JUDGE_FORMS,
        answer_forms=TEXT_FORMS,
    )
)
def post_judge() -> Response:
    """Answer with a report; a failed gradient is a successful judgement."""
    form = negotiate(request, JSON, *TEXT_FORMS)
    with (
        answering() as held,
        body_of(request, JSON, *_JUDGE_FORMS, sections=("candidate",)) as body,
        timed(),
        admitted(),
    ):
        report = judge(body.parsed(), limits())
        observed().judged(report)
        return held_answer(report_bytes(report, form), form, held)
