"""The kinds of check, one record each.

A new kind costs a folder for its parts and a record here.

The parts of the kinds with a model load at their first use. A client that judges functions in its own process needs
none of them, nor the ops, and they take longer to load than such a judgement takes. `load_kinds` loads them for a
server.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, cast

import numpy as np

from schemas.bugs import BugsAnswer
from schemas.curve import CurveReport
from schemas.plan import FurtherPoints, JudgeReport, JudgeRequest, PlanAnswer, PlanRequest
from schemas.report import CheckReport
from schemas.safetensors_body import SAFETENSORS, encode_judgement, encode_report, reorder_header, to_safetensors
from schemas.stored_result import encode_result
from schemas.tensor import Encoding, Tensor
from service.checks.blackbox.examples import build_judge_examples, build_plan_examples
from service.checks.blackbox.judge import judge_losses, validate_judge_request
from service.checks.blackbox.plan import PlanResult, plan_evaluations
from service.checks.common.check_kind import AnswerFacts, BinaryAnswer, BinaryBody, CheckKind, RunOptions
from service.checks.common.limits import Limits
from service.rendering.blackbox_sections import build_judgement_sections
from service.rendering.sections import build_check_sections

_METADATA_NOTE = "and in the metadata entry `request` the other fields as JSON text"
_GRAPH_BODY = BinaryBody(
    "Tensors named tensors/x, weights/w1, candidate/w1 (F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, BOOL), and in "
    "the metadata entry `request` the other fields as JSON text; it may be left out. repeats/w1 "
    "has its runs along axis 0."
)
_PLAN_BODY = BinaryBody(
    f"Tensors named point/w1 and cotangents/y (F64, F32, F16, BF16), {_METADATA_NOTE}.", ("cotangents", "point")
)
_JUDGE_BODY = BinaryBody(
    "Tensors named candidate/w1, or of outputs values/y, vjp/y/w1, jvp/y and jacobian/y/w1 (F64, F32, F16, BF16), "
    f"{_METADATA_NOTE}.",
    ("values", "candidate", "vjp", "jvp", "jacobian"),
)


def _build_preset_examples(change: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> dict[str, Any]:
    """Return the changed requests of the presets, as OpenAPI has examples."""
    from service.checks.graph import model_language

    return {model["name"]: {"value": change(model["request"])} for model in model_language.list_models()["models"]}


def _add_first_element(request: dict[str, Any]) -> dict[str, Any]:
    name, weight = next(iter(request["weights"].items()))
    return request | {"element": {"name": name, "index": [0] * np.ndim(weight)}}


def _load_request_type(name: str) -> Any:
    from service.checks.graph import model_language

    return getattr(model_language, name)


def _run_check(body: object, options: RunOptions) -> CheckReport:
    from service.checks.graph.check import check

    # Text tells the shape alone of large tensors: they need no encoding.
    encoding = None if options.form == "json" else "binary"
    return check(body, options.limits, options.progress, encoding, options.reserve_answer_bytes)


def _estimate_check_work(body: object, limits: Limits) -> int:
    from service.checks.graph.check import estimate_check_work

    return estimate_check_work(body, limits)


def _estimate_judge_work(body: object, limits: Limits) -> int:
    validate_judge_request(body, limits)
    # The evaluations were the client's.
    return 0


def _is_small_check(body: object | None, limits: Limits) -> bool:
    from service.checks.graph.small_checks import is_small_check

    return is_small_check(body, limits)


def _run_curve(body: object, options: RunOptions) -> CurveReport:
    from service.checks.curve import compute_curve

    return compute_curve(body, options.limits, options.progress)


def _run_plan(body: object, options: RunOptions) -> PlanResult:
    return plan_evaluations(
        body, options.limits, binary=options.form == "binary", reserve_answer_bytes=options.reserve_answer_bytes
    )


def _run_judge(body: object, options: RunOptions) -> JudgeReport | FurtherPoints:
    # Text needs no encoding, as in a check.
    encoding = None if options.form == "json" else "binary"
    return judge_losses(body, options.limits, encoding=encoding, reserve_answer_bytes=options.reserve_answer_bytes)


def _run_bugs(body: object, options: RunOptions) -> BugsAnswer:
    from service.checks.bugs import simulate_bugs

    return simulate_bugs(body, options.limits)


def _get_plan_document(result: PlanResult) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", result.deferred_answer)


def _write_binary_plan(result: PlanResult, text: str | None) -> bytes:
    return reorder_header(to_safetensors(result.binary_tensors, result.answer_without_points), result.binary_tensors)


def _collect_check_facts(report: CheckReport) -> AnswerFacts:
    cost = report["cost"]
    stages = {stage: float(str(seconds)) for stage, seconds in cost["stages"].items()}
    return AnswerFacts(_collect_outcomes(report), cost["loss_evaluations"], stages)


def _collect_judge_facts(report: JudgeReport | FurtherPoints) -> AnswerFacts:
    if report["outcome"] == "more":
        return AnswerFacts({"outcome": report["outcome"], "evaluations": report["evaluations"]})
    # The evaluations were the client's.
    return AnswerFacts({**_collect_outcomes(report), "evaluations": report["evaluations"]})


def _collect_outcomes(report: CheckReport | JudgeReport) -> dict[str, str | int]:
    verdicts = report["verdicts"].values()
    elements = sum(verdict["elements"]["total"] for verdict in verdicts)
    return {"outcome": report["outcome"], "names": len(verdicts), "elements": elements}


def _encode_judgement_document(result: Mapping[str, Any], encoding: Encoding) -> Any:
    if result["outcome"] != "more":
        return encode_result(result, encoding)
    # In JSON there is an object for each point.
    points = result["points"]
    return encode_result(
        {**result, "points": [_select_point(points, index) for index in range(result["evaluations"])]}, encoding
    )


def _select_point(points: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: replace(tensor, array=tensor.array[index]) for name, tensor in points.items()}


CHECK_KINDS: tuple[CheckKind[Any], ...] = (
    CheckKind(
        name="check",
        path="/v1/check",
        summary="Check a gradient by three independent routes",
        load_request_type=partial(_load_request_type, "CheckRequestSchema"),
        answer_type=CheckReport,
        run=_run_check,
        build_examples=_build_preset_examples,
        binary_body=_GRAPH_BODY,
        binary_answer=BinaryAnswer(
            "Tensors gradients/w1/analytic, ..., and in the metadata entry `report` the rest of the report as JSON "
            f'text. With `{SAFETENSORS}; report="text/plain"`, or "text/markdown", the entry `text` has it for reading '
            "too.",
            encode_report,
        ),
        build_sections=build_check_sections,
        collect_facts=_collect_check_facts,
        streams_progress=True,
        is_counted=True,
        is_small=_is_small_check,
        timeout_path=("with_respect_to",),
        operation_id="post_check_post_check",
        needs_torch=True,
        encode_job_result=encode_result,
        estimate_job_work=_estimate_check_work,
    ),
    CheckKind(
        name="curve",
        path="/v1/curve",
        summary="Difference the loss by one element with steps from 1e-16 to 1",
        load_request_type=partial(_load_request_type, "CurveRequestSchema"),
        answer_type=CurveReport,
        run=_run_curve,
        build_examples=partial(_build_preset_examples, _add_first_element),
        binary_body=_GRAPH_BODY,
        operation_id="post_curve_post_curve",
        needs_torch=True,
    ),
    CheckKind(
        name="bugs",
        path="/v1/bugs",
        summary="List the bugs that a model can have, or plant one",
        load_request_type=partial(_load_request_type, "BugsRequestSchema"),
        answer_type=BugsAnswer,
        run=_run_bugs,
        build_examples=_build_preset_examples,
        binary_body=_GRAPH_BODY,
        operation_id="post_bugs_post_bugs",
        needs_torch=True,
    ),
    CheckKind(
        name="plan",
        path="/v1/plan",
        summary="Plan where a function that only you can evaluate is to be evaluated",
        load_request_type=lambda: PlanRequest,
        answer_type=PlanAnswer,
        run=_run_plan,
        build_examples=build_plan_examples,
        binary_body=_PLAN_BODY,
        to_document=_get_plan_document,
        binary_answer=BinaryAnswer(
            "All points of each tensor as one, points/w1, of one dimension more, in the order of the request, and of a "
            "function with outputs cotangents/y and tangents/w1, the directions of w1 first; in the metadata entry "
            "`report` the plan, the number of evaluations and that order as JSON text.",
            _write_binary_plan,
        ),
        operation_id="post_blackbox_post_plan",
    ),
    CheckKind(
        name="judge",
        path="/v1/judge",
        summary="Judge derivatives by the values of a function at the points of a plan",
        load_request_type=lambda: JudgeRequest,
        answer_type=JudgeReport | FurtherPoints,
        run=_run_judge,
        build_examples=build_judge_examples,
        binary_body=_JUDGE_BODY,
        binary_answer=BinaryAnswer(
            "Tensors derivatives/w1/value and derivatives/w1/error_bound, or of outputs derivatives/y/w1/value, ..., "
            "if they are included; in the metadata entry `report` the rest of the report as JSON text, and in `text` "
            "what that of a check has.",
            encode_judgement,
        ),
        build_sections=build_judgement_sections,
        collect_facts=_collect_judge_facts,
        operation_id="post_blackbox_post_judge",
        encode_job_result=_encode_judgement_document,
        estimate_job_work=_estimate_judge_work,
    ),
)
"""All kinds, in the order in which the interface was built."""


_LATE_MODULES = (
    "service.checks.bugs",
    "service.checks.curve",
    "service.checks.graph.check",
    "service.checks.graph.small_checks",
)
"""Modules that the functions above import."""


def load_kinds() -> None:
    """Load the parts of all kinds, so that no request waits for them."""
    for name in _LATE_MODULES:
        import_module(name)
