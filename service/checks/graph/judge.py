"""The verdict on each name."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from schemas.datatype import Array
from schemas.problem_details import escape_name, quote_name
from schemas.tensor import encode_number
from service.checks.graph.gradient_sources import GradientSources
from service.checks.graph.problem import Problem
from service.checks.graph.references import ReferenceCache
from service.checks.graph.tie_choices import CANDIDATE_ROUTE, TieChoices
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.recipe import EAGER_RECIPES, Recipe
from service.numerics.diagnosis import error_pattern
from service.numerics.gradients.sources import ANALYTIC
from service.numerics.model.nonfinite import NonFiniteOrigin
from service.numerics.ties import TieStatus
from service.numerics.verdict import directional, elementwise
from service.numerics.verdict.disagreement import Partition
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.reference import Reference, Tolerance
from service.numerics.verdict.repeatability import measure_spread
from service.numerics.verdict.scale import measure_scale


class Judge:
    """The judge of the names of one problem."""

    def __init__(
        self,
        problem: Problem,
        routes: GradientSources,
        references: ReferenceCache | None = None,
        ties: TieChoices | None = None,
    ) -> None:
        self.problem = problem
        self._routes = routes
        self._references = references or ReferenceCache(problem, routes)
        self._ties = ties or TieChoices(problem, routes, self._references)
        tolerance = problem.request.tolerance
        self._tolerance = None if tolerance is None else Tolerance(tolerance.rtol, tolerance.atol)

    def with_candidate(self, candidate: Mapping[str, Array], datatype: str | None = None) -> "Judge":
        """Return the judge of other candidates; keep the evidence on our own gradients."""
        return Judge(self.problem.with_candidate(candidate, datatype), self._routes, self._references, self._ties)

    def has_comparable_candidate(self, name: str) -> bool:
        """Return whether there is a candidate of the right shape."""
        tensor = self.problem.candidate.get(name)
        return tensor is not None and tensor.array.shape == self.problem.graph.all_shapes[name]

    def find_wrong_elements(self, name: str) -> Array:
        """Return the wrong elements of a candidate, where our own sources agree.

        Along directions nothing is known of single elements: there the analytic gradient stands for the difference.
        """
        candidate = self.problem.candidate[name].array.astype(np.float64)
        if name not in self._routes.directional_differences:
            reference, tie_status_by_source = self._build_reference(name), self._standings.get(name, {})
            return elementwise.find_failing_elements(candidate, reference, tie_status_by_source.get(CANDIDATE_ROUTE))
        gradients = self._routes.compute_own_gradients(name)
        ranges = np.ptp([gradient.astype(np.float64) for gradient in gradients.values()], axis=0)
        return ~(np.abs(candidate - gradients[ANALYTIC].astype(np.float64)) <= 2 * ranges)

    def find_disagreement(self, name: str) -> tuple[Partition, ...]:
        """Return the sources that agree and dissent; nothing where all agree.

        A source that lacks a number only for the range of the dtype does not dissent.
        """
        joint = self._routes.joint
        if joint is not None and name in joint.verdicts:
            return ()
        return self._references.find_disagreement(name).partition_elements(self.problem.get_examined_elements(name))

    def verdict(self, name: str) -> GradientVerdict:
        """Judge the candidate, or our own gradients; name the origin of non-finite ones."""
        joint = self._routes.joint
        if joint is not None and name in joint.verdicts:
            return joint.verdicts[name]
        verdict = self._judge_name(name)
        if verdict.outcome == Outcome.PASS:
            return verdict
        nonfinite_origin = self._references.find_nonfinite_origin(name)
        return (
            verdict
            if nonfinite_origin is None
            else dataclasses.replace(verdict, reason=f"{verdict.reason} {self._describe_origin(nonfinite_origin)}")
        )

    def compute_allowed_error(self, name: str) -> Array:
        """Return the allowed error of each judged element; infinite along directions."""
        if self.problem.projection_count is not None:
            return np.full(self.problem.graph.shapes[name], np.inf)
        reference = self._references.build_reference(name, self.problem.get_recipe(name))
        return reference.with_limits(self._tolerance).allowed_error

    def describe_error_pattern(self, name: str) -> str | None:
        """Describe which elements of the judged gradient fail, and what they have in common.

        Returns
        -------
        None where no element was judged by itself, or none fails.
        """
        if name in self._routes.directional_differences:
            return None
        if name in self.problem.candidate and not self.has_comparable_candidate(name):
            return None
        judged_by_route, reference = self._build_comparison(name)
        ties, examined = self._standings.get(name, {}), self.problem.get_examined_elements(name)
        for route, judged in judged_by_route.items():
            values = judged.astype(np.float64)
            outcomes = elementwise.find_element_outcomes(values, reference, ties.get(route))
            is_known: Array = outcomes != Outcome.INCONCLUSIVE
            if examined is not None:
                # What was not looked at is not known to be right.
                is_known.ravel()[np.setdiff1d(np.arange(is_known.size), examined)] = False
            is_wrong = (outcomes == Outcome.FAIL) & is_known
            if is_wrong.any():
                return error_pattern.describe_error_pattern(
                    escape_name(name), values, reference.value, reference.allowed_error, is_wrong, is_known
                )
        return None

    def _judge_name(self, name: str) -> GradientVerdict:
        candidate = self.problem.candidate.get(name)
        if candidate is not None and not self.has_comparable_candidate(name):
            return elementwise.judge_shape_mismatch(candidate.array.shape, self.problem.graph.shapes[name])
        judged_by_route, reference = self._build_comparison(name)
        verdict = self._judge_routes(judged_by_route, reference, name)
        if candidate is None:
            return verdict
        verdict = self._judge_scale(verdict, name, judged_by_route[CANDIDATE_ROUTE], reference)
        verdict = self._judge_repeats(verdict, name)
        return self._add_precision_hint(verdict, name, judged_by_route[CANDIDATE_ROUTE], reference)

    def _build_comparison(self, name: str) -> tuple[Mapping[str, Array], Reference]:
        """Return the gradients that are judged, by route, and what they are judged against."""
        dispute, candidate = self._references.find_disagreement(name), self.problem.candidate.get(name)
        if candidate is None:
            return dispute.gradients, self._build_reference(name).with_limits(self._tolerance, dispute.excused_by_range)
        precision = self.problem.get_precision(name)
        # What is beyond the range of the dtype is beyond that of an arithmetic that has no larger one.
        no_wider = precision.min_exponent >= self.problem.dtype.precision.min_exponent
        reference = self._build_reference(name).with_limits(
            self._tolerance, dispute.excused_by_range if no_wider else None, dispute.disputed_mask
        )
        return {CANDIDATE_ROUTE: self._references.find_comparable_values(name, candidate.array)}, reference

    def _judge_routes(
        self, gradients_by_route: Mapping[str, Array], reference: Reference, name: str
    ) -> GradientVerdict:
        ties = self._standings.get(name)
        if name not in self._routes.directional_differences:
            return elementwise.judge_gradient(
                gradients_by_route, reference, self.problem.get_examined_elements(name), ties=ties
            )
        shape = self.problem.graph.shapes[name]
        return directional.judge_directions(
            gradients_by_route, reference, shape, self._references.estimate_norm(name), ties
        )

    def _judge_scale(
        self, verdict: GradientVerdict, name: str, candidate: Array, reference: Reference
    ) -> GradientVerdict:
        """Fail a candidate that is too large or too small as a whole, though no element of it is far off."""
        recipe = self.problem.get_recipe(name)
        if recipe.is_uniform or reference.is_directional or reference.tolerance is not None:
            return verdict
        if self.problem.get_examined_elements(name) is not None:
            return verdict
        allowed = self._references.estimate_allowances(name, recipe).scale
        scale = measure_scale(candidate, reference, allowed)
        if scale is None:
            return verdict
        verdict = dataclasses.replace(verdict, scale=scale)
        if not scale.is_wrong or verdict.outcome == Outcome.FAIL:
            return verdict
        reason = (
            f"The candidate as a whole is {scale.factor:.6g} times the right gradient, and rounding explains a factor "
            f"between {1 - scale.allowed:.6g} and {1 + scale.allowed:.6g}. Look for a constant factor, or for a part "
            "of a sum that is missing."
        )
        return dataclasses.replace(verdict, outcome=Outcome.FAIL, reason=reason)

    def _judge_repeats(self, verdict: GradientVerdict, name: str) -> GradientVerdict:
        """Fail a candidate whose runs are farther apart than rounding explains."""
        repeats = (self.problem.request.repeats or {}).get(name)
        if repeats is None or not len(repeats.array):
            return verdict
        runs = np.concatenate([self.problem.candidate[name].array[None], repeats.array]).astype(np.float64)
        allowed = self._references.estimate_allowances(name, self.problem.get_recipe(name)).elements
        spread = measure_spread(runs, allowed)
        verdict = dataclasses.replace(verdict, spread=spread)
        if spread.is_explained:
            return verdict
        finding = (
            f"The {spread.run_count} runs are farther apart than roundings in another order explain, at "
            f"{spread.beyond_count} of {runs[0].size} elements, first at index {list(spread.first_beyond or ())}. Look "
            "for a race, for a buffer that is not initialised, or for random numbers."
        )
        reason = finding if verdict.outcome != Outcome.FAIL else f"{finding} {verdict.reason}"
        return dataclasses.replace(verdict, outcome=Outcome.FAIL, reason=reason)

    def _build_reference(self, name: str) -> Reference:
        return self._ties.build_reference(self.problem, name)

    @cached_attribute
    def _standings(self) -> dict[str, dict[str, TieStatus]]:
        """Status of gradients at ties, by name and source.

        The gradients of one source are judged together.
        """
        return self._ties.find_standings(self.problem, self._tolerance)

    def _find_lower_precision_standings(self, lower: Recipe) -> dict[str, TieStatus]:
        """Return the candidate's status at ties if its precision were lower."""
        if not any(CANDIDATE_ROUTE in by_source for by_source in self._standings.values()):
            return {}
        return self._ties.find_candidate_standings(self.problem, self._tolerance, lower)

    def _add_precision_hint(
        self, plain_verdict: GradientVerdict, name: str, candidate: Array, reference: Reference
    ) -> GradientVerdict:
        """Add a hint where a lower precision would explain the failure."""
        recipe = self.problem.get_recipe(name)
        lower = reference.precision.lower_precision if recipe == EAGER_RECIPES[recipe.judged.name] else None
        if plain_verdict.outcome != Outcome.FAIL or lower is None or reference.tolerance is not None:
            return plain_verdict
        at_lower = self._references.build_reference(name, EAGER_RECIPES[lower])
        is_failing = elementwise.find_failing_elements(
            candidate, at_lower, self._find_lower_precision_standings(EAGER_RECIPES[lower]).get(name)
        ).ravel()
        examined = self.problem.get_examined_elements(name)
        if (is_failing if examined is None else is_failing[examined]).any():
            return plain_verdict
        hint = f'It would not fail as {lower}: if it was computed so, give "candidate_dtype": "{lower}".'
        return dataclasses.replace(plain_verdict, reason=f"{plain_verdict.reason} {hint}")

    def _describe_origin(self, begins: NonFiniteOrigin) -> str:
        """Name the place at which non-finite numbers begin, in a sentence."""
        graph = self.problem.graph
        node = graph.describe_node(begins.node, lambda name: f"node {quote_name(name)}")
        value = f"{encode_number(begins.value)} at index {list(begins.index)}"
        if begins.gradient_name is None:
            return f"What is not finite begins at {node}: of finite inputs it makes {value}."
        operand = graph.describe_name(begins.gradient_name)
        return f"The loss is finite, its gradient is not: {node} hands {value} back to {operand}."
