"""Verdicts on many gradients from differences along directions of all of them together.

Along a joint direction the loss changes by sum_i s_i g_i . d_i (`joint_difference.py`). The reference of one tensor
follows by subtraction of the others.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.precision import Precision
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.gradients.finite_difference import JointDifference
from service.numerics.verdict.directional import describe_detection_limit
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict, explain_pass
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import (
    UNDERFLOW_LOSS_OF_PRODUCT,
    NormDetectionLimit,
    bound_sum_rounding,
    compute_norm_detection_limit,
)

DECIDED_PRECISION = "FP64"
"""Arithmetic of the gradients that joint directions decide, by name."""
_SUM_ROUNDING = 2.0**-53
_BASE = ""
"""Stand-in for the source of the base gradients: no source has an empty name."""
_MAX_OWN_ERROR = 0.5
"""Relative error of our own gradient that may be missed, from which nothing is known of the norm of the gradient."""


@dataclass(frozen=True)
class JudgedGradients:
    """The gradients of one tensor that are judged together.

    Attributes
    ----------
    own
        Our own gradients by source, which have to agree for anything to be known.
    candidate
        Gradient of the client, by the name of its route; {} where our own are judged.
    precision
        Arithmetic of the judged gradients.
    """

    own: Mapping[str, Array]
    candidate: Mapping[str, Array]
    precision: Precision

    @property
    def judged_gradients(self) -> Mapping[str, Array]:
        """The gradients that the verdict is on."""
        return self.candidate or self.own

    @property
    def element_count(self) -> int:
        """Elements of the tensor."""
        return next(iter(self.own.values())).size


class LineJudge:
    """The judge of many gradients by joint differences.

    Parameters
    ----------
    lines
        Differences along joint directions of the same tensors.
    base_gradients
        Gradients of these tensors in float64, which are subtracted.
    gradients
        Gradients to judge, by tensor.

    Notes
    -----
    Let F be the difference along a line, b its bound, and P_j = d_j . g_j the inner products of the base gradients.
    The reference of tensor i is

        (F - sum_{j != i} s_j P_j) / s_i,

    and a gradient c of it passes if it is within a = (b + the rounding of all products) / s_i of that along d_i.

    **What a pass is worth.** Let e = c - g be off by abs(e) = r abs(g), where g is the true gradient. Then c passes
    only if abs(d_i . e + X) <= 2 a: once for the error that is allowed, and once for that of F and of the products. X
    is what the other base gradients are off by along their directions, and does not depend on d_i. By the inequality
    of Anderson, P(abs(N + X) <= t) is no more than P(abs(N) <= t) for a Gaussian number N of mean 0. So whatever is
    wrong with the other gradients, c passes all lines l with the probability

        p(r) <= prod_l erf(2 a_l / (sqrt(2) r abs(g)))

    at most, as along directions of its own (`projection.py`).

    **The norm of the gradient** is that of the base gradient g0 here, which is one of those that pass. It is off by
    eps = r abs(g0) at most, but for the same probability, so that abs(g) >= (1 - r) abs(g0), and r / (1 - r) is
    reported.

    **Agreement comes first.** The rounding of a correct pass is not allowed for: a gradient that agrees within the
    bound of the difference needs no allowance, and one that does not is told apart by other means. So nothing fails
    here. If the base gradient of one tensor is wrong, the references of all others are off, and none of them passes.
    Gradients of narrower arithmetics are told apart, too: their verdict depends on what rounding may hide. Nor is a
    tensor decided if an error of `detectable_error` may be missed in it: along directions of its own the difference is
    finer.

    References
    ----------
    Anderson, The integral of a symmetric unimodal function over a symmetric convex set and some probability
    inequalities, Proc. Amer. Math. Soc. 6 (1955) 170-176.
    """

    def __init__(
        self,
        lines: Sequence[JointDifference],
        base_gradients: Mapping[str, Array],
        gradients: Mapping[str, JudgedGradients],
    ) -> None:
        self._lines = lines
        self._gradients = gradients
        self._directions = {name: [line.directions[name].ravel() for line in lines] for name in gradients}
        self._norms = np.array([euclidean_norm(base_gradients[name]) for name in gradients])
        self._scales = np.array([[line.scales[name] for line in lines] for name in gradients])
        self._values = np.array([line.value for line in lines])
        self._bounds = np.array([line.error_bound for line in lines])
        self._scratch = np.empty(max(gradient.size for gradient in base_gradients.values()))
        with np.errstate(over="ignore", invalid="ignore"):
            self._products = {name: self._project_all(name, base_gradients[name]) for name in gradients}
            base_products = np.array([products[_BASE] for products in self._products.values()])
            shares = self._scales * base_products
            share_sums = np.abs(shares).sum(axis=0)
            residuals = self._values - shares.sum(axis=0)
            # Each product enters as that of the base gradient and as that of the judged one, and each sum rounds.
            self._allowed = (
                self._bounds
                + 2 * (self._scales * self._bound_product_errors()).sum(axis=0)
                + _SUM_ROUNDING * ((len(gradients) + 4) * share_sums + np.abs(self._values))
            )
            self._references: list[list[float]] = (base_products + residuals / self._scales).tolist()
            # Lists of a few numbers are compared faster than arrays.
            self._allowed_by_tensor: list[list[float]] = (self._allowed / self._scales).tolist()
            self._bounds_by_tensor: list[list[float]] = (self._bounds / self._scales).tolist()

    def find_passing(self) -> dict[str, GradientVerdict]:
        """Return the verdicts of the tensors that pass; the others have to be told apart."""
        verdicts = {name: self._judge(position, name) for position, name in enumerate(self._gradients)}
        return {name: verdict for name, verdict in verdicts.items() if verdict is not None}

    def list_results(self) -> list[ElementResult]:
        """Return the result of each line: pass, or inconclusive where tensors have to be told apart."""
        sources = list(
            dict.fromkeys(source for gradients in self._gradients.values() for source in gradients.judged_gradients)
        )
        sums = {source: self._sum_products(source) for source in sources}
        numbers = zip(self._values.tolist(), self._bounds.tolist(), self._allowed.tolist(), strict=True)
        return [
            _make_result(position, *line, {source: values[position] for source, values in sums.items()})
            for position, line in enumerate(numbers)
        ]

    def _project_all(self, name: str, base_gradient: Array) -> dict[str, Array]:
        """Return the inner products of each gradient of a tensor with its directions, (lines,), by source."""
        gradients = self._gradients[name]
        products = {_BASE: self._project(name, base_gradient)}
        for source, gradient in (*gradients.own.items(), *gradients.candidate.items()):
            products[source] = products[_BASE] if gradient is base_gradient else self._project(name, gradient)
        return products

    def _project(self, name: str, gradient: Array) -> Array:
        flat, products = gradient.ravel(), self._scratch[: gradient.size]
        return np.array(
            [
                np.multiply(direction, flat, out=products).sum()
                for direction in iterate_interruptibly(self._directions[name])
            ]
        )

    def _bound_product_errors(self) -> Array:
        """Return the largest error of each inner product, (tensors, lines).

        By the inequality of Cauchy and Schwarz the sizes of the products add up to |d| |g| at most.
        """
        sizes = [directions[0].size for directions in self._directions.values()]
        roundings = np.array([bound_sum_rounding(size) for size in sizes])
        lengths = np.array([[euclidean_norm(line) for line in lines] for lines in self._directions.values()])
        losses = np.array(sizes) * UNDERFLOW_LOSS_OF_PRODUCT
        return (roundings * self._norms)[:, None] * lengths + losses[:, None]

    def _judge(self, position: int, name: str) -> GradientVerdict | None:
        gradients, norm = self._gradients[name], float(self._norms[position])
        if gradients.precision.name != DECIDED_PRECISION:
            return None
        allowed, references = self._allowed_by_tensor[position], self._references[position]
        largest_error = gradients.precision.detectable_error
        if not all(error <= largest_error * norm / 2 for error in allowed):
            return None
        judged: dict[str, list[float]] = {
            source: self._products[name][source].tolist() for source in (*gradients.own, *gradients.candidate)
        }
        if not all(
            abs(product - reference) <= error
            for products in judged.values()
            for product, reference, error in zip(products, references, allowed, strict=True)
        ):
            return None
        limit = _find_detection_limit(allowed, norm)
        if not limit.relative_l2 <= largest_error:
            return None
        text = describe_detection_limit(limit, len(self._lines), is_joint=len(self._gradients) > 1)
        entries = zip(references, self._bounds_by_tensor[position], allowed, strict=True)
        total = gradients.element_count
        return GradientVerdict(
            outcome=Outcome.PASS,
            reason=f"{explain_pass('direction')} {text}",
            element_count=total,
            outcome_counts=dict.fromkeys(Outcome, 0),
            smallest_detectable_error=limit.relative_l2,
            worst_elements=(),
            unexamined_count=total,
            direction_results=tuple(
                _make_result(line, *numbers, {source: judged[source][line] for source in gradients.judged_gradients})
                for line, numbers in enumerate(entries)
            ),
            detection_limit=limit,
            is_joint=True,
        )

    def _sum_products(self, source: str) -> Array:
        """Return the derivative along each line by one source, and by the base gradients where it has none."""
        products = [
            self._products[name][source if source in gradients.judged_gradients else _BASE]
            for name, gradients in self._gradients.items()
        ]
        return (self._scales * np.array(products)).sum(axis=0)


def _find_detection_limit(allowed: Sequence[float], norm: float) -> NormDetectionLimit:
    limit = compute_norm_detection_limit([2 * error for error in allowed], norm)
    if not limit.relative_l2 < _MAX_OWN_ERROR:
        return NormDetectionLimit(np.inf, 1.0)
    return NormDetectionLimit(limit.relative_l2 / (1 - limit.relative_l2), limit.probability)


def _make_result(
    position: int, reference: float, error_bound: float, allowed: float, judged: Mapping[str, float]
) -> ElementResult:
    """Return the result of a line by the source that is off the most."""
    errors = {source: abs(float(value) - reference) for source, value in judged.items()}
    source = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    return ElementResult(
        index=(position,),
        source=source,
        reference=reference,
        judged_value=float(judged[source]),
        error_bound=error_bound,
        allowed_error=allowed,
        error_ratio=errors[source] / allowed if errors[source] else 0.0,
        outcome=Outcome.PASS if errors[source] <= allowed else Outcome.INCONCLUSIVE,
    )
