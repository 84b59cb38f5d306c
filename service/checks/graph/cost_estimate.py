"""The cost of a check, estimated before anything is computed."""

from typing import NamedTuple

from service.checks.common.limits import Limits
from service.checks.graph.answer_size import estimate_answer_size
from service.checks.graph.problem import Problem
from service.numerics.core.batching import count_elements
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import DifferencePlan
from service.numerics.model.graph import Graph
from service.numerics.model.monte_carlo import ROUNDING_SWEEPS
from service.numerics.ops.op import WORK_PER_CALL

_BYTES_PER_NUMBER = 8
_ROUNDING_ARRAYS_PER_VALUE = 2 * (ROUNDING_SWEEPS + 1)
"""Arrays for each value in the rounding model: a forward and a backward pass."""
_ROUTE_ARRAYS_PER_VALUE = 4
"""Arrays for each value that the two other routes hold: values and gradients."""
_NUMBERS_PER_JUDGED_ELEMENT = 30
"""Numbers for each element of one tensor while it is judged and measured."""
_NUMBERS_PER_REPEATED_ELEMENT = 4
"""Numbers for each element of all runs of a candidate while they are compared."""
_ROUNDING_PASSES = 6
"""Passes, in multiply-adds of a forward one, of the rounding model: there and back, and their sizes both ways."""
_OTHER_PASSES = 16
"""Passes of all but the finite differences, each of which takes the calls of a forward pass."""
_NUMBERS_PER_DIFFERENCE = 8
"""Numbers for each differenced element: value, bound and step, also for each side, and the allowance."""
_SERIALIZATION_COPIES = 3
"""Copies of the largest tensor of an answer in memory while it is written, beside the answer itself."""
_BASE_BYTES = 2**24
"""Bytes that a check of the smallest model takes."""


_SPARE_LEVELS = 10
"""Levels that a choice leaves room for: a check may need more than one, and operations are not time."""
_JOINT_PASSES = finite_difference.EVALUATIONS_PER_STEP + 12
"""Passes of a joint direction in units of a forward one: evaluations, a backward pass, and those of the noise."""


class JointPlan(NamedTuple):
    """The plan of a check along joint directions: evaluations and operations, if these decide."""

    first_level_evaluations: int
    first_level_work: int


CheckPlan = DifferencePlan | JointPlan


class CostEstimate(NamedTuple):
    """Cost of a check: evaluations and operations at least, bytes at most.

    The operations count the first level of differences, which is all that every check takes. Evaluations are None
    without a plan: the plan alone would exceed a limit, or the directions are too many to hold.
    """

    evaluations: int | None
    work: int
    bytes: int
    first_level_work: int = 0

    def describe_excess(self, limits: Limits) -> str | None:
        """Describe the part of the cost that exceeds a limit; return None if none does."""
        note = "" if self.evaluations is None else f" ({self.evaluations} evaluations of the loss)"
        if self.work > limits.work:
            return f"{format_estimate(self.work)} operations{note}; the limit is {format_estimate(limits.work)}"
        if self.bytes > limits.bytes:
            return f"{format_estimate(self.bytes)} bytes of memory{note}; the limit is {format_estimate(limits.bytes)}"
        return None

    def fits_with_room(self, problem: Problem, limits: Limits) -> bool:
        """Return whether the check fits with room for the further levels that it may need."""
        levels = finite_difference.MAX_STEPS if problem.is_joint else _SPARE_LEVELS
        with_room = self._replace(work=self.work + (levels - 1) * self.first_level_work)
        return with_room.describe_excess(limits) is None


def estimate_check(problem: Problem, limits: Limits) -> tuple[CheckPlan | None, CostEstimate]:
    """Estimate a check, and return the plan that the estimate is of, if there is one."""
    if problem.is_joint:
        return _estimate_joint_check(problem, limits)
    planning_cost = estimate_planning_cost(problem)
    estimate = CostEstimate(
        None, estimate_other_work(problem) + planning_cost.work, estimate_bytes(problem, planning_cost.memory_bytes)
    )
    exceeds_memory = problem.projection_count is not None and estimate.bytes > limits.bytes
    if exceeds_memory or estimate.work > limits.work or planning_cost.memory_bytes > limits.bytes:
        return None, estimate
    plan = _plan_differences(problem)
    needs = finite_difference.estimate_cost(plan)
    largest_bytes = max(estimate.bytes, estimate_bytes(problem, needs.memory_bytes))
    return plan, CostEstimate(plan.first_level_evaluations, estimate.work + needs.work, largest_bytes, needs.work)


def _estimate_joint_check(problem: Problem, limits: Limits) -> tuple[JointPlan | None, CostEstimate]:
    """Estimate a check along joint directions that decide every tensor.

    A direction holds no more than the rounding model, which is counted.
    """
    count, cost = problem.projection_count or 0, problem.graph.estimate_cost()
    work = count * _JOINT_PASSES * cost.total_work
    plan = JointPlan(count * finite_difference.EVALUATIONS_PER_STEP, work)
    estimate = CostEstimate(None, estimate_other_work(problem) + work, estimate_bytes(problem, 0), work)
    if estimate.bytes > limits.bytes:
        return None, estimate
    return plan, estimate._replace(evaluations=plan.first_level_evaluations)


_RECIPE_FACTOR = 2
"""Work of the rounding model with casts, in units of that without: twice the rounds of sweeps."""


def count_model_elements(problem: Problem) -> int:
    """Return the number of elements of all tensors and nodes together."""
    return problem.graph.estimate_cost().largest_array + sum(leaf.size for leaf in problem.leaves.values())


def estimate_other_work(problem: Problem) -> int:
    """Return the operations of the rounding model and of the gradient sources."""
    return estimate_other_graph_work(problem.graph) * (_RECIPE_FACTOR if problem.has_casts else 1)


def estimate_other_graph_work(graph: Graph) -> int:
    """Return the operations of a graph beside its finite differences."""
    cost = graph.estimate_cost()
    return _ROUNDING_PASSES * (ROUNDING_SWEEPS + 1) * cost.work + _OTHER_PASSES * WORK_PER_CALL * cost.calls


def estimate_bytes(problem: Problem, differences: int) -> int:
    """Return the bytes of a check, at most, given those of the differences."""
    graph, elements = problem.graph, count_model_elements(problem)
    element_counts = [count_elements(graph.shapes[name]) for name in problem.names]
    # Directions are drawn before all else.
    kept_numbers = (
        _ROUTE_ARRAYS_PER_VALUE * elements
        + _NUMBERS_PER_DIFFERENCE * sum(element_counts)
        + (problem.projection_count or 0) * sum(element_counts)
        + _NUMBERS_PER_REPEATED_ELEMENT * problem.repeated_element_count
    )
    scratch = (ROUNDING_SWEEPS + 1) * max(
        (
            node.op.scratch_arrays * graph.estimate_cost([node]).largest_array
            for node in graph.nodes
            if node.op.scratch_arrays
        ),
        default=0,
    )
    judging_bytes = _BYTES_PER_NUMBER * (
        _ROUNDING_ARRAYS_PER_VALUE * elements + _NUMBERS_PER_JUDGED_ELEMENT * max(element_counts)
    )
    answer = estimate_answer_size(problem, problem.request.encoding)
    writing_bytes = answer.written_bytes + answer.object_bytes + _SERIALIZATION_COPIES * answer.largest_tensor_bytes
    return (
        _BASE_BYTES
        + _BYTES_PER_NUMBER * (kept_numbers + scratch)
        + answer.object_bytes
        + max(differences, judging_bytes, writing_bytes)
    )


def estimate_planning_cost(problem: Problem) -> finite_difference.DifferenceCost:
    """Return the cost of planning the differences."""
    return finite_difference.estimate_planning_cost(
        problem.graph, problem.names, direct=problem.projection_count is not None
    )


def _plan_differences(problem: Problem) -> DifferencePlan:
    graph, leaves, names = problem.graph, problem.float64_leaves, problem.names
    if problem.projection_count is not None:
        return finite_difference.plan_directional_differences(
            graph, leaves, names, problem.projection_count, problem.method
        )
    return finite_difference.plan_differences(graph, leaves, names, problem.method, problem.sampled_elements)


def format_estimate(number: float) -> str:
    """Write a number of an estimate, of which no more than two digits are meant."""
    return f"{number:.1e}"
