"""What a check would take, estimated before anything is computed."""

from typing import NamedTuple

from service.checking.answering import size_of
from service.checking.question import Limits, Problem
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import Plan
from service.numerics.graph import Graph
from service.numerics.ops.op import CALL
from service.numerics.rounding import SWEEPS
from service.numerics.tiles import size

_NUMBER = 8
_SWEPT = 2 * (SWEEPS + 1)
"""Arrays for each value while the rounding of a correct gradient is found: a pass there and a pass back."""
_ROUTES = 4
"""Arrays for each value that the two other routes hold: values and gradients."""
_JUDGED = 30
"""Numbers for each element of one tensor while it is judged and measured."""
_SWEPT_PASSES = 6
"""Passes, in multiply-adds of a forward one, of the rounding model: there and back, and their sizes both ways."""
_ASIDE = 16
"""Passes of all but the finite differences, each of which takes the calls of a forward pass."""
_FOUND = 8
"""Numbers for each element that is differenced: value, bound and step, to the sides too, and what is allowed."""
_SERIALISED = 3
"""Times the largest tensor of an answer is there while it is written, beside the answer itself."""
_ANYWAY = 2**24
"""Bytes that a check of the smallest model takes."""


class Estimate(NamedTuple):
    """What a check would take: evaluations of the loss and operations at least, bytes at most.

    Of the operations `rung` are those of the first rung of differences, which is all that is sure to be taken.
    Evaluations are None where there is no plan: it alone would take too much, or directions too many to be held.
    """

    evaluations: int | None
    work: int
    bytes: int
    rung: int = 0

    def over(self, limits: Limits) -> str | None:
        """What of it is over a limit, with the limit; None if nothing is."""
        counted = "" if self.evaluations is None else f" ({self.evaluations} evaluations of the loss)"
        if self.work > limits.work:
            return f"{figure(self.work)} operations{counted}; the limit is {figure(limits.work)}"
        if self.bytes > limits.bytes:
            return f"{figure(self.bytes)} bytes of memory{counted}; the limit is {figure(limits.bytes)}"
        return None


def estimated(problem: Problem, limits: Limits) -> tuple[Plan | None, Estimate]:
    """Estimate a check, and return the plan that the estimate is of, if there is one."""
    before = needs_of_planning(problem)
    foreseen = Estimate(None, work_aside(problem) + before.work, bytes_of(problem, before.bytes))
    many = problem.projections is not None and foreseen.bytes > limits.bytes
    if many or foreseen.work > limits.work or before.bytes > limits.bytes:
        return None, foreseen
    plan = _plan(problem)
    needs = finite_difference.needs_of(plan)
    most = max(foreseen.bytes, bytes_of(problem, needs.bytes))
    return plan, Estimate(plan.evaluations, foreseen.work + needs.work, most, needs.work)


def elements_of(problem: Problem) -> int:
    """Elements of all tensors and nodes together."""
    return problem.graph.cost().elements + sum(leaf.size for leaf in problem.leaves.values())


def work_aside(problem: Problem) -> int:
    """Operations of all but the finite differences: the passes of the rounding model, and the routes beside them."""
    return aside(problem.graph)


def aside(graph: Graph) -> int:
    """Operations of the same, of a graph."""
    cost = graph.cost()
    return _SWEPT_PASSES * (SWEEPS + 1) * cost.work + _ASIDE * CALL * cost.calls


def bytes_of(problem: Problem, differences: int) -> int:
    """Bytes at most, given those that the differences take, which are free again when the verdicts are found."""
    graph, elements = problem.graph, elements_of(problem)
    asked = [size(graph.shapes[name]) for name in problem.names]
    # Directions are drawn before all else.
    held = _ROUTES * elements + _FOUND * sum(asked) + (problem.projections or 0) * sum(asked)
    scratch = (SWEEPS + 1) * max(node.op.scratch * graph.cost([node]).elements for node in graph.nodes)
    judging = _NUMBER * (_SWEPT * elements + _JUDGED * max(asked))
    answer = size_of(problem, problem.request.encoding)
    writing = answer.written + answer.objects + _SERIALISED * answer.largest
    return _ANYWAY + _NUMBER * (held + scratch) + answer.objects + max(differences, judging, writing)


def needs_of_planning(problem: Problem) -> finite_difference.Needs:
    """What it takes to plan the differences."""
    return finite_difference.needs_of_planning(problem.graph, problem.names, direct=problem.projections is not None)


def _plan(problem: Problem) -> Plan:
    graph, leaves, names = problem.graph, problem.wide, problem.names
    if problem.projections is not None:
        return finite_difference.planned_along(graph, leaves, names, problem.projections, problem.method)
    return finite_difference.planned(graph, leaves, names, problem.method, problem.sampled)


def figure(number: float) -> str:
    """Write a number of an estimate, of which no more than two digits are meant."""
    return f"{number:.1e}"
