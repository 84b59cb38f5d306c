"""`POST /v1/judge`: from a plan, losses or values, and derivatives to a report, without Flask."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from schemas.plan import FurtherPoints, JudgeReport, JudgeRequest
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from schemas.tensor import Encoding, Tensor
from service.checks.blackbox import parse
from service.checks.blackbox.derivatives import TensorEncoder, build_derivatives, check_derivative_bytes, choose_encoder
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.judge_fields import check_fields
from service.checks.blackbox.looks import Look, build_further_points, choose_look, list_looks, take_first_look
from service.checks.blackbox.losses import read_losses
from service.checks.blackbox.output_judgements import judge_products
from service.checks.blackbox.output_report import build_output_report
from service.checks.blackbox.plan_source import check_digest, read_plan
from service.checks.blackbox.products import check_jacobian_size, read_products, take_first_products
from service.checks.blackbox.report import build_derivative_report, build_judge_report, difference_loss
from service.checks.blackbox.values import count_points, read_values
from service.checks.common.candidate_precision import choose_precision
from service.checks.common.deadline import Clock, current_clock
from service.checks.common.limits import Limits
from service.numerics.blackbox import candidate_judge
from service.numerics.blackbox.candidate_judge import TensorJudgement
from service.numerics.blackbox.first_look import combine_looks, suffices
from service.numerics.blackbox.noise import LossNoise
from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.reference import Tolerance


def judge_losses(
    body: object,
    limits: Limits | None = None,
    *,
    encoding: Encoding | None = None,
    reserve_answer_bytes: Callable[[int], None] | None = None,
) -> JudgeReport | FurtherPoints:
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

    Returns
    -------
    dict
        The report; or the other points of the plan, if the first look at the function does not suffice for a pass.

    Raises
    ------
    InvalidRequestError
        All errors of the request.
    """
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    plan_field = parse.choose_plan_field(body)
    with clock.enforce_deadline(), clock.refuse_on_timeout("Plan fewer directions", plan_field):
        request, plan, look = _read_request(body, limits)
        form = encoding or request.encoding
        if request.include:
            check_jacobian_size(plan, limits, "include", plan.cotangents)
            size = check_derivative_bytes(plan, form, limits)
            if reserve_answer_bytes is not None:
                reserve_answer_bytes(size)
        encode = choose_encoder(form, defer=reserve_answer_bytes is not None)
        judge = _judge_outputs if plan.cotangents else _judge_loss
        report = judge(_JudgedRequest(request, plan, plan_field, look, limits, clock, encode))
        if report is not None:
            return report
        return build_further_points(plan, form, limits, reserve_answer_bytes, plan_field)


def validate_judge_request(body: object, limits: Limits) -> None:
    """Validate a request that is to be answered later; parameters and errors are those of `judge_losses`."""
    request, plan, _ = _read_request(body, limits)
    if request.candidate is not None and (errors := [*_find_candidate_errors(request.candidate, plan)]):
        raise InvalidRequestError(errors)


def _read_request(body: object, limits: Limits) -> tuple[JudgeRequest, EvaluationPlan, Look]:
    request = parse.parse_judge_request(body, limits)
    plan = read_plan(request, limits)
    check_fields(request, plan)
    look = _choose_look(request, plan)
    check_digest(request.digest, plan, look)
    return request, plan, look


@dataclass(frozen=True)
class _JudgedRequest:
    """A request with its plan, and the look at the function that it brings the values of."""

    request: JudgeRequest
    plan: EvaluationPlan
    plan_field: str
    look: Look
    limits: Limits
    clock: Clock
    encode: TensorEncoder

    @property
    def tolerance(self) -> Tolerance | None:
        """The tolerance of the client, if there is one."""
        spec = self.request.tolerance
        return None if spec is None else Tolerance(spec.rtol, spec.atol)


def _choose_look(request: JudgeRequest, plan: EvaluationPlan) -> Look:
    if not plan.cotangents:
        return choose_look(plan, len(request.losses or []), "losses")
    counted = count_points(request.values or {})
    if counted is None or not plan.has_first_look:
        # The errors of the values tell more than their number.
        return list_looks(plan)[0]
    return choose_look(plan, counted[0], "values", counted[1])


def _judge_outputs(judged: _JudgedRequest) -> JudgeReport | None:
    """Judge outputs; return None if a first look does not suffice."""
    with judged.clock.refuse_on_timeout("Plan fewer directions, or judge fewer outputs at once", judged.plan_field):
        return _judge_output_values(judged)


def _judge_output_values(judged: _JudgedRequest) -> JudgeReport | None:
    request, plan, look = judged.request, judged.plan, judged.look
    products = read_products(request, plan, judged.limits)
    shapes = {name: array.shape for name, array in plan.cotangents.items()}
    values = read_values(request.values or {}, plan.layout, shapes, look)
    first_plan = take_first_look(plan)
    # Overflow and NaN are findings here, as in a check.
    with judged.clock.name_stage("the products were being judged"), np.errstate(all="ignore"):
        first = judgements = None
        if look.kind != "all":
            first_products = take_first_products(products, plan, first_plan)
            first_values = {name: first_plan.layout.keep_taken(array) for name, array in values.items()}
            first = judge_products(request, first_plan, first_products, first_values, judged.tolerance)
        if look.kind != "first":
            judgements = judge_products(request, plan, products, values, judged.tolerance)
    if judgements is None:
        plan, judgements = first_plan, first
    assert judgements is not None
    is_enough = judgements.suffices(request.relative_error)
    if first is not None:
        judgements = judgements.combine_looks(first, request.relative_error)
    report = build_output_report(plan, judgements, request.relative_error, judged.encode)
    return _finish_report(report, look, is_enough=is_enough)


def _finish_report(report: JudgeReport, look: Look, *, is_enough: bool) -> JudgeReport | None:
    """Return the report with the number of evaluations; None if a first look does not suffice."""
    if look.kind == "first" and not (is_enough and report["outcome"] == "pass"):
        return None
    report["evaluations"] = len(look.evaluations)
    return report


def _judge_loss(judged: _JudgedRequest) -> JudgeReport | None:
    """Judge the gradient of a loss; return None if a first look does not suffice."""
    request, plan, look = judged.request, judged.plan, judged.look
    given = request.candidate
    if given is not None and (errors := [*_find_candidate_errors(given, plan)]):
        raise InvalidRequestError(errors)
    losses = read_losses(request.losses or [], plan.layout, look)
    if look.kind == "first":
        plan = take_first_look(plan)
    if given is None:
        with judged.clock.name_stage("the loss was being differenced"):
            return _finish_report(build_derivative_report(plan, losses, judged.encode), look, is_enough=False)
    with judged.clock.name_stage("the candidate was being judged"):
        noise, judgements = _judge_candidates(judged, plan, losses, given)
        is_enough = all(suffices(judgement, request.relative_error) for judgement in judgements.values())
        if look.kind != "all":
            first_plan = take_first_look(plan)
            # All losses would be another look: larger steps reach more kinks, and have wider bounds.
            _, first = _judge_candidates(judged, first_plan, first_plan.layout.keep_taken(losses), given)
            judgements = {
                name: combine_looks(judgement, first[name], request.relative_error)
                for name, judgement in judgements.items()
            }
        report = build_judge_report(plan.layout, losses, noise, judgements, request.relative_error)
        if request.include:
            report["derivatives"] = build_derivatives(plan, difference_loss(plan, losses)[0], judged.encode)
        return _finish_report(report, look, is_enough=is_enough)


def _judge_candidates(
    judged: _JudgedRequest, plan: EvaluationPlan, losses: Array, given: Mapping[str, Tensor]
) -> tuple[LossNoise, dict[str, TensorJudgement]]:
    precisions = {
        name: choose_precision(tensor, judged.request.candidate_dtype, PRECISIONS[plan.datatypes[name].name])
        for name, tensor in given.items()
    }
    candidates = {name: tensor.array for name, tensor in given.items()}
    return candidate_judge.judge_candidates(
        plan.layout, losses, candidates, precisions, judged.request.relative_error, judged.tolerance
    )


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
