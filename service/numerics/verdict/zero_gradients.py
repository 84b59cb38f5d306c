"""Evidence that a gradient is 0, and not merely hidden by rounding.

No arithmetic tells 0 from what is smaller than its rounding. Two kinds of gradients are 0 all the same:

- Those that are 0 wherever the model is evaluated, since all that they are the sum of cancels: of what shifts the input
  of a softmax, of the bias of an attention's keys, of a bias before a normalisation. At other points near by they are
  0 within rounding too, but made of other rounding: what stays the same is a gradient that is small and known, and
  rounding is then allowed too much. A sum that is 0 at one point only, as that of 1e20, 0.01 and -1e20 seems to be,
  is 2^-20 of its terms at a point that is 2^-20 away.
- Those that both of our routes find to be 0 exactly. They may have cancelled at this point alone, so that nothing but
  0 itself, within rounding of float64, passes as 0.

All of it is asked in float64, at the point that was rounded to the dtype: what a narrower dtype hides is known there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.precision import PRECISIONS
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.gradients.finite_difference import Difference
from service.numerics.gradients.sources import ANALYTIC, GRADIENT_SOURCES
from service.numerics.model.graph import Graph, NamedArrays
from service.numerics.model.rounding import estimate_rounding_allowances

_CANCELLATION_RATIO = 1e6
"""Largest ratio of the bound to the rounding with which a difference of 0 is evidence of 0."""
_UNDERFLOW_ALLOWANCE = 2.0**-960
"""Largest rounding of terms that are themselves 0, each because one of its factors is 0."""
_AGREEMENT_TOLERANCE = 1e-3
"""Relative difference up to which routes agree, as they hardly do on what rounding made, unless they round alike."""
_ALIKE_ROUNDOFFS = 64
"""Units of rounding up to which they may do that."""
_NEARBY_POINTS = 4
"""Nearby points at which a gradient is computed: rounding is the same at all of them once in hundreds of times."""
_NEARBY_DISTANCE = 2.0**-20
"""How far these are, as a part of each number: far beyond rounding, and near enough to be of the same branch."""
_SAME_GRADIENT_TOLERANCE = 1e-2
"""Relative difference up to which the gradient at another point is the same."""


@dataclass(frozen=True)
class ZeroEvidence:
    """Evidence on the size of a gradient, beside its difference.

    Attributes
    ----------
    largest_magnitude
        Size of the largest element; 0 if rounding alone may have made all of the gradient.
    zero_nearby
        Mask of the elements that are 0 at nearby points too; None if the magnitude is not 0.
    zero_exactly
        Mask of the elements that are exactly 0 by every source; None if the magnitude is not 0.
    """

    largest_magnitude: float
    zero_nearby: Array | None = None
    zero_exactly: Array | None = None


class Float64Recomputation:
    """A model in float64, at one point and at others near by.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    names
        Names of the requested gradients.
    seed
        Seed of the nearby points and of the rounding model.
    """

    def __init__(self, graph: Graph, leaves: Mapping[str, Array], names: Sequence[str], seed: int) -> None:
        self._graph = graph
        self._leaves = leaves
        self._names = names
        self._seed = seed

    @cached_attribute
    def _gradients_by_source(self) -> dict[str, NamedArrays]:
        with np.errstate(all="ignore"):
            return {
                name: source.differentiate(self._graph, self._leaves, self._names, None).gradients
                for name, source in GRADIENT_SOURCES.items()
            }

    def compute_own_gradients(self, name: str) -> dict[str, Array]:
        """Return the gradient of a tensor by every source."""
        return {source: gradients[name] for source, gradients in self._gradients_by_source.items()}

    @cached_attribute
    def _rounding_by_name(self) -> NamedArrays:
        with np.errstate(all="ignore"):
            return estimate_rounding_allowances(self._graph, self._leaves, PRECISIONS["FP64"], self._seed, self._names)

    def estimate_rounding_allowance(self, name: str) -> Array:
        """Return the rounding allowance of each element of a correct gradient."""
        return self._rounding_by_name[name]

    def collect_zero_evidence(self, name: str) -> ZeroEvidence:
        """Return the evidence on a gradient whose difference says that it may be 0."""
        gradients, rounding = list(self.compute_own_gradients(name).values()), self.estimate_rounding_allowance(name)
        size = float(compute_peer_magnitudes(gradients, rounding, PRECISIONS["FP64"].unit_roundoff).max(initial=0))
        if size > 0 or not all(np.isfinite(gradient).all() for gradient in gradients):
            return ZeroEvidence(size)
        return ZeroEvidence(0.0, self._is_zero_nearby(name), np.all(np.equal(gradients, 0), axis=0))

    def _is_zero_nearby(self, name: str) -> Array:
        """Return where a gradient is 0 within rounding at nearby points too.

        A gradient that is one number at all of them is small and known, and not 0.
        """
        nearby_gradients, rounding = (by_name[name] for by_name in self._nearby_gradients)
        if not np.isfinite(nearby_gradients).all():
            return np.zeros(rounding.shape, np.bool_)
        base_gradient = self.compute_own_gradients(name)[ANALYTIC]
        is_unchanged = all(
            euclidean_norm(gradient - base_gradient) <= _SAME_GRADIENT_TOLERANCE * euclidean_norm(base_gradient)
            for gradient in nearby_gradients
        ) and bool(base_gradient.any())
        return np.asarray((np.abs(nearby_gradients) <= rounding).all(axis=0) & (not is_unchanged))

    @cached_attribute
    def _nearby_gradients(self) -> tuple[NamedArrays, NamedArrays]:
        """Gradients at other points, (_NEARBY_POINTS, ...), and their rounding allowances."""
        generator = np.random.default_rng([self._seed, 0x0E])
        leaves: NamedArrays = {}
        for name, leaf in self._leaves.items():
            displacements = (
                generator.uniform(-_NEARBY_DISTANCE, _NEARBY_DISTANCE, (_NEARBY_POINTS, *leaf.shape[1:]))
                if leaf.dtype.kind == "f"
                else 0
            )
            leaves[name] = leaf if leaf.dtype.kind != "f" else leaf * (1 + displacements)
        first = {name: leaf[:1] for name, leaf in leaves.items()}
        with np.errstate(all="ignore"):
            gradients = self._graph.backward(self._graph.forward(leaves))
            rounding = estimate_rounding_allowances(self._graph, first, PRECISIONS["FP64"], self._seed, self._names)
        return {name: gradients[name] for name in self._names}, rounding


def find_zero_tolerance(evidence: ZeroEvidence, difference: Difference, rounding: Array) -> Array | None:
    """Return the largest distance from 0 that passes as 0, for each difference.

    Parameters
    ----------
    evidence
        Evidence on the gradient; for directions, all its elements count.
    difference
        Differences by element, or along directions. With a wide bound they do not distinguish 0 from a hidden gradient.
    rounding
        Rounding allowance of each number in float64.
    """
    if evidence.zero_nearby is None or evidence.zero_exactly is None:
        return None
    is_zero_nearby, is_exact_zero = evidence.zero_nearby, evidence.zero_exactly
    if is_zero_nearby.shape != difference.value.shape:
        is_zero_nearby, is_exact_zero = is_zero_nearby.all(), (is_exact_zero | is_zero_nearby).all()
    is_cancelling = difference.error_bound <= _CANCELLATION_RATIO * np.fmax(difference.rounding_error, rounding)
    exact_tolerance = np.where(is_exact_zero & (rounding < _UNDERFLOW_ALLOWANCE), rounding, -np.inf)
    exact_tolerance = np.where(is_exact_zero & is_cancelling, difference.error_bound + rounding, exact_tolerance)
    return np.where(is_zero_nearby & is_cancelling, np.inf, exact_tolerance)


def compute_peer_magnitudes(gradients: Sequence[Array], rounding: Array, unit_roundoff: float) -> Array:
    """Return the sizes of a gradient, 0 where rounding alone may have made them.

    Cancellation leaves a fair part of the possible rounding. A tensor far below that and yet not 0 has not cancelled:
    it is small, as behind a saturated softmax. Its elements have sizes then, and nothing could tell them from 0. The
    distance below depends on the agreement of the sources.
    """
    finite = np.array([np.where(np.isfinite(gradient), gradient, 0) for gradient in gradients])
    smallest, largest = np.abs(finite).min(axis=0), np.abs(finite).max(axis=0)
    relative_difference = np.ptp(finite, axis=0).max(initial=0) / (largest.max(initial=0) or 1)
    is_rounding_only = (
        largest.any() and (largest <= _choose_rounding_fraction(relative_difference, unit_roundoff) * rounding).all()
    )
    return largest if is_rounding_only else np.where(smallest > rounding, smallest, 0)


def _choose_rounding_fraction(relative_difference: float, unit_roundoff: float) -> float:
    """Return the part of the rounding allowance below which a tensor counts as small."""
    if relative_difference > _AGREEMENT_TOLERANCE:
        return 1e-6
    return 1e-3 if relative_difference <= _ALIKE_ROUNDOFFS * unit_roundoff else 1
