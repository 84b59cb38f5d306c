"""The limits of a request, enforced before anything is computed."""

from schemas.problem_details import InvalidRequestError, error_at
from service.checks.common.deadline import SMALLER_MODEL_REMEDY
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.cost_estimate import (
    CheckPlan,
    count_model_elements,
    estimate_bytes,
    estimate_check,
    estimate_other_work,
    format_estimate,
)
from service.checks.graph.problem import ParsedCheckRequest, Problem
from service.checks.graph.suggestions import locate_size_field, suggest_reductions
from service.numerics.core.bounded_cache import BoundedCache
from service.numerics.model.graph import InvalidModelError, ModelError

_MAX_KEPT_PLANS, _MAX_KEPT_NODES = 8, 512
_JOINT_PLANS: BoundedCache[CheckPlan] = BoundedCache(_MAX_KEPT_PLANS)


def plan_within_limits(problem: Problem, limits: Limits) -> CheckPlan:
    """Plan the differences of a check, and refuse one that exceeds a limit.

    The plan of joint directions is two numbers, and kept: it takes longer to find out again that the check fits.
    """
    if not problem.is_joint or len(problem.graph.nodes) > _MAX_KEPT_NODES:
        return _plan_within_limits(problem, limits)
    request = problem.request
    candidates = tuple((name, tensor.array.shape) for name, tensor in problem.candidate.items())
    shown = tuple(request.include), request.encoding, candidates
    judged = problem.has_casts, problem.repeated_element_count
    key = problem.graph, problem.dtype.name, problem.names, problem.projection_count, shown, judged, limits
    return _JOINT_PLANS.get_or_make(key, lambda: _plan_within_limits(problem, limits))


def _plan_within_limits(problem: Problem, limits: Limits) -> CheckPlan:
    check_model_size(problem, limits)
    check_longest_call(problem, limits)
    plan, estimate = estimate_check(problem, limits)
    excess = estimate.describe_excess(limits)
    if excess is not None or plan is None:
        detail = f"the check would take about {excess}. {suggest_reductions(problem, limits)}"
        raise InvalidRequestError([error_at(detail, *locate_size_field(problem))], "over-budget")
    return plan


def check_tensor_sizes(request: ParsedCheckRequest, limits: Limits) -> None:
    """Refuse tensors, or a candidate, that are too large, before widening them.

    Refuse tensors of too many dimensions too.
    """
    tensors, candidate, repeats = (
        sum(tensor.array.size for tensor in tensors.values())
        for tensors in (request.tensors | request.weights, request.candidate or {}, request.repeats or {})
    )
    for elements, field in ((tensors, "model"), (candidate, "candidate"), (repeats, "repeats")):
        if elements > limits.elements:
            detail = f"the {field} would hold {elements} elements or more at once; the limit is {limits.elements}"
            raise InvalidRequestError([error_at(detail, field)], "over-budget")
    _check_dimensions(request, limits)


def _check_dimensions(request: ParsedCheckRequest, limits: Limits) -> None:
    sections = {"tensors": request.tensors, "weights": request.weights, "candidate": request.candidate or {}}
    if errors := [
        error_at(f"{tensor.array.ndim} dimensions; at most {limits.dimensions} are taken", section, name)
        for section, tensors in sections.items()
        for name, tensor in tensors.items()
        if tensor.array.ndim > limits.dimensions
    ]:
        raise InvalidRequestError(errors, "over-budget")


def check_model_size(problem: Problem, limits: Limits) -> None:
    """Refuse a model that is too large, or a node of too many dimensions."""
    graph, shapes = problem.graph, problem.graph.all_shapes
    if errors := [
        ModelError(
            f"its result would have {len(shapes[node.name])} dimensions; at most {limits.dimensions} are taken",
            graph.find_position(node.name),
        )
        for node in graph.nodes
        if len(shapes[node.name]) > limits.dimensions
    ]:
        raise model_language.to_request_error(InvalidModelError(errors), problem.request)
    # The cost of some ops is that of tables as long as their output, so that the nodes are counted first.
    elements, words = graph.count_node_elements(), "elements or more"
    if elements <= limits.elements:
        elements, words = count_model_elements(problem), "elements"
    if elements > limits.elements:
        detail = f"the model would hold {elements} {words} at once; the limit is {limits.elements}"
        raise InvalidRequestError([error_at(detail, "model")], "over-budget")


_MIN_CALL_WORK = 5 * 10**8
"""Multiply-adds of one call that are taken however short the time is: some tenths of a second."""
_CALL_WORK_PER_SECOND = 25 * 10**7
"""Multiply-adds of one call for each second of the limit: about a quarter of the time on a machine of its own."""


def check_longest_call(problem: Problem, limits: Limits) -> None:
    """Refuse a model with too long a call of PyTorch: nothing interrupts one."""
    longest, node = problem.graph.estimate_longest_call_work()
    max_work = max(_MIN_CALL_WORK, int(_CALL_WORK_PER_SECOND * limits.seconds))
    if longest > max_work:
        detail = (
            f"PyTorch would take about {format_estimate(longest)} operations for it in one call, which nothing can "
            f"interrupt; the limit is {format_estimate(max_work)}. {SMALLER_MODEL_REMEDY}"
        )
        error = ModelError(detail, problem.graph.find_position(node.name))
        errors = model_language.to_request_error(InvalidModelError([error]), problem.request).errors
        raise InvalidRequestError(errors, "over-budget")


def check_memory(problem: Problem, limits: Limits, difference_bytes: int, kind: str, remedy: str, *path: str) -> None:
    """Refuse a check whose differences, or other parts, take too much memory."""
    count = estimate_bytes(problem, difference_bytes)
    if count > limits.bytes:
        limit = format_estimate(limits.bytes)
        detail = f"the {kind} would take about {format_estimate(count)} bytes; the limit is {limit}. {remedy}"
        raise InvalidRequestError([error_at(detail, *path)], "over-budget")


def check_work(problem: Problem, limits: Limits, difference_work: int, kind: str, remedy: str, *path: str) -> None:
    """Refuse a check whose differences, or other parts, take too many operations."""
    work = estimate_other_work(problem) + difference_work
    if work > limits.work:
        limit = format_estimate(limits.work)
        detail = f"the {kind} would take about {format_estimate(work)} operations; the limit is {limit}. {remedy}"
        raise InvalidRequestError([error_at(detail, *path)], "over-budget")
