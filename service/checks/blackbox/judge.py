"""`POST /v1/judge`: plan, losses and candidate to a report. Knows no Flask."""

from collections.abc import Iterator, Mapping

from schemas.plan import JudgeReport
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from schemas.tensor import Tensor
from service.checks.blackbox import parse
from service.checks.blackbox.evaluation_plan import BINARY_SIZE_FACTOR, EvaluationPlan
from service.checks.blackbox.losses import read_losses
from service.checks.blackbox.plan_codec import decode_plan
from service.checks.blackbox.report import build_judge_report
from service.checks.common.deadline import Clock, current_clock
from service.checks.common.limits import Limits
from service.checks.graph.problem import choose_precision
from service.numerics.blackbox import candidate_judge
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.reference import Tolerance


def judge_losses(body: object, limits: Limits | None = None) -> JudgeReport:
    """Answer a request.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        What it may take.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it.
    """
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline(), clock.refuse_on_timeout("Plan fewer directions", "plan"):
        return _judge_request(body, limits, clock)


def _judge_request(body: object, limits: Limits, clock: Clock) -> JudgeReport:
    request = parse.parse_judge_request(body, limits)
    found = decode_plan(request.plan, limits, BINARY_SIZE_FACTOR)
    if errors := [*_find_candidate_errors(request.candidate, found)]:
        raise InvalidRequestError(errors)
    losses = read_losses(request.losses, found.layout)
    candidates = {name: each.array for name, each in request.candidate.items()}
    precisions = {
        name: choose_precision(each, request.candidate_dtype, PRECISIONS[found.datatypes[name].name])
        for name, each in request.candidate.items()
    }
    given = request.tolerance
    tolerance = None if given is None else Tolerance(given.rtol, given.atol)
    with clock.name_stage("the candidate was being judged"):
        noise, judged = candidate_judge.judge_candidates(
            found.layout, losses, candidates, precisions, request.relative_error, tolerance
        )
    return build_judge_report(found.layout, losses, noise, judged, request.relative_error)


def _find_candidate_errors(candidate: Mapping[str, Tensor], evaluation_plan: EvaluationPlan) -> Iterator[PlacedError]:
    points = evaluation_plan.layout.points
    for name in points.keys() - candidate.keys():
        yield error_at("is missing: the plan moves this tensor too", "candidate", name)
    for name, tensor in candidate.items():
        if name not in points:
            others = ", ".join(map(quote_name, list(points)[:20]))
            yield error_at(f"there is no tensor {quote_name(name)} in the plan; there are: {others}", "candidate", name)
        elif tensor.datatype is not None and tensor.datatype.kind != "float":
            yield error_at(f"a gradient is of floats; datatype {tensor.datatype.name} was given", "candidate", name)
        elif tensor.array.shape != points[name].values.shape:
            shapes = f"{list(tensor.array.shape)}; the point has {list(points[name].values.shape)}"
            yield error_at(f"its shape is {shapes}", "candidate", name)
