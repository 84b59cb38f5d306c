"""Fields of a request for a judgement that belong to its plan: those of a loss, or those of a function with outputs."""

from collections.abc import Iterator

from schemas.plan import JudgeRequest
from schemas.problem_details import InvalidRequestError, PlacedError, error_at
from service.checks.blackbox.evaluation_plan import EvaluationPlan

_OUTPUT_FIELDS = ("values", "vjp", "jvp", "jacobian")
_LOSS_FIELDS = ("losses", "candidate")
_NOTHING_TO_JUDGE = 'or have `include: ["derivatives"]` for the numerical derivative alone'


def check_fields(request: JudgeRequest, plan: EvaluationPlan) -> None:
    """Refuse fields that do not belong to the plan, and a request without those that do.

    Parameters
    ----------
    request
        Request of valid form.
    plan
        Its plan.

    Raises
    ------
    InvalidRequestError
        All such fields.
    """
    errors = [*(_find_output_errors(request) if plan.cotangents else _find_loss_errors(request))]
    if request.include and plan.random:
        detail = 'derivatives take a plan with directions of kind "coordinates"; this one has random directions'
        errors.append(error_at(detail, "include"))
    if errors:
        raise InvalidRequestError(errors)


def _find_loss_errors(request: JudgeRequest) -> Iterator[PlacedError]:
    for name in _OUTPUT_FIELDS:
        if getattr(request, name) is not None:
            yield error_at("belongs to a plan with outputs; this one is of a loss: give losses and candidate", name)
    if request.losses is None:
        yield error_at("is missing: the plan is of a loss, whose value at each point is needed", "losses")
    if request.candidate is None and not request.include:
        yield error_at(f"is missing: give your gradient, {_NOTHING_TO_JUDGE}", "candidate")


def _find_output_errors(request: JudgeRequest) -> Iterator[PlacedError]:
    for name in _LOSS_FIELDS:
        if getattr(request, name) is not None:
            yield error_at(
                "belongs to a plan of a loss; this one has outputs: give values, and vjp, jvp or jacobian", name
            )
    if request.values is None:
        yield error_at("is missing: the plan has outputs, whose values at each point are needed", "values")
    if not (request.vjp or request.jvp or request.jacobian or request.include):
        detail = f"is missing: give vjp, jvp or jacobian, {_NOTHING_TO_JUDGE}"
        yield error_at(detail, "vjp")
