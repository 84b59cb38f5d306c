"""The choices that are open at the ties of a problem, for each arithmetic that is judged, worked out once."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from schemas.datatype import Array
from service.checking.grounds import Grounds
from service.checking.question import Problem
from service.checking.routes import Routes
from service.numerics import ties, verdict
from service.numerics.dispute import ANALYTIC, AUTOGRAD
from service.numerics.graph import Values
from service.numerics.precision import Precision
from service.numerics.reference import Reference, Tolerance
from service.numerics.rounding import allowances
from service.numerics.ties import Point, Rows, Standing

CANDIDATE = "candidate"
"""Route of the candidate."""
_MOST = 2**16
"""Alternatives of one node up to which its choices are looked at."""


class Ties:
    """Choices of one problem, and what rounding does where the ops' own are taken throughout."""

    def __init__(self, problem: Problem, routes: Routes, grounds: Grounds) -> None:
        self._problem, self._routes, self._grounds = problem, routes, grounds
        self._points: dict[str, Point] = {}
        self._roundings: dict[tuple[str, str], Values] = {}

    def point(self, precision: Precision) -> Point:
        """The choices that are open to a correct pass in a precision."""
        if precision.name not in self._points:
            problem = self._problem
            self._points[precision.name] = ties.found(
                problem.graph, problem.wide, [precision], problem.request.seed, _MOST
            )
        return self._points[precision.name]

    def rounding(self, name: str, precision: Precision, chosen_in: Precision) -> Array:
        """What a correct gradient in a precision may be off by on its pieces, whichever errors would lead off them.

        The largest by our own choices and by those that hand back the most, and what it does to round a weight times
        a gradient, twice.
        """
        key = precision.name, chosen_in.name
        if key not in self._roundings:
            self._roundings[key] = self._rounding(precision, self.point(chosen_in))
        return self._roundings[key][name]

    def _rounding(self, precision: Precision, point: Point) -> Values:
        problem = self._problem
        ways = point.largest() if point.choices else []
        every = [
            allowances(problem.graph, problem.wide, precision, problem.request.seed, problem.names, held)
            for held in (point.held(), *map(point.held, ways))
        ]
        sizes = [point.with_weights({name: each[None] for name, each in way.items()}) for way in ways]
        return {
            name: np.max([each[name] for each in every], axis=0)
            + 2 * precision.unit_roundoff * np.max([np.abs(each[name][0]) for each in sizes], axis=0, initial=0)
            for name in problem.names
        }

    def reference(self, problem: Problem, name: str) -> Reference:
        """What a gradient is judged against: at kinks it may be off by what it is on its pieces.

        What a choice changes is judged by itself.
        """
        reference = self._grounds.reference(name, problem.precision(name))
        if not reference.kinks.any():
            return reference
        coarsest = _coarsest(problem.precision(each) for each in problem.names)
        rounding = self._on_pieces(name, reference.precision, coarsest)
        return dataclasses.replace(reference, rounding=np.where(reference.kinks, rounding, reference.rounding))

    def standings(self, problem: Problem, tolerance: Tolerance | None) -> dict[str, dict[str, Standing]]:
        """Where gradients stand, by name and route: the candidate's, and our own where there is none.

        Parameters
        ----------
        problem
            With its candidate.
        tolerance
            Of the client's, None for that which follows from bounds and rounding.
        """
        own = [name for name in problem.names if name not in problem.candidate]
        by_route = {CANDIDATE: self.of_candidate(problem, tolerance)}
        for position, route in enumerate((ANALYTIC, AUTOGRAD)):
            judged = {name: self._grounds.looked_at(name, self._routes.own(name)[position]) for name in own}
            by_route[route] = self._together(judged, {name: problem.precision(name) for name in own}, tolerance)
        found: dict[str, dict[str, Standing]] = {}
        for route, standings in by_route.items():
            for name, each in standings.items():
                found.setdefault(name, {})[route] = each
        return found

    def of_candidate(
        self, problem: Problem, tolerance: Tolerance | None, precision: Precision | None = None
    ) -> dict[str, Standing]:
        """Where the candidate stands, by name, as one of its own precision by default."""
        arrays = {name: problem.candidate[name].array for name in problem.names if name in problem.candidate}
        judged = {
            name: self._grounds.looked_at(name, each)
            for name, each in arrays.items()
            if each.shape == problem.graph.shapes[name]
        }
        return self._together(judged, {name: precision or problem.precision(name) for name in judged}, tolerance)

    def _together(
        self, judged: Mapping[str, Array], precisions: Mapping[str, Precision], tolerance: Tolerance | None
    ) -> dict[str, Standing]:
        """Judge what one route made of some gradients together.

        Nothing where there is no kink and nothing exceeds what is allowed: then no choice excuses anything.
        """
        references = {
            name: dataclasses.replace(self._grounds.reference(name, precisions[name]), tolerance=tolerance)
            for name in judged
        }
        kinked = any(each.kinks.any() for each in references.values())
        if not kinked and not any(verdict.failing(judged[name], each).any() for name, each in references.items()):
            return {}
        coarsest = _coarsest(precisions.values())
        if not kinked and not self.point(coarsest).choices:
            return {}
        rows: dict[str, Rows] = {}
        for name, each in references.items():
            on_pieces = dataclasses.replace(each, rounding=self._on_pieces(name, precisions[name], coarsest))
            along = self._routes.along.get(name)
            rows[name] = self._rows(name, judged[name], on_pieces, None if along is None else along.directions)
        found = ties.judge(self.point(coarsest), rows, self._problem.request.seed)
        return {name: each.shaped(judged[name].shape) for name, each in found.items()}

    def _on_pieces(self, name: str, precision: Precision, coarsest: Precision) -> Array:
        """What a correct gradient may be off by on its pieces, wherever it is held against the difference."""
        found, along = self.rounding(name, precision, coarsest), self._routes.along.get(name)
        return found if along is None else along.rounding(found, self._routes.own(name))

    def _rows(self, name: str, judged: Array, reference: Reference, directions: Array | None) -> Rows:
        examined = np.ones(judged.shape, np.bool_)
        some = self._problem.examined(name)
        if some is not None:
            examined = np.zeros(judged.size, np.bool_)
            examined[some] = True
        return Rows(judged, reference.allowed, reference.kinks, examined, directions)


def _coarsest(precisions: Iterable[Precision]) -> Precision:
    return max(precisions, key=lambda each: each.unit_roundoff)
