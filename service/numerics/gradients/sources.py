"""The sources of a gradient beside the finite difference, by name.

One entry in `GRADIENT_SOURCES` makes a check compute, compare and judge another gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.numerics.core.batching import Array
from service.numerics.core.precision import ComputeDtype
from service.numerics.gradients import analytic, autograd
from service.numerics.gradients.analytic import AnalyticResult
from service.numerics.gradients.autograd import AutogradResult
from service.numerics.model.graph import Graph, NamedArrays

ANALYTIC, AUTOGRAD, DIFFERENCE = "analytic", "autograd", "finite_difference"


class ComputedGradients(Protocol):
    """The result of one source: gradients by leaf and node, without the batch axis."""

    @property
    def gradients(self) -> NamedArrays:
        """Gradients by name, at least of the requested names."""
        ...


GradientFunction = Callable[[Graph, Mapping[str, Array], Sequence[str], ComputeDtype | None], ComputedGradients]
"""Differentiate the loss of a graph at its leaves, (1, ...), by the given names, in a dtype (that of the leaves)."""


@dataclass(frozen=True)
class GradientSource:
    """A way to compute a gradient that is no finite difference.

    Attributes
    ----------
    activity
        Clause that names the work when the time is over.
    differentiate
        The function that computes the gradients.
    """

    activity: str
    differentiate: GradientFunction


def _differentiate_analytically(
    graph: Graph, leaves: Mapping[str, Array], names: Sequence[str], dtype: ComputeDtype | None
) -> AnalyticResult:
    return analytic.differentiate_analytically(graph, leaves, dtype=dtype, names=names)


def _differentiate_by_torch(
    graph: Graph, leaves: Mapping[str, Array], names: Sequence[str], dtype: ComputeDtype | None
) -> AutogradResult:
    return autograd.differentiate_by_torch(graph, leaves, names, None if dtype is None else dtype.name)


GRADIENT_SOURCES: dict[str, GradientSource] = {
    ANALYTIC: GradientSource("the analytic gradient was being computed", _differentiate_analytically),
    AUTOGRAD: GradientSource("the gradient was being computed by PyTorch", _differentiate_by_torch),
}
