"""The verdict on each name."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from schemas.datatype import Array
from schemas.problem import shown
from schemas.tensor import spelled
from service.checking.grounds import Grounds
from service.checking.question import Problem
from service.checking.routes import Routes
from service.checking.ties import CANDIDATE, Ties
from service.numerics import directions, verdict
from service.numerics.dispute import ANALYTIC, AUTOGRAD, Side
from service.numerics.kept import kept
from service.numerics.not_finite import Beginning
from service.numerics.outcome import Outcome
from service.numerics.precision import PRECISIONS, Precision
from service.numerics.reference import Reference, Tolerance
from service.numerics.ties import Standing
from service.numerics.tiles import size
from service.numerics.verdict import Verdict


class Judge:
    """Judges the names of one problem."""

    def __init__(
        self, problem: Problem, routes: Routes, grounds: Grounds | None = None, ties: Ties | None = None
    ) -> None:
        self.problem = problem
        self._routes = routes
        self._grounds = grounds or Grounds(problem, routes)
        self._ties = ties or Ties(problem, routes, self._grounds)
        tolerance = problem.request.tolerance
        self._tolerance = None if tolerance is None else Tolerance(tolerance.rtol, tolerance.atol)

    def with_candidate(self, candidate: Mapping[str, Array], datatype: str | None = None) -> "Judge":
        """Return the judge of other gradients, of whatever shape; what is known of our own routes is kept."""
        return Judge(self.problem.with_candidate(candidate, datatype), self._routes, self._grounds, self._ties)

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
            reference, standing = self._reference(name), self._standings.get(name, {})
            return verdict.failing(candidate, reference, standing.get(CANDIDATE))
        by_hand, by_torch = (each.astype(np.float64) for each in self._routes.own(name))
        return ~(np.abs(candidate - by_hand) <= 2 * np.abs(by_hand - by_torch))

    def dispute(self, name: str) -> tuple[Side, ...]:
        """Which of the routes agree where they disagree among themselves; nothing where all agree.

        Where only the range of the dtype keeps one of them from a number they do not.
        """
        return self._grounds.dispute(name).sides(self.problem.examined(name))

    def of(self, name: str) -> Verdict:
        """Judge the candidate, or where there is none both of our routes; say where what is not finite begins."""
        found = self._of(name)
        if found.outcome == Outcome.PASS:
            return found
        begins = self._grounds.begins(name)
        return found if begins is None else dataclasses.replace(found, reason=f"{found.reason} {_said(begins)}")

    def allowed(self, name: str) -> Array:
        """What each element of the judged gradient may be off by; infinity where it was moved along directions."""
        if name in self._routes.along:
            return np.full(self.problem.graph.shapes[name], np.inf)
        reference = self._grounds.reference(name, self.problem.precision(name))
        return dataclasses.replace(reference, tolerance=self._tolerance).allowed

    def _of(self, name: str) -> Verdict:
        dispute, candidate = self._grounds.dispute(name), self.problem.candidate.get(name)
        if candidate is None:
            routes = {ANALYTIC: dispute.by_hand, AUTOGRAD: dispute.by_torch}
            reference = dataclasses.replace(
                self._reference(name), tolerance=self._tolerance, out_of_range=dispute.excused
            )
            return self._judged(routes, reference, name)
        if not self.comparable(name):
            return verdict.of_another_shape(candidate.array.shape, self.problem.graph.shapes[name])
        precision = self.problem.precision(name)
        # What is beyond the range of the dtype is beyond that of an arithmetic that has no larger one.
        no_wider = precision.exponent >= self.problem.dtype.precision.exponent
        reference = dataclasses.replace(
            self._reference(name),
            disputed=dispute.places,
            tolerance=self._tolerance,
            out_of_range=dispute.excused if no_wider else None,
        )
        judged = self._grounds.looked_at(name, candidate.array)
        return self._with_hint(self._judged({CANDIDATE: judged}, reference, name), name, judged, reference)

    def _judged(self, judged: Mapping[str, Array], reference: Reference, name: str) -> Verdict:
        ties = self._standings.get(name)
        if name not in self._routes.along:
            return verdict.judge(judged, reference, self.problem.examined(name), ties=ties)
        total = size(self.problem.graph.shapes[name])
        return directions.judge(judged, reference, total, self._grounds.norm(name), ties)

    def _reference(self, name: str) -> Reference:
        return self._ties.reference(self.problem, name)

    @kept
    def _standings(self) -> dict[str, dict[str, Standing]]:
        """Where gradients stand with the choices at ties, by name and route: those of one route are judged together."""
        return self._ties.standings(self.problem, self._tolerance)

    def _at_lower(self, lower: Precision) -> dict[str, Standing]:
        """Where the candidate would stand with the choices at ties if it were of a lower precision."""
        if not any(CANDIDATE in each for each in self._standings.values()):
            return {}
        return self._ties.of_candidate(self.problem, self._tolerance, lower)

    def _with_hint(self, found: Verdict, name: str, candidate: Array, reference: Reference) -> Verdict:
        """Say so where a lower precision would explain the failure."""
        lower = reference.precision.lower
        if found.outcome != Outcome.FAIL or lower is None or reference.tolerance is not None:
            return found
        at_lower = self._grounds.reference(name, PRECISIONS[lower])
        fails = verdict.failing(candidate, at_lower, self._at_lower(PRECISIONS[lower]).get(name)).ravel()
        examined = self.problem.examined(name)
        if (fails if examined is None else fails[examined]).any():
            return found
        hint = f'It would not fail as {lower}: if it was computed so, give "candidate_dtype": "{lower}".'
        return dataclasses.replace(found, reason=f"{found.reason} {hint}")


def _said(begins: Beginning) -> str:
    """Where what is not finite begins, in a sentence."""
    node = f"node {shown(begins.node.name)} ({begins.node.op.name})"
    value = f"{spelled(begins.value)} at index {list(begins.index)}"
    if begins.of_gradient is None:
        return f"What is not finite begins at {node}: of finite inputs it makes {value}."
    return f"The loss is finite, its gradient is not: {node} hands {value} back to {shown(begins.of_gradient)}."
