"""The allowance of a candidate: its largest error along the lines of a tensor.

There is no graph from which to know what a correct backward pass is off by, so it is stated. With c the candidate, n
its elements, u the unit roundoff of its arithmetic, and s_i the size of the move of element i, (n,), of element i

    certain_i = bound_i + U u |c_i|,
    allowed_i = certain_i + U u rms_j(c_j s_j) / s_i + (U / 16) u sqrt(n) |H_ii| s_i                                 (1)

The first is the bound of the difference and what the roundings of the element's own products leave. The second is what
it shares with the others: a backward pass in units y_j = x_j / s_j has the gradient c_j s_j, and the intermediate
gradients of which its elements are sums are of the size of all of these. So each element is judged in its own units: a
change of the unit of x_i changes c_i, s_i and (1) alike, and an element of 1e-11 beside one of 1e6 is not lost in what
the other is off by. The third is cancellation: where the gradient is small because large terms cancel, as in least
squares near their solution, those are known by the curvature. An x that is off by u s in every element has a gradient
that is off by |sum_j H_ij u s_j|, of which the root mean square over random signs is u s (sum_j H_ij^2)^(1/2), up to
sqrt(n) |H_ii| u s where no H_ij is larger than H_ii.

U is 256 where u <= 2^-24: 43 units, root mean square, are more than a sum of thousands of products is off by. For the
narrow arithmetics, which accumulate in a wider one, it is 24.

Along a random direction d, which knows nothing of the errors, an error of norm e is seen with the deviation e, and six
times as large with probability 3e-8 at most (direction_law.py). Six deviations of U u |c| / 6 are certain, and allowed
is beside

    (U / 16) u max_k |d_k . H d_k|,                                                                                  (2)

which is the trace of H in units of the scale, for a semidefinite H no less than its Frobenius norm.

Beside that stands what underflows. A tolerance of the client's takes the place of all of it.

Neither of them sees cancellation in a saturated part of the loss, such as a softmax with scores that lie far apart:
its upstream gradients are of the size of the loss L, and what they leave is not. The same arithmetic would leave
errors in the loss that a difference could not tell from as much. So nothing is called wrong that is off by no more than

    doubtful_i = 256 min(u, 2^-24) |L| / s_i                                                                         (3)

beside what is allowed, times sqrt(n) along a random direction. It lets nothing pass.

A Jacobian-vector product t of an output has one number for each of its elements and directions. Along a random
direction d the number t_ei = J_e . d_i has the norm of the row J_e as its deviation, so that the root mean
square over the k directions, T_e, estimates that norm. As the candidate of a scalar it may be off by U u of it:

    certain_ei = bound_ei + U u T_e,    allowed_ei = certain_ei + (U / 16) u max_k |d_k . H_e d_k|                   (4)

with H_e the second derivatives of the element. Along directions of single elements t is a row of the Jacobian, and (1)
holds for it.
"""

from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.lines import TensorLines, TensorPoint
from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.verdict import projection
from service.numerics.verdict.projection import compute_inner_products, euclidean_norms
from service.numerics.verdict.reference import Tolerance

_WIDE_SIGNIFICAND_BITS = 24
_LEAST_EXPONENT = -(2**20)
"""Exponent of 0 beside those of numbers."""
_CURVATURE_SHARE = 1 / 16
"""Part of the allowed roundoffs that counts in the share of the curvature."""
DOUBT_ROUNDOFFS = 256.0
"""Roundoffs of the loss by which a candidate may be off and is not called wrong."""
WIDE_UNIT_ROUNDOFF = 2.0**-_WIDE_SIGNIFICAND_BITS
"""Largest unit roundoff that counts for those."""


def choose_allowed_roundoffs(precision: Precision) -> float:
    """Return the units of roundoff that a correct candidate may be off by."""
    return 256.0 if precision.significand_bits >= _WIDE_SIGNIFICAND_BITS else 24.0


def _compute_relative_error(precision: Precision) -> float:
    return choose_allowed_roundoffs(precision) * precision.unit_roundoff


@dataclass(frozen=True)
class CandidateAllowance:
    """Largest errors of a candidate along k lines, all (..., k).

    Attributes
    ----------
    candidate_derivatives
        The candidate along each line.
    passing_error
        Largest error that passes.
    allowed_error
        Largest error of a candidate that may be right.
    doubtful_error
        Further error of a candidate that is not called wrong.
    move_sizes
        Sizes of the moves: a derivative times its size is in the unit of the loss.
    """

    candidate_derivatives: Array
    passing_error: Array
    allowed_error: Array
    doubtful_error: Array
    move_sizes: Array


def compute_element_allowance(
    lines: TensorLines,
    point: TensorPoint,
    gradient: Array,
    reference: DirectionalDerivatives,
    precision: Precision,
    tolerance: Tolerance | None = None,
) -> CandidateAllowance:
    """State (1) for the elements that were moved.

    Parameters
    ----------
    gradient
        c, float64, (..., n).
    """
    assert lines.moved_elements is not None
    magnitudes = compute_move_magnitudes(lines, point)
    judged = gradient[..., lines.moved_elements]
    shared_errors = measure_shared_sizes(
        gradient, magnitudes, magnitudes[lines.moved_elements], _compute_relative_error(precision)
    )
    return _allow_moved_elements(lines, magnitudes, judged, shared_errors, reference, precision, tolerance)


def compute_sample_allowance(
    lines: TensorLines,
    point: TensorPoint,
    judged: Array,
    reference: DirectionalDerivatives,
    precision: Precision,
    tolerance: Tolerance | None = None,
) -> CandidateAllowance:
    """State (1) for the elements that were moved, if no others of the candidate are known.

    Parameters
    ----------
    judged
        c of the moved elements, float64, (..., k).
    """
    assert lines.moved_elements is not None
    magnitudes = compute_move_magnitudes(lines, point)
    weights = magnitudes[lines.moved_elements]
    shared_errors = measure_shared_sizes(judged, weights, weights, _compute_relative_error(precision))
    return _allow_moved_elements(lines, magnitudes, judged, shared_errors, reference, precision, tolerance)


def measure_shared_sizes(gradient: Array, magnitudes: Array, weights: Array, factor: float = 1.0) -> Array:
    """Return factor rms_j(c_j s_j) / s_i, (..., k), for weights s_i, (k,).

    Neither the products nor their mean need be numbers of float64, although the result is one: exponents are added by
    themselves.
    """
    fractions, exponents = np.frexp(np.where(np.isfinite(gradient), gradient, 0.0))
    size_fractions, size_exponents = np.frexp(magnitudes)
    exponents = np.where(fractions == 0, _LEAST_EXPONENT, exponents + size_exponents)
    largest_exponents = exponents.max(axis=-1, keepdims=True)
    norms = euclidean_norms(np.ldexp(fractions * size_fractions, exponents - largest_exponents))
    part = factor / np.sqrt(gradient.shape[-1])
    weight_fractions, weight_exponents = np.frexp(weights)
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(part * norms[..., None] / weight_fractions, largest_exponents - weight_exponents)


def _allow_moved_elements(
    lines: TensorLines,
    magnitudes: Array,
    judged: Array,
    shared_errors: Array,
    reference: DirectionalDerivatives,
    precision: Precision,
    tolerance: Tolerance | None,
) -> CandidateAllowance:
    weights = magnitudes[lines.moved_elements]
    if tolerance is not None:
        max_error = tolerance.atol + tolerance.rtol * np.abs(reference.value)
        return CandidateAllowance(judged, max_error, max_error, np.zeros(judged.shape), weights)
    relative_rounding = _compute_relative_error(precision)
    curvature_error = _CURVATURE_SHARE * relative_rounding * np.sqrt(magnitudes.size) * np.abs(reference.curvature)
    sizes = np.where(np.isfinite(judged), np.abs(judged), 0.0)
    certain_errors = reference.bound + relative_rounding * sizes + precision.smallest_subnormal
    allowed_errors = certain_errors + shared_errors + np.where(np.isfinite(curvature_error), curvature_error, 0.0)
    doubtful_errors = _compute_doubtful_errors(reference, precision, weights)
    return CandidateAllowance(
        judged,
        _widen_for_constant_loss(certain_errors, judged, reference),
        _widen_for_constant_loss(allowed_errors, judged, reference),
        doubtful_errors,
        weights,
    )


def compute_direction_allowance(
    lines: TensorLines,
    point: TensorPoint,
    gradient: Array,
    reference: DirectionalDerivatives,
    precision: Precision,
    tolerance: Tolerance | None = None,
) -> CandidateAllowance:
    """State (2) for random directions."""
    finite = np.where(np.isfinite(gradient), gradient, 0.0)
    judged, product_roundings = compute_inner_products(lines.directions, gradient)
    weights = np.broadcast_to(np.abs(lines.derivative_units), judged.shape)
    if tolerance is not None:
        max_errors = projection.compute_directional_allowance(
            lines.directions, tolerance.atol + tolerance.rtol * np.abs(finite)
        )
        return CandidateAllowance(judged, max_errors, max_errors, np.zeros(judged.shape), weights)
    curvatures = np.abs(reference.curvature)
    relative_rounding = _compute_relative_error(precision)
    curvature_error = (
        _CURVATURE_SHARE * relative_rounding * float(curvatures.max(initial=0.0, where=np.isfinite(curvatures)))
    )
    # An element underflows before it is weighted by its move, and the product may once more.
    weights_of_underflow = np.maximum(np.broadcast_to(lines.direction_weights, gradient.shape), 1.0)
    underflow_error = 6 / np.sqrt(12) * euclidean_norm(precision.smallest_subnormal * weights_of_underflow)
    # A norm may overflow where its part is a number.
    rounding = euclidean_norm(relative_rounding * finite) + underflow_error
    certain_errors = reference.bound + rounding + np.where(np.isfinite(product_roundings), product_roundings, 0.0)
    allowed_errors, doubtful_errors = (
        certain_errors + curvature_error,
        _compute_doubtful_errors(reference, precision, weights) * np.sqrt(gradient.size),
    )
    return CandidateAllowance(
        judged,
        _widen_for_constant_loss(certain_errors, judged, reference),
        _widen_for_constant_loss(allowed_errors, judged, reference),
        doubtful_errors,
        weights,
    )


def compute_tangent_allowance(
    lines: TensorLines,
    products: Array,
    reference: DirectionalDerivatives,
    precision: Precision,
    tolerance: Tolerance | None = None,
) -> CandidateAllowance:
    """State (4) for products of a Jacobian with random directions.

    Parameters
    ----------
    products
        t, float64, (m, k).
    """
    weights = np.broadcast_to(np.abs(lines.derivative_units), products.shape)
    if tolerance is not None:
        max_error = tolerance.atol + tolerance.rtol * np.abs(reference.value)
        return CandidateAllowance(products, max_error, max_error, np.zeros(products.shape), weights)
    relative_rounding = _compute_relative_error(precision)
    row_errors = measure_row_sizes(relative_rounding * products)[:, None]
    curvatures = np.abs(reference.curvature)
    largest_curvatures = curvatures.max(axis=1, initial=0.0, where=np.isfinite(curvatures), keepdims=True)
    certain_errors = reference.bound + row_errors + precision.smallest_subnormal
    allowed_errors = certain_errors + _CURVATURE_SHARE * relative_rounding * largest_curvatures
    return CandidateAllowance(
        products,
        _widen_for_constant_loss(certain_errors, products, reference),
        _widen_for_constant_loss(allowed_errors, products, reference),
        _compute_doubtful_errors(reference, precision, weights) * np.sqrt(lines.moves.directions.shape[-1]),
        weights,
    )


def measure_row_sizes(products: Array) -> Array:
    """Return the root mean square over the directions of finite products, (m, k), as (m,)."""
    finite = np.where(np.isfinite(products), products, 0.0)
    return euclidean_norms(finite) / np.sqrt(products.shape[1])


def compute_move_magnitudes(lines: TensorLines, point: TensorPoint) -> Array:
    """Return the sizes of the elements, (n,): their move or, if larger, their own."""
    random = lines.moved_elements is None
    magnitudes = np.maximum(np.abs(point.values).ravel(), point.choose_element_moves(random=random).move_sizes)
    if lines.moved_elements is not None:
        magnitudes[lines.moved_elements] = np.maximum(magnitudes[lines.moved_elements], np.abs(lines.derivative_units))
    return magnitudes


def _compute_doubtful_errors(reference: DirectionalDerivatives, precision: Precision, weights: Array) -> Array:
    return DOUBT_ROUNDOFFS * min(precision.unit_roundoff, WIDE_UNIT_ROUNDOFF) * reference.base_magnitude / weights


def _widen_for_constant_loss(allowed_errors: Array, judged: Array, reference: DirectionalDerivatives) -> Array:
    """Allow every candidate except 0 beside a loss that is 0 at every point.

    Such a loss may be 0 to the last bit for want of digits, so that it calls nothing wrong.
    """
    return np.where(reference.is_constant & (reference.bound == 0) & (judged != 0), np.inf, allowed_errors)
