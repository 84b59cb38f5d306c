"""The gradients of a problem by the three routes, side by side."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from schemas.datatype import Array
from service.numerics.gradients.analytic import AnalyticResult
from service.numerics.gradients.autograd import AutogradResult
from service.numerics.gradients.finite_difference import Difference
from service.numerics.verdict import projection


@dataclass(frozen=True)
class DirectionalDifference:
    """Random directions of a tensor, (k, ...), and the differences of the loss along them, (k,)."""

    directions: Array
    difference: Difference

    def project_gradient(self, gradient: Array) -> Array:
        """Inner products of a gradient with the directions, (k,)."""
        return projection.compute_inner_products(self.directions, gradient)[0]

    def project_rounding(self, rounding: Array, gradients: Iterable[Array]) -> Array:
        """What a correct gradient may be off by along each direction, (k,), given what its elements may be.

        And what its inner products may be off by: those of the gradients of our own, one of which is like it.
        """
        off = [
            projection.compute_inner_products(self.directions, each)[1] for each in gradients if np.isfinite(each).all()
        ]
        return projection.compute_directional_allowance(self.directions, rounding) + np.max(off, axis=0, initial=0)


@dataclass(frozen=True)
class GradientSources:
    """The gradients by all routes; where tensors were moved along directions, of the differences what there is then."""

    analytic: AnalyticResult
    autograd: AutogradResult
    differences: Mapping[str, Difference]
    directional_differences: Mapping[str, DirectionalDifference] = field(
        default_factory=dict[str, DirectionalDifference]
    )

    def own_gradients(self, name: str) -> tuple[Array, Array]:
        """The two gradients that are not differences, of a tensor's shape."""
        return self.analytic.gradients[name], self.autograd.gradients[name]

    @property
    def evaluations(self) -> int:
        """Evaluations of the loss that the differences took."""
        return sum(each.evaluations for each in self.differences.values())
