"""The gradients of a problem by the three routes, side by side."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from schemas.datatype import Array
from service.numerics import projection
from service.numerics.gradients.analytic import Analytic
from service.numerics.gradients.autograd import Autograd
from service.numerics.gradients.finite_difference import Difference


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
