"""Verdicts on many gradients from differences along directions of all of them together.

Along a joint direction the loss changes by sum_i s_i g_i . d_i (`joint_difference.py`). The reference of one tensor
follows by subtraction of the others.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.gradients.finite_difference import JointDifference
from service.numerics.verdict.directional import describe_detection_limit
from service.numerics.verdict.elementwise import compare_gradients
from service.numerics.verdict.gradient_verdict import (
    ElementResult,
    GradientVerdict,
    JudgedEntries,
    assemble_directional_verdict,
)
from service.numerics.verdict.outcome import Cause, Outcome
from service.numerics.verdict.projection import (
    NormDetectionLimit,
    compute_inner_products,
    compute_norm_detection_limit,
)
from service.numerics.verdict.reference import Reference

DECIDED_PRECISION = "FP64"
"""Arithmetic of the gradients that joint directions decide, by name."""
_SUM_ROUNDING = 2.0**-53
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
        self._base_gradients = base_gradients
        self._gradients = gradients
        self._norms = {name: euclidean_norm(base_gradients[name]) for name in gradients}
        self._directions = {name: [line.directions[name] for line in lines] for name in gradients}
        self._scales = {name: np.array([line.scales[name] for line in lines]) for name in gradients}
        self._values = np.array([line.value for line in lines])
        products = {name: compute_inner_products(self._directions[name], base_gradients[name]) for name in gradients}
        self._products = {name: values for name, (values, _) in products.items()}
        shares = np.array([self._scales[name] * values for name, (values, _) in products.items()])
        roundings = np.array([self._scales[name] * errors for name, (_, errors) in products.items()])
        self._residuals = self._values - shares.sum(axis=0)
        self._bounds = np.array([line.error_bound for line in lines])
        # Each product enters as that of the base gradient and as that of the judged one, and each sum rounds.
        self._allowed = (
            self._bounds
            + 2 * roundings.sum(axis=0)
            + _SUM_ROUNDING * ((len(gradients) + 2) * np.abs(shares).sum(axis=0) + np.abs(self._values))
        )

    def find_passing(self) -> dict[str, GradientVerdict]:
        """Return the verdicts of the tensors that pass; the others have to be told apart."""
        verdicts = {name: self._judge(name) for name in self._gradients}
        return {name: verdict for name, verdict in verdicts.items() if verdict is not None}

    def list_results(self) -> list[ElementResult]:
        """Return the result of each line: pass, or inconclusive where tensors have to be told apart."""
        sources = list(
            dict.fromkeys(source for gradients in self._gradients.values() for source in gradients.judged_gradients)
        )
        sums = {source: self._sum_products(source) for source in sources}
        return [self._make_result(position, sums) for position in range(len(self._lines))]

    def _judge(self, name: str) -> GradientVerdict | None:
        gradients, limit = self._gradients[name], self._find_detection_limit(name)
        if gradients.precision.name != DECIDED_PRECISION:
            return None
        own = self._compare(name, gradients.own)
        entries = self._compare(name, gradients.candidate) if gradients.candidate else own
        if not (own.has_passed.all() and entries.has_passed.all()):
            return None
        if not limit.relative_l2 <= gradients.precision.detectable_error:
            return None
        verdict = assemble_directional_verdict(entries, limit, limit.relative_l2, _explain_nothing)
        text = describe_detection_limit(limit, len(self._lines), is_joint=len(self._gradients) > 1)
        return replace(verdict, reason=f"{verdict.reason} {text}", is_joint=True)

    def _compare(self, name: str, gradients: Mapping[str, Array]) -> JudgedEntries:
        scales, base = self._scales[name], self._products[name]
        reference = Reference(
            base + self._residuals / scales,
            self._allowed / scales,
            np.zeros(len(self._lines)),
            self._gradients[name].precision,
            peer_magnitude=self._norms[name],
            is_directional=True,
        )
        judged = {source: self._project(name, gradient) for source, gradient in gradients.items()}
        return compare_gradients(judged, reference, tensor_shape=next(iter(gradients.values())).shape)

    def _project(self, name: str, gradient: Array) -> Array:
        if gradient is self._base_gradients[name]:
            return self._products[name]
        return compute_inner_products(self._directions[name], gradient)[0]

    def _find_detection_limit(self, name: str) -> NormDetectionLimit:
        limit = compute_norm_detection_limit(2 * self._allowed / self._scales[name], self._norms[name])
        if not limit.relative_l2 < _MAX_OWN_ERROR:
            return NormDetectionLimit(np.inf, 1.0)
        return NormDetectionLimit(limit.relative_l2 / (1 - limit.relative_l2), limit.probability)

    def _sum_products(self, source: str) -> Array:
        """Return the derivative along each line by one source, and by the base gradients where it has none."""
        return np.sum(
            [
                self._scales[name]
                * (
                    self._project(name, gradients.judged_gradients[source])
                    if source in gradients.judged_gradients
                    else self._products[name]
                )
                for name, gradients in self._gradients.items()
            ],
            axis=0,
        )

    def _make_result(self, position: int, sums: Mapping[str, Array]) -> ElementResult:
        reference, allowed = float(self._values[position]), float(self._allowed[position])
        errors = {source: abs(float(values[position]) - reference) for source, values in sums.items()}
        source = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
        return ElementResult(
            index=(position,),
            source=source,
            reference=reference,
            judged_value=float(sums[source][position]),
            error_bound=float(self._bounds[position]),
            allowed_error=allowed,
            error_ratio=errors[source] / allowed,
            outcome=Outcome.PASS if errors[source] <= allowed else Outcome.INCONCLUSIVE,
        )


def _explain_nothing(cause: Cause, _: Array) -> tuple[str, str]:
    """Return the text of a cause; of a pass none is asked for."""
    return cause.description.cause, cause.description.remedy
