"""The verdict on each name, with the rounding allowance of each arithmetic worked out once."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from schemas.datatype import BY_ANY_NAME, Array
from service.checking.question import Problem
from service.numerics import verdict
from service.numerics.gradients import analytic, autograd
from service.numerics.gradients.analytic import Analytic
from service.numerics.gradients.autograd import Autograd
from service.numerics.gradients.finite_difference import Difference
from service.numerics.graph import Values
from service.numerics.outcome import Outcome
from service.numerics.precision import PRECISIONS, Precision
from service.numerics.rounding import allowances
from service.numerics.verdict import Reference, Verdict


@dataclass(frozen=True)
class Routes:
    """The gradients by all routes."""

    analytic: Analytic
    autograd: Autograd
    differences: Mapping[str, Difference]


class Judge:
    """Judges the names of one problem."""

    def __init__(self, problem: Problem, routes: Routes) -> None:
        self._problem = problem
        self._routes = routes
        self._allowances: dict[str, Values] = {}
        tolerance = problem.request.tolerance
        self._tolerance = None if tolerance is None else verdict.Tolerance(tolerance.rtol, tolerance.atol)

    def precision(self, name: str) -> Precision:
        """Return the arithmetic in which the judged gradient was computed."""
        tensor = self._problem.candidate.get(name)
        if tensor is None:
            return self._problem.dtype.precision
        declared = self._problem.request.candidate_dtype
        if declared is not None:
            return PRECISIONS[declared] if declared in PRECISIONS else PRECISIONS[BY_ANY_NAME[declared].name]
        return self._problem.dtype.precision if tensor.datatype is None else PRECISIONS[tensor.datatype.name]

    def comparable(self, name: str) -> bool:
        """Whether there is a candidate, of the right shape."""
        tensor = self._problem.candidate.get(name)
        return tensor is not None and tensor.array.shape == self._problem.graph.shapes[name]

    def of(self, name: str) -> Verdict:
        """Judge the candidate, or where there is none both of our routes."""
        own = self._reference(name, self._problem.dtype.precision)
        candidate = self._problem.candidate.get(name)
        by_hand, by_torch = self._routes.analytic.gradients[name], self._routes.autograd.gradients[name]
        if candidate is None:
            reference = dataclasses.replace(own, tolerance=self._tolerance, out_of_range=self._out_of_range(name))
            return verdict.judge({"analytic": by_hand, "autograd": by_torch}, reference, self._problem.examined(name))
        if not self.comparable(name):
            return verdict.of_another_shape(candidate.array.shape, self._problem.graph.shapes[name])
        apart = np.abs(by_hand.astype(np.float64) - by_torch) > 2 * own.rounding
        disputed = verdict.failing(by_hand, own) | verdict.failing(by_torch, own) | (apart & ~own.kinks)
        reference = dataclasses.replace(
            self._reference(name, self.precision(name)), disputed=disputed, tolerance=self._tolerance
        )
        found = verdict.judge({"candidate": candidate.array}, reference, self._problem.examined(name))
        return self._with_hint(found, name, candidate.array, reference)

    def _with_hint(self, found: Verdict, name: str, candidate: Array, reference: Reference) -> Verdict:
        """Say so where a lower precision would explain the failure."""
        lower = reference.precision.lower
        if found.outcome != Outcome.FAIL or lower is None or reference.tolerance is not None:
            return found
        at_lower = self._reference(name, PRECISIONS[lower])
        fails = verdict.failing(candidate.astype(np.float64), at_lower).ravel()
        examined = self._problem.examined(name)
        if (fails if examined is None else fails[examined]).any():
            return found
        hint = f'It would not fail as {lower}: if it was computed so, give "candidate_dtype": "{lower}".'
        return dataclasses.replace(found, reason=f"{found.reason} {hint}")

    def _reference(self, name: str, precision: Precision) -> Reference:
        difference = self._routes.differences[name]
        rounding = self._rounding(name, precision)
        return Reference(
            difference.value,
            difference.error_bound,
            rounding,
            precision,
            left=difference.left,
            right=difference.right,
            conventions=(self._routes.analytic.gradients[name], self._routes.autograd.gradients[name]),
            others=self._sizes(name),
            exact_to=difference.rounding,
        )

    def _out_of_range(self, name: str) -> Array | None:
        """Where one of our routes is not finite, though in float64, at the same point, all that are not so are right.

        Then its backward pass is right too, and only the range of the dtype is at fault: that is no wrong gradient.
        """
        routes = (self._routes.analytic.gradients[name], self._routes.autograd.gradients[name])
        lost = [~np.isfinite(each) for each in routes]
        if self._problem.dtype.precision.name == "FP64" or not np.any(lost):
            return None
        wide = self._in_float64
        reference = self._reference(name, PRECISIONS["FP64"])
        right = [~verdict.failing(each.gradients[name], reference) for each in wide]
        return np.any(lost, axis=0) & np.all([~gone | each for gone, each in zip(lost, right, strict=True)], axis=0)

    @cached_property
    def _in_float64(self) -> tuple[Analytic, Autograd]:
        """Both our routes again, at the point that was rounded to the dtype."""
        problem = self._problem
        return (
            analytic.differentiate(problem.graph, problem.wide),
            autograd.differentiate(problem.graph, problem.wide, problem.names),
        )

    def _sizes(self, name: str) -> Array:
        """Sizes of a gradient by our own routes, 0 where their rounding alone may have made them."""
        own = self._rounding(name, self._problem.dtype.precision)
        routes = (self._routes.analytic.gradients[name], self._routes.autograd.gradients[name])
        sizes = np.min([np.abs(each.astype(np.float64)) for each in routes], axis=0)
        return np.where(np.isfinite(sizes) & (sizes > own), sizes, 0)

    def _rounding(self, name: str, precision: Precision) -> Array:
        if precision.name not in self._allowances:
            self._allowances[precision.name] = allowances(
                self._problem.graph, self._problem.wide, precision, self._problem.request.seed, self._problem.names
            )
        return self._allowances[precision.name][name]
