"""The verdict on what was computed of a vector-valued function, output by output.

For an output y with m elements and a tensor w with n, J is the Jacobian. Three products of it can be judged:

- a vector-Jacobian product c J, the gradient of the scalar c . y, along the lines of the plan;
- Jacobian-vector products J v, one for each line v, each element of y by itself;
- J itself, row by row, by the elements of w that were moved alone: each row is the gradient of one element of y.

A product that passes agrees with the differences of its own output alone, so that no other output hides it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from service.numerics.blackbox import miss_probability
from service.numerics.blackbox.allowance import measure_row_sizes
from service.numerics.blackbox.candidate_judge import TensorJudgement, judge_candidates
from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.comparison_entries import flatten_comparison, join_comparisons
from service.numerics.blackbox.constant_factor import diagnose_factor
from service.numerics.blackbox.dot_test import DotTest, ProductPair, run_dot_test
from service.numerics.blackbox.function_differences import OutputDerivatives, difference_output
from service.numerics.blackbox.layout import EvaluationLayout
from service.numerics.blackbox.line_comparison import LineComparison, compare_candidate, compare_tangents
from service.numerics.blackbox.output_contraction import (
    choose_tighter,
    contract_derivatives,
    estimate_part_deviation,
)
from service.numerics.blackbox.tensor_verdict import make_product_verdict
from service.numerics.core.batching import Array, Shape
from service.numerics.core.precision import PRECISIONS, Precision
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.verdict.gradient_verdict import GradientVerdict, JudgedEntries
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit, compute_norm_detection_limit
from service.numerics.verdict.reference import Tolerance


@dataclass(frozen=True)
class ProductJudgement:
    """The judgement on Jacobian-vector products, or on a Jacobian.

    Attributes
    ----------
    verdict
        Verdict by element.
    entries
        Numbers of each judged element.
    single_miss_probability
        Probability that a single element of a Jacobian passed with the sought relative error; None for products.
    diagnosis
        Constant factor that explains a failing candidate; None if there is none.
    noise
        Standard deviation of an evaluation of the element with the most noise.
    """

    verdict: GradientVerdict
    entries: JudgedEntries
    single_miss_probability: float | None
    diagnosis: BugExplanation | None
    noise: float


class OutputJudge:
    """Judges what was computed of one output.

    Parameters
    ----------
    layout
        Points of the evaluations.
    values
        Values of the output at the points, (evaluations, *shape): NaN at points without a value.
    sought_error
        Relative error of one element, for the probability to miss it.
    tolerance
        Tolerance that replaces the allowance of a candidate; None by default.
    """

    def __init__(
        self, layout: EvaluationLayout, values: Array, sought_error: float, tolerance: Tolerance | None = None
    ) -> None:
        self._layout, self._shape = layout, values.shape[1:]
        self._values = values.reshape(len(values), -1).astype(np.float64)
        self._sought_error, self._tolerance = sought_error, tolerance
        self._derivatives: dict[str, OutputDerivatives] = {}

    def differentiate(self, name: str) -> OutputDerivatives:
        """Return the derivatives of all elements along the lines of a tensor, (m, k)."""
        if name not in self._derivatives:
            self._derivatives[name] = difference_output(self._layout, name, self._values)
        return self._derivatives[name]

    def judge_gradients(
        self, cotangent: Array, gradients: Mapping[str, Array], precisions: Mapping[str, Precision]
    ) -> dict[str, TensorJudgement]:
        """Judge a vector-Jacobian product.

        Parameters
        ----------
        cotangent
            c, of the shape of the output.
        gradients, precisions
            c J, and its arithmetic, by the name of the tensor.
        """
        weights = cotangent.astype(np.float64).ravel()
        active = np.flatnonzero(weights)
        with np.errstate(over="ignore", invalid="ignore"):
            losses = self._values[:, active] @ weights[active]
        losses = np.where(np.isfinite(losses), losses, np.nan)

        def tighten(name: str, of_sum: DirectionalDerivatives) -> DirectionalDerivatives:
            return choose_tighter(of_sum, contract_derivatives(self.differentiate(name).derivatives, weights))

        _, judgements = judge_candidates(
            self._layout,
            losses,
            gradients,
            precisions,
            self._sought_error,
            self._tolerance,
            tighten,
            self._estimate_part_deviation(active, weights),
        )
        return judgements

    def _estimate_part_deviation(self, active: Array, weights: Array) -> float:
        """Return the deviation of a sum of narrow elements; points in a narrow datatype are far apart, and show it."""
        roundoffs = [point.schedule.precision.unit_roundoff for point in self._layout.points.values()]
        if max(roundoffs) > PRECISIONS["FP32"].unit_roundoff:
            return 0.0
        return estimate_part_deviation(self._values[:, active], weights[active])

    def judge_jacobian(self, name: str, jacobian: Array, precision: Precision) -> ProductJudgement:
        """Judge the Jacobian by a tensor of which single elements were moved, (*output, *tensor)."""
        lines, point = self._layout.lines[name], self._layout.points[name]
        assert lines.moved_elements is not None
        derivatives, size = self.differentiate(name), point.values.size
        rows = jacobian.astype(np.float64).reshape(-1, size)

        def compare_in(precision: Precision) -> LineComparison:
            with np.errstate(all="ignore"):
                return compare_candidate(lines, point, rows, derivatives.derivatives, precision, self._tolerance)

        comparison = flatten_comparison(compare_in(precision))
        elements = (np.arange(len(rows))[:, None] * size + lines.moved_elements).ravel()
        missed = miss_probability.compute_element_miss_probability(
            np.where(np.isfinite(rows), rows, 0.0).ravel(),
            elements,
            comparison.unnoticed_error,
            np.where(np.isfinite(comparison.reference.deviation), comparison.reference.deviation, 0.0),
            self._sought_error,
        )
        return self._make_judgement(
            comparison,
            (*self._shape, *point.values.shape),
            elements,
            lambda precision: flatten_comparison(compare_in(precision)),
            [derivatives],
            single_miss_probability=missed,
        )

    def judge_products(self, products: Array, precision: Precision) -> ProductJudgement:
        """Judge Jacobian-vector products, (directions, *output), in the order of the lines of all tensors."""
        rows = products.astype(np.float64).reshape(len(products), -1).T
        compare_in = partial(self._compare_products, rows)
        comparison, names = compare_in(precision), list(self._layout.points)
        judgement = self._make_judgement(
            comparison,
            (len(products), *self._shape),
            np.arange(products.size),
            compare_in,
            [self.differentiate(name) for name in names],
            sizes=self._measure_sizes(rows),
        )
        limit = self._find_detection_limit(rows, comparison)
        return judgement if limit is None else _replace_limit(judgement, limit)

    def run_dot_test(
        self, name: str, cotangent: Array, gradient: Array, products: Array, precision: Precision
    ) -> DotTest:
        """Hold a vector-Jacobian product, of the tensor's shape, against products, (directions, *output)."""
        where = dict(self._locate_directions())[name]
        pair = ProductPair(
            cotangent.astype(np.float64).ravel(),
            self._values[0],
            gradient.astype(np.float64).ravel(),
            products.astype(np.float64).reshape(len(products), -1).T[:, where],
            precision,
        )
        return run_dot_test(self._layout.lines[name], self._layout.points[name], pair)

    def _compare_products(self, rows: Array, precision: Precision) -> LineComparison:
        """Compare products, (m, directions), tensor by tensor; the entries are in the order (directions, m)."""
        parts: list[LineComparison] = []
        for name, where in self._locate_directions():
            lines, point = self._layout.lines[name], self._layout.points[name]
            reference = self.differentiate(name).derivatives
            with np.errstate(all="ignore"):
                part = compare_tangents(lines, point, rows[:, where], reference, precision, self._tolerance)
            parts.append(flatten_comparison(part, transpose=True))
        return join_comparisons(parts)

    def _locate_directions(self) -> list[tuple[str, slice]]:
        """Return the tensors with the places of their lines among all directions."""
        places: list[tuple[str, slice]] = []
        first = 0
        for name, lines in self._layout.lines.items():
            places.append((name, slice(first, first + len(lines))))
            first += len(lines)
        return places

    def _measure_sizes(self, rows: Array) -> Array | None:
        """Return the sizes of the rows for every product, (directions x m); None for moves of single elements."""
        if any(lines.moved_elements is not None for lines in self._layout.lines.values()):
            return None
        places = [where for _, where in self._locate_directions()]
        return np.concatenate([np.tile(measure_row_sizes(rows[:, at]), at.stop - at.start) for at in places])

    def _find_detection_limit(self, rows: Array, comparison: LineComparison) -> NormDetectionLimit | None:
        """Return the largest error of a row of the Jacobian that may have been missed; None without random lines."""
        if any(lines.moved_elements is not None for lines in self._layout.lines.values()):
            return None
        limits: list[NormDetectionLimit] = []
        with np.errstate(all="ignore"):
            slack = (comparison.unnoticed_error + comparison.allowance.allowed_error).reshape(rows.shape[1], -1).T
        for name, where in self._locate_directions():
            lines, sizes = self._layout.lines[name], measure_row_sizes(rows[:, where])
            with np.errstate(all="ignore"):
                own = slack[:, where] * lines.zero_concentration
                relative = own.max(axis=1) / np.where(sizes == 0, np.nan, sizes)
            if np.isfinite(relative).any():
                worst = int(np.nanargmax(relative))
                limits.append(compute_norm_detection_limit(own[worst], float(sizes[worst]), lines.moves.coarseness))
        return max(limits, key=lambda limit: limit.relative_l2, default=NormDetectionLimit(np.inf, 1.0))

    def _make_judgement(
        self,
        comparison: LineComparison,
        shape: Shape,
        flat_indices: Array,
        compare_in: Callable[[Precision], LineComparison],
        derivatives: Sequence[OutputDerivatives],
        single_miss_probability: float | None = None,
        sizes: Array | None = None,
    ) -> ProductJudgement:
        deterministic = all(bool(part.noise.is_deterministic.all()) for part in derivatives)
        with np.errstate(all="ignore"):
            verdict, entries = make_product_verdict(
                comparison, shape, flat_indices, compare_in, sizes, deterministic=deterministic
            )
            diagnosis = None
            if verdict.outcome == Outcome.FAIL:
                diagnosis = diagnose_factor(
                    comparison.reference.value,
                    comparison.candidate_derivatives,
                    comparison.allowance.allowed_error,
                )
        noise = max(float(np.nanmax(part.noise.deviation, initial=0.0)) for part in derivatives)
        return ProductJudgement(verdict, entries, single_miss_probability, diagnosis, noise)


def _replace_limit(judgement: ProductJudgement, limit: NormDetectionLimit) -> ProductJudgement:
    return replace(judgement, verdict=replace(judgement.verdict, detection_limit=limit))
