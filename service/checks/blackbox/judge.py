"""`POST /v1/judge`: from a plan, losses or values, and derivatives to a report, without Flask."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from schemas.plan import JudgeReport, JudgeRequest
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from schemas.tensor import Encoding, Tensor
from service.checks.blackbox import parse
from service.checks.blackbox.derivatives import TensorEncoder, build_derivatives, check_derivative_bytes, choose_encoder
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.judge_fields import check_fields
from service.checks.blackbox.losses import read_losses
from service.checks.blackbox.output_judgements import judge_products
from service.checks.blackbox.output_report import build_output_report
from service.checks.blackbox.plan_codec import decode_plan
from service.checks.blackbox.plan_size import BINARY_SIZE_FACTOR
from service.checks.blackbox.products import check_jacobian_size, read_products
from service.checks.blackbox.report import build_derivative_report, build_judge_report, difference_loss
from service.checks.blackbox.values import read_values
from service.checks.common.deadline import Clock, current_clock
from service.checks.common.limits import Limits
from service.checks.graph.problem import choose_precision
from service.numerics.blackbox import candidate_judge
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.reference import Tolerance


def judge_losses(
    body: object,
    limits: Limits | None = None,
    *,
    encoding: Encoding | None = None,
    reserve_answer_bytes: Callable[[int], None] | None = None,
) -> JudgeReport:
    """Judge derivatives by the losses, or by the values of outputs, at the points of a plan.

    Parameters
    ----------
    body
        Request, as parsed from JSON.
    limits
        Limits of the request; the default limits if left out.
    encoding
        Encoding of the derivatives of the answer; that of the request by default.
    reserve_answer_bytes
        Receiver of the largest size of an answer with derivatives, in bytes, before they are computed; may raise to
        refuse it. None by default. With it, tensors are left to `schemas.json_writer`.

    Raises
    ------
    InvalidRequestError
        All errors of the request.
    """
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline(), clock.refuse_on_timeout("Plan fewer directions", "plan"):
        request = parse.parse_judge_request(body, limits)
        plan = decode_plan(request.plan, limits, BINARY_SIZE_FACTOR)
        check_fields(request, plan)
        form = encoding or request.encoding
        if request.include:
            check_jacobian_size(plan, limits, "include", plan.cotangents)
            size = check_derivative_bytes(plan, form, limits)
            if reserve_answer_bytes is not None:
                reserve_answer_bytes(size)
        encode = choose_encoder(form, defer=reserve_answer_bytes is not None)
        if plan.cotangents:
            return _judge_outputs(request, plan, limits, clock, encode)
        return _judge_loss(request, plan, clock, encode)


def _judge_outputs(
    request: JudgeRequest, plan: EvaluationPlan, limits: Limits, clock: Clock, encode: TensorEncoder
) -> JudgeReport:
    with clock.refuse_on_timeout("Plan fewer directions, or judge fewer outputs at once", "plan"):
        return _judge_output_values(request, plan, limits, clock, encode)


def _judge_output_values(
    request: JudgeRequest, plan: EvaluationPlan, limits: Limits, clock: Clock, encode: TensorEncoder
) -> JudgeReport:
    products = read_products(request, plan, limits)
    shapes = {name: array.shape for name, array in plan.cotangents.items()}
    values = read_values(request.values or {}, plan.layout, shapes)
    # Overflow and NaN are findings here, as in a check.
    with clock.name_stage("the products were being judged"), np.errstate(all="ignore"):
        judgements = judge_products(request, plan, products, values, _choose_tolerance(request))
    return build_output_report(plan, judgements, request.relative_error, encode)


def _choose_tolerance(request: JudgeRequest) -> Tolerance | None:
    return None if request.tolerance is None else Tolerance(request.tolerance.rtol, request.tolerance.atol)


def _judge_loss(request: JudgeRequest, plan: EvaluationPlan, clock: Clock, encode: TensorEncoder) -> JudgeReport:
    given = request.candidate
    if given is not None and (errors := [*_find_candidate_errors(given, plan)]):
        raise InvalidRequestError(errors)
    losses = read_losses(request.losses or [], plan.layout)
    if given is None:
        with clock.name_stage("the loss was being differenced"):
            return build_derivative_report(plan, losses, encode)
    candidates = {name: tensor.array for name, tensor in given.items()}
    precisions = {
        name: choose_precision(tensor, request.candidate_dtype, PRECISIONS[plan.datatypes[name].name])
        for name, tensor in given.items()
    }
    with clock.name_stage("the candidate was being judged"):
        noise, judgements = candidate_judge.judge_candidates(
            plan.layout, losses, candidates, precisions, request.relative_error, _choose_tolerance(request)
        )
        report = build_judge_report(plan.layout, losses, noise, judgements, request.relative_error)
        if request.include:
            report["derivatives"] = build_derivatives(plan, difference_loss(plan, losses)[0], encode)
        return report


def _find_candidate_errors(candidate: Mapping[str, Tensor], evaluation_plan: EvaluationPlan) -> Iterator[PlacedError]:
    points = evaluation_plan.layout.points
    for name in points.keys() - candidate.keys():
        yield error_at("is missing: the plan moves this tensor too", "candidate", name)
    for name, tensor in candidate.items():
        if name not in points:
            known_names = ", ".join(map(quote_name, list(points)[:20]))
            yield error_at(
                f"there is no tensor {quote_name(name)} in the plan; there are: {known_names}", "candidate", name
            )
        elif tensor.datatype is not None and tensor.datatype.kind != "float":
            yield error_at(f"a gradient is of floats; datatype {tensor.datatype.name} was given", "candidate", name)
        elif tensor.array.shape != points[name].values.shape:
            shapes = f"{list(tensor.array.shape)}; the point has {list(points[name].values.shape)}"
            yield error_at(f"its shape is {shapes}", "candidate", name)
