"""Dot tests: a vector-Jacobian product and Jacobian-vector products of one Jacobian against each other.

With the cotangent c and the tangent v, (c J) . v = c . (J v) for every Jacobian J. So they differ by rounding alone,
whatever the function does, unless one of them is wrong.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np

from schemas.outputs import DotTest
from schemas.report import OutcomeName
from schemas.tensor import encode_number
from service.numerics.blackbox.allowance import choose_allowed_roundoffs
from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import euclidean_norms
from service.numerics.verdict.reference import Tolerance


@dataclass(frozen=True)
class DotTestSide:
    """One product of a Jacobian, and the vectors that it is multiplied with.

    Attributes
    ----------
    products
        Product of each direction, (k, n), or the same one for all of them, (1, n).
    vectors
        Vectors of its inner products, (k, n), or the same one for all of them, (1, n).
    precision
        Arithmetic of the product.
    """

    products: Array
    vectors: Array
    precision: Precision

    def compute_inner_products(self) -> Array:
        """Return the inner products, (k,)."""
        return (self.products * self.vectors).sum(axis=1)

    def compute_allowance(self, tolerance: Tolerance | None) -> Array:
        """Return the largest error that the inner products may carry, (k,).

        The roundings of a product are relative to its norm, as those of a candidate along a random direction; beside
        them stand the roundings of the sum in float64, and what underflows.
        """
        sizes = np.abs(self.products)
        roundoffs = choose_allowed_roundoffs(self.precision) * self.precision.unit_roundoff
        roundoffs += self.products.shape[1] * 2.0**-52
        rounding = roundoffs * euclidean_norms(self.products) * euclidean_norms(self.vectors)
        absolute = self.precision.smallest_subnormal + sizes * (0.0 if tolerance is None else tolerance.rtol)
        absolute = absolute + (0.0 if tolerance is None else tolerance.atol)
        return rounding + (np.abs(self.vectors) * absolute).sum(axis=1)

    def is_finite(self) -> bool:
        """Return whether all numbers of the product are finite."""
        return bool(np.isfinite(self.products).all())


def run_dot_test(name: str, vjp: DotTestSide, jvp: DotTestSide, tolerance: Tolerance | None) -> DotTest:
    """Hold both products against each other along each direction of a tensor, and report the worst.

    Parameters
    ----------
    name
        Name of the output and the tensor.
    vjp
        Vector-Jacobian product, with the tangents.
    jvp
        Jacobian-vector products, with the cotangent.
    tolerance
        Tolerance of the client, which comes on top of rounding; None by default.
    """
    with np.errstate(all="ignore"):
        by_vjp, by_jvp = np.broadcast_arrays(vjp.compute_inner_products(), jvp.compute_inner_products())
        allowed = vjp.compute_allowance(tolerance) + jvp.compute_allowance(tolerance)
        errors = np.abs(by_vjp - by_jvp)
        ratios = np.where(errors == 0, 0.0, errors / allowed)
    worst = int(np.where(np.isnan(ratios), np.inf, ratios).argmax())
    outcome = Outcome.PASS if ratios[worst] <= 1 else Outcome.FAIL
    if not np.isfinite(ratios[worst]) and vjp.is_finite() and jvp.is_finite():
        # The inner products overflow, which says nothing of the products.
        outcome = Outcome.INCONCLUSIVE
    return {
        "name": name,
        "direction": worst,
        "vjp": encode_number(float(by_vjp[worst])),
        "jvp": encode_number(float(by_jvp[worst])),
        "allowed": encode_number(float(allowed[worst])),
        "outcome": cast("OutcomeName", outcome.wire_name),
    }
