"""The gradients of a problem by every source, side by side."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from schemas.datatype import Array
from service.numerics.gradients.analytic import AnalyticResult
from service.numerics.gradients.autograd import AutogradResult
from service.numerics.gradients.finite_difference import Difference
from service.numerics.gradients.sources import ANALYTIC, AUTOGRAD, ComputedGradients
from service.numerics.verdict import projection


@dataclass(frozen=True)
class DirectionalDifference:
    """Random directions of a tensor, (k, ...), and differences along them, (k,)."""

    directions: Array
    difference: Difference

    def project_gradient(self, gradient: Array) -> Array:
        """Return the inner products of a gradient with the directions, (k,)."""
        return projection.compute_inner_products(self.directions, gradient)[0]

    def project_rounding(self, rounding: Array, gradients: Iterable[Array]) -> Array:
        """Return the allowance along each direction, (k,), given that of the elements.

        And what its inner products may be off by: those of the gradients of our own, one of which is like it.
        """
        allowances = [
            projection.compute_inner_products(self.directions, gradient)[1]
            for gradient in gradients
            if np.isfinite(gradient).all()
        ]
        return projection.compute_directional_allowance(self.directions, rounding) + np.max(
            allowances, axis=0, initial=0
        )


@dataclass(frozen=True)
class GradientSources:
    """The gradients of a problem by every source, and its finite differences.

    Attributes
    ----------
    by_source
        Results of the sources that compute a gradient themselves, by their name.
    differences
        Finite differences by the name of the tensor; nothing is examined in those of a tensor moved along directions.
    directional_differences
        Differences along directions, by the name of the tensor.
    """

    by_source: Mapping[str, ComputedGradients]
    differences: Mapping[str, Difference]
    directional_differences: Mapping[str, DirectionalDifference] = field(
        default_factory=dict[str, DirectionalDifference]
    )

    @property
    def analytic(self) -> AnalyticResult:
        """The result of the analytic source, with the value of every node."""
        return cast("AnalyticResult", self.by_source[ANALYTIC])

    @property
    def autograd(self) -> AutogradResult:
        """The result of the autograd source, which the report shows."""
        return cast("AutogradResult", self.by_source[AUTOGRAD])

    def compute_own_gradients(self, name: str) -> dict[str, Array]:
        """Return the gradients of a tensor that are no differences, by source."""
        return {source: result.gradients[name] for source, result in self.by_source.items()}

    @property
    def evaluations(self) -> int:
        """Evaluations of the loss that the differences took."""
        return sum(difference.evaluations for difference in self.differences.values())
