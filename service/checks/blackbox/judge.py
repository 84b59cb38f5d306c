"""`POST /v1/judge`: from a plan, losses and a candidate to a report, without Flask."""

from collections.abc import Iterator, Mapping

from schemas.plan import JudgeReport, JudgeRequest
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from schemas.tensor import Tensor
from service.checks.blackbox import parse
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.judge_fields import check_fields
from service.checks.blackbox.losses import read_losses
from service.checks.blackbox.plan_codec import decode_plan
from service.checks.blackbox.plan_size import BINARY_SIZE_FACTOR
from service.checks.blackbox.products import read_products
from service.checks.blackbox.report import build_judge_report
from service.checks.blackbox.values import read_values
from service.checks.common.deadline import Clock, current_clock
from service.checks.common.limits import Limits
from service.checks.graph.problem import choose_precision
from service.numerics.blackbox import candidate_judge
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.reference import Tolerance


def judge_losses(body: object, limits: Limits | None = None) -> JudgeReport:
    """Judge a candidate by the losses at the points of a plan.

    Parameters
    ----------
    body
        Request, as parsed from JSON.
    limits
        Limits of the request; the default limits if left out.

    Raises
    ------
    InvalidRequestError
        All errors of the request.
    """
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline(), clock.refuse_on_timeout("Plan fewer directions", "plan"):
        return _judge_request(body, limits, clock)


def _judge_request(body: object, limits: Limits, clock: Clock) -> JudgeReport:
    request = parse.parse_judge_request(body, limits)
    plan = decode_plan(request.plan, limits, BINARY_SIZE_FACTOR)
    check_fields(request, plan)
    if plan.cotangents:
        return _judge_outputs(request, plan, limits, clock)
    return _judge_candidate(request, plan, clock)


def _judge_outputs(request: JudgeRequest, plan: EvaluationPlan, limits: Limits, clock: Clock) -> JudgeReport:
    shapes = {name: array.shape for name, array in plan.cotangents.items()}
    read_products(request, plan, limits)
    values = read_values(request.values or {}, plan.layout, shapes)
    raise NotImplementedError(values, clock)


def _judge_candidate(request: JudgeRequest, plan: EvaluationPlan, clock: Clock) -> JudgeReport:
    given = request.candidate or {}
    if errors := [*_find_candidate_errors(given, plan)]:
        raise InvalidRequestError(errors)
    losses = read_losses(request.losses or [], plan.layout)
    candidates = {name: tensor.array for name, tensor in given.items()}
    precisions = {
        name: choose_precision(tensor, request.candidate_dtype, PRECISIONS[plan.datatypes[name].name])
        for name, tensor in given.items()
    }
    tolerance_request = request.tolerance
    tolerance = None if tolerance_request is None else Tolerance(tolerance_request.rtol, tolerance_request.atol)
    with clock.name_stage("the candidate was being judged"):
        noise, judgements = candidate_judge.judge_candidates(
            plan.layout, losses, candidates, precisions, request.relative_error, tolerance
        )
    return build_judge_report(plan.layout, losses, noise, judgements, request.relative_error)


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
