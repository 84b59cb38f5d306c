"""The gradients of a problem by every source, side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from schemas.datatype import Array
from service.numerics.gradients.analytic import AnalyticResult
from service.numerics.gradients.autograd import AutogradResult
from service.numerics.gradients.finite_difference import Difference
from service.numerics.gradients.sources import ANALYTIC, AUTOGRAD, ComputedGradients
from service.numerics.verdict import projection
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict


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
class JointResults:
    """The results of joint directions.

    Attributes
    ----------
    names
        Tensors that move together.
    lines
        Result of each direction; none where the point allows no joint direction.
    verdicts
        Verdicts on the tensors that these directions decide.
    evaluations
        Evaluations of the loss.
    """

    names: tuple[str, ...]
    lines: Sequence[ElementResult]
    verdicts: Mapping[str, GradientVerdict]
    evaluations: int


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
        Differences along directions of one tensor, by its name; of a check along joint directions only those of the
        tensors that these do not decide.
    joint
        Results of the joint directions; None without any.
    """

    by_source: Mapping[str, ComputedGradients]
    differences: Mapping[str, Difference]
    directional_differences: Mapping[str, DirectionalDifference] = field(
        default_factory=dict[str, DirectionalDifference]
    )
    joint: JointResults | None = None

    def list_undecided(self, names: Iterable[str]) -> list[str]:
        """Return the names that no joint direction decides."""
        return [name for name in names if self.joint is None or name not in self.joint.verdicts]

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
        joint_evaluations = 0 if self.joint is None else self.joint.evaluations
        return joint_evaluations + sum(difference.evaluations for difference in self.differences.values())
