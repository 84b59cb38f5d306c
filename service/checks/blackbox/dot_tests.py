"""Dot tests of a report: both products of an output and a tensor against each other, with the client's tolerance."""

from typing import cast

import numpy as np

from schemas.outputs import DotTestEntry
from schemas.report import OutcomeName
from schemas.tensor import encode_number
from service.numerics.blackbox.dot_test import ProductPair, run_dot_test
from service.numerics.blackbox.layout import EvaluationLayout
from service.numerics.core.batching import Array
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.reference import Tolerance


def build_dot_test(
    layout: EvaluationLayout, output: str, name: str, pair: ProductPair, tangents: Array, tolerance: Tolerance | None
) -> DotTestEntry:
    """Hold both products against each other, and build the entry of the direction with the largest difference.

    Parameters
    ----------
    layout
        Layout of the evaluations.
    output, name
        Names of the output and the tensor.
    pair
        Both products.
    tangents
        Tangents of the tensor, (directions, ...).
    tolerance
        Tolerance of the client, which both products may use up beside rounding; None by default.
    """
    test = run_dot_test(layout.lines[name], layout.points[name], pair)
    allowed, outcome = test.allowed, test.outcome
    if tolerance is not None:
        tangent, products = tangents[test.direction].ravel(), pair.products[:, test.direction]
        allowed += _measure_tolerance(tolerance, tangent, pair.gradient)
        allowed += _measure_tolerance(tolerance, pair.cotangent, products)
        if outcome == Outcome.FAIL and abs(test.vjp - test.jvp) <= allowed:
            outcome = Outcome.PASS
    return {
        "name": f"{output}/{name}",
        "direction": test.direction,
        "vjp": encode_number(test.vjp),
        "jvp": encode_number(test.jvp),
        "allowed": encode_number(allowed),
        "outcome": cast("OutcomeName", outcome.wire_name),
    }


def _measure_tolerance(tolerance: Tolerance, weights: Array, product: Array) -> float:
    """Return how far an inner product may be off if each element of the product uses its tolerance up."""
    with np.errstate(all="ignore"):
        return float(np.abs(weights) @ (tolerance.atol + tolerance.rtol * np.abs(product)))
