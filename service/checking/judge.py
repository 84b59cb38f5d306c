"""The verdict on each name, with the rounding allowance of each arithmetic worked out once."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from schemas.datatype import Array
from schemas.problem import shown
from schemas.tensor import spelled
from service.checking.question import Problem
from service.numerics import directions, not_finite, projection, verdict
from service.numerics.dispute import Dispute, Side
from service.numerics.gradients import analytic, autograd
from service.numerics.gradients.analytic import Analytic
from service.numerics.gradients.autograd import Autograd
from service.numerics.gradients.finite_difference import Difference
from service.numerics.graph import Values
from service.numerics.not_finite import Beginning
from service.numerics.outcome import Outcome
from service.numerics.precision import PRECISIONS, Precision
from service.numerics.reference import Reference, Tolerance, sizes_of
from service.numerics.rounding import allowances
from service.numerics.tiles import size
from service.numerics.verdict import Verdict


@dataclass(frozen=True)
class Projected:
    """Random directions of a tensor, (k, ...), and the differences of the loss along them, (k,)."""

    directions: Array
    difference: Difference

    def of(self, gradient: Array) -> Array:
        """Inner products of a gradient with the directions, (k,)."""
        return projection.inner(self.directions, gradient)[0]

    def rounding(self, rounding: Array, gradients: Iterable[Array]) -> Array:
        """What a correct gradient may be off by along each direction, (k,), given what its elements may be.

        And what its inner products may be off by: those of the gradients of our own, one of which is like it.
        """
        off = [projection.inner(self.directions, each)[1] for each in gradients if np.isfinite(each).all()]
        return projection.allowance(self.directions, rounding) + np.max(off, axis=0, initial=0)


@dataclass(frozen=True)
class Routes:
    """The gradients by all routes; where tensors were moved along directions, of the differences what there is then."""

    analytic: Analytic
    autograd: Autograd
    differences: Mapping[str, Difference]
    along: Mapping[str, Projected] = field(default_factory=dict[str, Projected])

    def own(self, name: str) -> tuple[Array, Array]:
        """The two gradients that are not differences, of a tensor's shape."""
        return self.analytic.gradients[name], self.autograd.gradients[name]

    @property
    def evaluations(self) -> int:
        """Evaluations of the loss that the differences took."""
        return sum(each.evaluations for each in self.differences.values())


class Judge:
    """Judges the names of one problem."""

    def __init__(self, problem: Problem, routes: Routes) -> None:
        self.problem = problem
        self._routes = routes
        self._allowances: dict[str, Values] = {}
        self._disputes: dict[str, Dispute] = {}
        tolerance = problem.request.tolerance
        self._tolerance = None if tolerance is None else Tolerance(tolerance.rtol, tolerance.atol)

    def with_candidate(self, candidate: Mapping[str, Array], datatype: str | None = None) -> "Judge":
        """Return the judge of other gradients, of whatever shape; what is known of our own routes is kept."""
        other = Judge(self.problem.with_candidate(candidate, datatype), self._routes)
        other._allowances, other._disputes = self._allowances, self._disputes
        return other

    def comparable(self, name: str) -> bool:
        """Whether there is a candidate, of the right shape."""
        tensor = self.problem.candidate.get(name)
        return tensor is not None and tensor.array.shape == self.problem.graph.shapes[name]

    def wrong(self, name: str) -> Array:
        """Which elements of a candidate of the right shape are wrong by our own routes, where all of these agree.

        Along directions nothing is known of single elements: there the analytic gradient stands for the difference.
        """
        candidate = self.problem.candidate[name].array.astype(np.float64)
        if name not in self._routes.along:
            return verdict.failing(candidate, self._reference(name, self.problem.precision(name)))
        by_hand, by_torch = (each.astype(np.float64) for each in self._routes.own(name))
        return ~(np.abs(candidate - by_hand) <= 2 * np.abs(by_hand - by_torch))

    def dispute(self, name: str) -> tuple[Side, ...]:
        """Which of the routes agree where they disagree among themselves; nothing where all agree.

        Where only the range of the dtype keeps one of them from a number they do not.
        """
        own = self._dispute(name)
        sides = own.sides(self.problem.examined(name))
        return () if not sides or self._out_of_range(name) is not None else sides

    def of(self, name: str) -> Verdict:
        """Judge the candidate, or where there is none both of our routes; say where what is not finite begins."""
        found = self._of(name)
        if found.outcome == Outcome.PASS:
            return found
        values, gradients = self._routes.analytic.values, self._routes.analytic.gradients
        begins = not_finite.found(self.problem.graph, values, gradients, name)
        return found if begins is None else dataclasses.replace(found, reason=f"{found.reason} {_said(begins)}")

    def allowed(self, name: str) -> Array:
        """What each element of the judged gradient may be off by; infinity where it was moved along directions."""
        if name in self._routes.along:
            return np.full(self.problem.graph.shapes[name], np.inf)
        reference = self._reference(name, self.problem.precision(name))
        return dataclasses.replace(reference, tolerance=self._tolerance).allowed

    def _of(self, name: str) -> Verdict:
        own = self._reference(name, self.problem.dtype.precision)
        candidate = self.problem.candidate.get(name)
        by_hand, by_torch = (self._looked_at(name, each) for each in self._routes.own(name))
        if candidate is None:
            reference = dataclasses.replace(own, tolerance=self._tolerance, out_of_range=self._out_of_range(name))
            return self._judged({"analytic": by_hand, "autograd": by_torch}, reference, name)
        if not self.comparable(name):
            return verdict.of_another_shape(candidate.array.shape, self.problem.graph.shapes[name])
        reference = dataclasses.replace(
            self._reference(name, self.problem.precision(name)),
            disputed=self._dispute(name).places,
            tolerance=self._tolerance,
        )
        judged = self._looked_at(name, candidate.array)
        return self._with_hint(self._judged({"candidate": judged}, reference, name), name, judged, reference)

    def _dispute(self, name: str) -> Dispute:
        if name not in self._disputes:
            by_hand, by_torch = (self._looked_at(name, each) for each in self._routes.own(name))
            own = self._reference(name, self.problem.dtype.precision)
            self._disputes[name] = Dispute(by_hand, by_torch, own)
        return self._disputes[name]

    def _looked_at(self, name: str, gradient: Array) -> Array:
        """What of a gradient is held against the difference: itself, or its inner products with the directions."""
        along = self._routes.along.get(name)
        return gradient.astype(np.float64) if along is None else along.of(gradient)

    def _judged(self, judged: Mapping[str, Array], reference: Reference, name: str) -> Verdict:
        if name not in self._routes.along:
            return verdict.judge(judged, reference, self.problem.examined(name))
        norms = [projection.norm(each.astype(np.float64)) for each in self._routes.own(name) if np.isfinite(each).all()]
        return directions.judge(judged, reference, size(self.problem.graph.shapes[name]), min(norms, default=np.inf))

    def _with_hint(self, found: Verdict, name: str, candidate: Array, reference: Reference) -> Verdict:
        """Say so where a lower precision would explain the failure."""
        lower = reference.precision.lower
        if found.outcome != Outcome.FAIL or lower is None or reference.tolerance is not None:
            return found
        at_lower = self._reference(name, PRECISIONS[lower])
        fails = verdict.failing(candidate, at_lower).ravel()
        examined = self.problem.examined(name)
        if (fails if examined is None else fails[examined]).any():
            return found
        hint = f'It would not fail as {lower}: if it was computed so, give "candidate_dtype": "{lower}".'
        return dataclasses.replace(found, reason=f"{found.reason} {hint}")

    def _reference(self, name: str, precision: Precision) -> Reference:
        along = self._routes.along.get(name)
        difference = self._routes.differences[name] if along is None else along.difference
        left, right, beyond = difference.left, difference.right, 0.0
        if along is not None:
            left, right, beyond = directions.sides(difference)
        return Reference(
            difference.value,
            difference.error_bound,
            self._rounding(name, precision),
            precision,
            left=left,
            right=right,
            conventions=tuple(self._looked_at(name, each) for each in self._routes.own(name)),
            others=self._sizes(name),
            exact_to=difference.rounding,
            along=along is not None,
            beyond=beyond,
        )

    def _out_of_range(self, name: str) -> Array | None:
        """Where one of our routes is not finite, though in float64, at the same point, all that are not so are right.

        Then its backward pass is right too, and only the range of the dtype is at fault: that is no wrong gradient.
        """
        lost = [~np.isfinite(self._looked_at(name, each)) for each in self._routes.own(name)]
        if self.problem.dtype.precision.name == "FP64" or not np.any(lost):
            return None
        wide = self._in_float64
        reference = self._reference(name, PRECISIONS["FP64"])
        right = [~verdict.failing(self._looked_at(name, each.gradients[name]), reference) for each in wide]
        return np.any(lost, axis=0) & np.all([~gone | each for gone, each in zip(lost, right, strict=True)], axis=0)

    @cached_property
    def _in_float64(self) -> tuple[Analytic, Autograd]:
        """Both our routes again, at the point that was rounded to the dtype."""
        problem = self.problem
        return (
            analytic.differentiate(problem.graph, problem.wide),
            autograd.differentiate(problem.graph, problem.wide, problem.names),
        )

    def _sizes(self, name: str) -> Array:
        """Sizes of a gradient by our own routes, 0 where their rounding alone may have made them.

        Of directions all have the size that they have on the whole: a small one is chance, and not a small gradient.
        """
        precision = self.problem.dtype.precision
        own = [self._looked_at(name, each) for each in self._routes.own(name)]
        sizes = sizes_of(own, self._rounding(name, precision), precision.unit_roundoff)
        if name not in self._routes.along:
            return sizes
        return np.full(sizes.shape, projection.norm(sizes) / np.sqrt(sizes.size))

    def _rounding(self, name: str, precision: Precision) -> Array:
        """What a correct gradient in a precision may be off by, wherever it is held against the difference."""
        if precision.name not in self._allowances:
            found = allowances(
                self.problem.graph, self.problem.wide, precision, self.problem.request.seed, self.problem.names
            )
            for each, along in self._routes.along.items():
                found[each] = along.rounding(found[each], self._routes.own(each))
            self._allowances[precision.name] = found
        return self._allowances[precision.name][name]


def _said(begins: Beginning) -> str:
    """Where what is not finite begins, in a sentence."""
    node = f"node {shown(begins.node.name)} ({begins.node.op.name})"
    value = f"{spelled(begins.value)} at index {list(begins.index)}"
    if begins.of_gradient is None:
        return f"What is not finite begins at {node}: of finite inputs it makes {value}."
    return f"The loss is finite, its gradient is not: {node} hands {value} back to {shown(begins.of_gradient)}."
