"""The dot test: a vector-Jacobian product and Jacobian-vector products of the same output, held against each other.

For a cotangent c and a tangent v,

    c . (J v) = (c J) . v.

Both sides are the derivative of c . y along v, by forward and by reverse mode. Neither needs a difference, so that they
agree to rounding. With U, u and s of allowance.py, g = c J, and T_e the size of the products of the element y_e,

    |c . (J v) - g . v| <= U u (size of g . v + sum_e |c_e| T_e) + 256 min(u, 2^-24) sum_e |c_e y_e| / s.            (1)

Along a random direction the size of g . v is |g|, and the last term, for saturated parts of the function, grows by
sqrt(n). Along an element it is |g_i| and what the element shares with the others.
"""

from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox.allowance import (
    DOUBT_ROUNDOFFS,
    WIDE_UNIT_ROUNDOFF,
    choose_allowed_roundoffs,
    compute_move_magnitudes,
    measure_row_sizes,
    measure_shared_sizes,
)
from service.numerics.blackbox.lines import TensorLines, TensorPoint
from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import compute_inner_products


@dataclass(frozen=True)
class DotTest:
    """The direction with the largest difference of both sides, in units of the allowed one.

    Attributes
    ----------
    direction
        Position among the lines of the tensor.
    vjp, jvp
        (c J) . v and c . (J v).
    allowed
        Largest difference that rounding explains.
    outcome
        Fail beyond that; inconclusive where a side is not finite.
    """

    direction: int
    vjp: float
    jvp: float
    allowed: float
    outcome: Outcome


@dataclass(frozen=True)
class ProductPair:
    """Both products of one output and one tensor.

    Attributes
    ----------
    cotangent, base_values
        c, and the output at the base, float64, (m,).
    gradient
        c J, float64, (n,).
    products
        J v along the lines of the tensor, float64, (m, k).
    precision
        Arithmetic of the products, the narrower if they differ.
    """

    cotangent: Array
    base_values: Array
    gradient: Array
    products: Array
    precision: Precision


def run_dot_test(lines: TensorLines, point: TensorPoint, pair: ProductPair) -> DotTest:
    """Hold both products against each other along the lines of a tensor."""
    active = np.flatnonzero(pair.cotangent)
    weights, rows = pair.cotangent[active], pair.products[active]
    with np.errstate(all="ignore"):
        by_vjp, vjp_sizes = _multiply_gradient(lines, point, pair.gradient)
        by_jvp = weights @ rows
        roundoff = pair.precision.unit_roundoff
        row_sizes = np.maximum(np.abs(rows), measure_row_sizes(rows)[:, None])
        rounding = choose_allowed_roundoffs(pair.precision) * roundoff * (vjp_sizes + np.abs(weights) @ row_sizes)
        magnitude = float(np.abs(weights) @ np.abs(pair.base_values[active]))
        count = 1 if lines.moved_elements is not None else pair.gradient.size
        saturation = DOUBT_ROUNDOFFS * min(roundoff, WIDE_UNIT_ROUNDOFF) * magnitude * np.sqrt(count)
        allowed = rounding + saturation / np.abs(lines.derivative_units) + pair.precision.smallest_subnormal
        errors = np.abs(by_jvp - by_vjp)
        ratios = np.where(errors == 0, 0.0, errors / allowed)
    worst = int(np.where(np.isnan(ratios), np.inf, ratios).argmax())
    outcome = Outcome.INCONCLUSIVE
    if np.isfinite(errors[worst]) and np.isfinite(allowed[worst]):
        outcome = Outcome.FAIL if errors[worst] > allowed[worst] else Outcome.PASS
    return DotTest(worst, float(by_vjp[worst]), float(by_jvp[worst]), float(allowed[worst]), outcome)


def _multiply_gradient(lines: TensorLines, point: TensorPoint, gradient: Array) -> tuple[Array, Array]:
    """Return (c J) . v along the lines, and its size by (1), both (k,)."""
    weighted = gradient * lines.direction_weights
    if lines.moved_elements is None:
        products, _ = compute_inner_products(lines.directions, weighted)
        finite = np.where(np.isfinite(weighted), weighted, 0.0)
        return products, np.full(products.shape, euclidean_norm(finite))
    magnitudes = compute_move_magnitudes(lines, point)
    shared = measure_shared_sizes(gradient, magnitudes, magnitudes[lines.moved_elements])
    judged = gradient[lines.moved_elements]
    return judged, np.abs(judged) + shared
