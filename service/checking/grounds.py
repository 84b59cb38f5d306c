"""What a gradient is judged on, whoever computed it: all that is known of a problem beside its candidates."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from schemas.datatype import Array
from service.checking.question import Problem
from service.checking.routes import Routes
from service.numerics import directions, not_finite, projection, verdict
from service.numerics.dispute import Dispute
from service.numerics.gradients.finite_difference import Difference
from service.numerics.graph import Values
from service.numerics.kept import kept
from service.numerics.not_finite import Beginning
from service.numerics.nothing import InFloat64, sizes_of, within
from service.numerics.precision import PRECISIONS, Precision
from service.numerics.reference import Reference
from service.numerics.rounding import allowances


class Grounds:
    """References by name and arithmetic, and what they rest on; each is worked out once, when it is first asked for."""

    def __init__(self, problem: Problem, routes: Routes) -> None:
        self._problem = problem
        self._routes = routes
        self._allowances: dict[str, Values] = {}
        self._disputes: dict[str, Dispute] = {}
        self._known: dict[str, tuple[float, Array | None]] = {}

    def looked_at(self, name: str, gradient: Array) -> Array:
        """What of a gradient is held against the difference: itself, or its inner products with the directions."""
        along = self._routes.along.get(name)
        return gradient.astype(np.float64) if along is None else along.of(gradient)

    def reference(self, name: str, precision: Precision) -> Reference:
        """What a gradient in a precision is judged against."""
        along = self._routes.along.get(name)
        difference = self._routes.differences[name] if along is None else along.difference
        left, right, beyond = difference.left, difference.right, 0.0
        if along is not None:
            left, right, beyond = directions.sides(difference)
        size, nothing = self._beside(name, difference)
        return Reference(
            difference.value,
            difference.error_bound,
            self._rounding(name, precision),
            precision,
            left=left,
            right=right,
            conventions=tuple(self.looked_at(name, each) for each in self._routes.own(name)),
            size=size,
            nothing=nothing,
            along=along is not None,
            beyond=beyond,
        )

    def dispute(self, name: str) -> Dispute:
        """Our own routes held against the difference, what the range of the dtype takes from them excused."""
        if name not in self._disputes:
            by_hand, by_torch = (self.looked_at(name, each) for each in self._routes.own(name))
            found = Dispute(by_hand, by_torch, self.reference(name, self._problem.dtype.precision))
            self._disputes[name] = dataclasses.replace(found, excused=self._out_of_range(name, found))
        return self._disputes[name]

    def begins(self, name: str) -> Beginning | None:
        """Where on the way of a gradient what is not finite begins, by the analytic route."""
        own = self._routes.analytic
        return not_finite.found(self._problem.graph, own.values, own.gradients, name)

    def norm(self, name: str) -> float:
        """Norm of a gradient, or what is known of it at least; 0 where that is nothing."""
        for own, rounding in self._by_precision(name):
            norms = [projection.norm(each.astype(np.float64)) for each in own if np.isfinite(each).all()]
            least = min(norms, default=0.0) - projection.norm(rounding)
            if least > 0:
                return least
        return 0.0

    def _by_precision(self, name: str) -> Iterator[tuple[tuple[Array, Array], Array]]:
        """Our own gradients and what they may be off by, in the dtype and, where that is not enough, in float64."""
        yield self._routes.own(name), self._of_elements(name, self._problem.dtype.precision)
        yield self._in_float64.gradients(name), self._in_float64.rounding(name)

    def _out_of_range(self, name: str, found: Dispute) -> Array | None:
        """Where the range of the dtype alone keeps a route from what is right, which is no wrong gradient.

        It may do so where something on the way is so large or small that a power of it is no number of the dtype, and
        it did where both routes are right in float64. In float64 itself at least one of them has to be right, or
        neither has a number.
        """
        lost = ~(np.isfinite(found.by_hand) & np.isfinite(found.by_torch))
        if not (lost | found.places).any():
            return None
        strained = self._is_strained(name)
        if self._problem.dtype.narrow:
            lost |= found.places & strained
            reference, routes = self.reference(name, PRECISIONS["FP64"]), self._in_float64.gradients(name)
            right = np.all([~verdict.failing(self.looked_at(name, each), reference) for each in routes], axis=0)
        else:
            # Nothing tells which of them is right where there is no difference, as where a probability rounds to 1.
            lost = found.places & (strained | found.reference.missing)
            routes = found.by_hand, found.by_torch
            right = np.any([~verdict.failing(each, found.reference) for each in routes], axis=0)
            right |= ~np.any([np.isfinite(each) for each in routes], axis=0)
        lost &= right
        return lost if lost.any() else None

    def _is_strained(self, name: str) -> bool:
        """Whether a power of some number on the way, such as an op takes, is beyond the range of the dtype."""
        power = max(node.op.power for node in self._problem.graph.nodes)
        edge = 2.0 ** (self._problem.dtype.precision.exponent / power)
        sizes = [np.abs(each.astype(np.float64)) for each in self._routes.analytic.values.values() if each.size]
        return self.begins(name) is not None or any(
            bool(((each > 1 / edge) | ((each < edge) & (each > 0))).any()) for each in sizes
        )

    @kept
    def _in_float64(self) -> InFloat64:
        """Both our routes again, at the point that was rounded to the dtype."""
        problem = self._problem
        return InFloat64(problem.graph, problem.wide, problem.names, problem.request.seed)

    def _beside(self, name: str, difference: Difference) -> tuple[float, Array | None]:
        """Size of a gradient as it is known beside its difference, and where it is nothing.

        Neither is asked for where the difference has a size, unless the largest element may be none that it looked at.
        """
        if name not in self._known:
            self._known[name] = self._found_beside(name, difference)
        return self._known[name]

    def _found_beside(self, name: str, difference: Difference) -> tuple[float, Array | None]:
        along = self._routes.along.get(name)
        with np.errstate(invalid="ignore"):
            nonzero = np.isfinite(difference.error_bound) & (np.abs(difference.value) > difference.error_bound)
        if not nonzero.any():
            known, rounding = self._in_float64.known(name), self._in_float64.rounding(name)
            rounding = rounding if along is None else along.rounding(rounding, self._in_float64.gradients(name))
            return known.size, within(known, difference, rounding)
        if along is not None:
            return self.norm(name), None
        if self._problem.examined(name) is None:
            return 0.0, None
        precision = self._problem.dtype.precision
        own = [each.astype(np.float64) for each in self._routes.own(name)]
        sizes = sizes_of(own, self._of_elements(name, precision), precision.unit_roundoff)
        return float(sizes.max(initial=0)), None

    def _rounding(self, name: str, precision: Precision) -> Array:
        """What a correct gradient in a precision may be off by, wherever it is held against the difference."""
        along, rounding = self._routes.along.get(name), self._of_elements(name, precision)
        return rounding if along is None else along.rounding(rounding, self._routes.own(name))

    def _of_elements(self, name: str, precision: Precision) -> Array:
        """What each element of a correct gradient in a precision may be off by."""
        if precision.name not in self._allowances:
            problem = self._problem
            self._allowances[precision.name] = allowances(
                problem.graph, problem.wide, precision, problem.request.seed, problem.names
            )
        return self._allowances[precision.name][name]
