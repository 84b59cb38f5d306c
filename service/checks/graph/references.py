"""The references of a problem: differences, bounds and rounding."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from schemas.datatype import Array
from service.checks.graph.gradient_sources import GradientSources
from service.checks.graph.problem import Problem
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.recipe import EAGER_RECIPES, Recipe, RecipeKey
from service.numerics.gradients.finite_difference import Difference
from service.numerics.model import nonfinite
from service.numerics.model.nonfinite import NonFiniteOrigin
from service.numerics.model.rounding import Allowances, estimate_recipe_allowances
from service.numerics.verdict import directional, elementwise, projection
from service.numerics.verdict.disagreement import Disagreement
from service.numerics.verdict.reference import Reference
from service.numerics.verdict.zero_gradients import Float64Recomputation, compute_peer_magnitudes, find_zero_tolerance

_MAX_KEPT_ELEMENTS = 2**12
"""Elements of a tensor up to which its references are kept: a few hundred kilobytes."""


class ReferenceCache:
    """A cache of references by name and recipe, and of their evidence."""

    def __init__(self, problem: Problem, routes: GradientSources) -> None:
        self._problem = problem
        self._routes = routes
        self._allowances: dict[RecipeKey, Mapping[str, Allowances]] = {}
        self._disagreements: dict[str, Disagreement] = {}
        self._built: dict[tuple[str, RecipeKey], Reference] = {}
        self._sizes: dict[str, tuple[float, Array | None]] = {}

    def find_comparable_values(self, name: str, gradient: Array) -> Array:
        """Return a gradient, or its inner products with the tensor's directions."""
        directional_difference = self._routes.directional_differences.get(name)
        return (
            gradient.astype(np.float64, copy=False)
            if directional_difference is None
            else directional_difference.project_gradient(gradient)
        )

    def build_reference(self, name: str, recipe: Recipe) -> Reference:
        """Return the reference of a gradient by a recipe.

        That of a small tensor is kept with all that follows from it. Those of large tensors would take memory until the
        end of the check.
        """
        key = name, recipe.key
        if key in self._built:
            return self._built[key]
        reference = self._build_reference(name, recipe)
        if reference.value.size <= _MAX_KEPT_ELEMENTS:
            self._built[key] = reference
        return reference

    def _build_reference(self, name: str, recipe: Recipe) -> Reference:
        directional_difference = self._routes.directional_differences.get(name)
        difference = (
            self._routes.differences[name] if directional_difference is None else directional_difference.difference
        )
        left, right, kink_slack = difference.left_derivative, difference.right_derivative, 0.0
        if directional_difference is not None:
            left, right, kink_slack = directional.find_one_sided_derivatives(difference)
        size, zero_tolerance = self._estimate_size(name, difference)
        return Reference(
            difference.value,
            np.where(self._find_undefined(name), np.inf, difference.error_bound),
            self._compute_rounding(name, recipe),
            recipe.judged,
            left_derivative=left,
            right_derivative=right,
            convention_gradients=tuple(
                self.find_comparable_values(name, gradient)
                for gradient in self._routes.compute_own_gradients(name).values()
            ),
            peer_magnitude=size,
            zero_tolerance=zero_tolerance,
            is_directional=directional_difference is not None,
            kink_slack=kink_slack,
        )

    def _find_undefined(self, name: str) -> Array:
        """Return the mask of the elements that have no derivative, since the loss has no value here because of them.

        A difference does not see that: it moves the element away, as that of sin(x) / x at 0. The range of the dtype
        alone makes no element undefined, so that the routes are asked in float64.
        """
        if np.isfinite(self._routes.analytic.values[self._problem.graph.loss_name]).all():
            return np.zeros((), np.bool_)
        gradients = self._float64_recomputation.compute_own_gradients(name).values()
        return ~np.any([np.isfinite(self.find_comparable_values(name, gradient)) for gradient in gradients], axis=0)

    def find_disagreement(self, name: str) -> Disagreement:
        """Compare our own gradients with the difference; excuse the dtype's range."""
        if name not in self._disagreements:
            comparable_gradients = {
                source: self.find_comparable_values(name, gradient)
                for source, gradient in self._routes.compute_own_gradients(name).items()
            }
            disagreement = Disagreement(comparable_gradients, self.build_reference(name, self._problem.own_recipe))
            excused = self._find_out_of_range(name, disagreement)
            self._disagreements[name] = (
                disagreement if excused is None else dataclasses.replace(disagreement, excused_by_range=excused)
            )
        return self._disagreements[name]

    def find_nonfinite_origin(self, name: str) -> NonFiniteOrigin | None:
        """Return the origin of non-finite numbers on the way of a gradient, or None."""
        analytic = self._routes.analytic
        return nonfinite.find_origin(self._problem.graph, analytic.values, analytic.gradients, name)

    def estimate_norm(self, name: str) -> float:
        """Return the norm of a gradient, or a lower bound of it; 0 if none is known."""
        for gradients, rounding in self._iterate_own_gradients(name):
            norms = [
                projection.euclidean_norm(gradient.astype(np.float64))
                for gradient in gradients
                if np.isfinite(gradient).all()
            ]
            smallest_norm = min(norms, default=0.0) - projection.euclidean_norm(rounding)
            if smallest_norm > 0:
                return smallest_norm
        return 0.0

    def _iterate_own_gradients(self, name: str) -> Iterator[tuple[Collection[Array], Array]]:
        """Yield our own gradients with their rounding, in the dtype, then in float64."""
        yield (
            self._routes.compute_own_gradients(name).values(),
            self._compute_element_rounding(name, self._problem.own_recipe),
        )
        yield (
            self._float64_recomputation.compute_own_gradients(name).values(),
            self._float64_recomputation.estimate_rounding_allowance(name),
        )

    def _find_out_of_range(self, name: str, disagreement: Disagreement) -> Array | None:
        """Return where the range of the dtype alone makes a source wrong.

        It may do so where something on the way is so large or small that a power of it is no number of the dtype, and
        it did where both routes are right in float64. In float64 itself at least one of them has to be right, or
        neither has a number.
        """
        is_out_of_range = ~np.all([np.isfinite(gradient) for gradient in disagreement.gradients.values()], axis=0)
        if not (is_out_of_range | disagreement.disputed_mask).any():
            return None
        may_overflow = self._squares_may_overflow(name)
        if self._problem.dtype.is_narrow:
            is_out_of_range |= disagreement.disputed_mask & may_overflow
            reference, routes = (
                self.build_reference(name, EAGER_RECIPES["FP64"]),
                self._float64_recomputation.compute_own_gradients(name).values(),
            )
            right = np.all(
                [
                    ~elementwise.find_failing_elements(self.find_comparable_values(name, gradient), reference)
                    for gradient in routes
                ],
                axis=0,
            )
        else:
            # Nothing tells which of them is right where there is no difference, as where a probability rounds to 1.
            is_out_of_range = disagreement.disputed_mask & (may_overflow | disagreement.reference.is_missing)
            routes = disagreement.gradients.values()
            right = np.any(
                [~elementwise.find_failing_elements(gradient, disagreement.reference) for gradient in routes], axis=0
            )
            right |= ~np.any([np.isfinite(gradient) for gradient in routes], axis=0)
        is_out_of_range &= right
        return is_out_of_range if is_out_of_range.any() else None

    def _squares_may_overflow(self, name: str) -> bool:
        """Return whether powers of intermediate numbers may leave the dtype's range.

        The powers are those that the ops take.
        """
        power = max(node.op.largest_power for node in self._problem.graph.nodes)
        edge = 2.0 ** (self._problem.dtype.precision.min_exponent / power)
        sizes = [np.abs(values.astype(np.float64)) for values in self._routes.analytic.values.values() if values.size]
        return self.find_nonfinite_origin(name) is not None or any(
            bool(((sizes_of_node > 1 / edge) | ((sizes_of_node < edge) & (sizes_of_node > 0))).any())
            for sizes_of_node in sizes
        )

    @cached_attribute
    def _float64_recomputation(self) -> Float64Recomputation:
        """All sources again, in float64, at the point that was rounded to the dtype."""
        problem = self._problem
        return Float64Recomputation(problem.graph, problem.float64_leaves, problem.names, problem.request.seed)

    def _estimate_size(self, name: str, difference: Difference) -> tuple[float, Array | None]:
        """Return the size of a gradient beside its difference, and its zero tolerance.

        Neither is asked for where the difference has a size, unless the largest element may be none that it looked at.
        """
        if name not in self._sizes:
            self._sizes[name] = self._compute_size(name, difference)
        return self._sizes[name]

    def _compute_size(self, name: str, difference: Difference) -> tuple[float, Array | None]:
        directional_difference = self._routes.directional_differences.get(name)
        with np.errstate(invalid="ignore"):
            nonzero = np.isfinite(difference.error_bound) & (np.abs(difference.value) > difference.error_bound)
        if not nonzero.any():
            known, rounding = (
                self._float64_recomputation.collect_zero_evidence(name),
                self._float64_recomputation.estimate_rounding_allowance(name),
            )
            rounding = (
                rounding
                if directional_difference is None
                else directional_difference.project_rounding(
                    rounding, self._float64_recomputation.compute_own_gradients(name).values()
                )
            )
            return known.largest_magnitude, find_zero_tolerance(known, difference, rounding)
        if directional_difference is not None:
            return self.estimate_norm(name), None
        if self._problem.get_examined_elements(name) is None:
            return 0.0, None
        precision = self._problem.dtype.precision
        gradients = [gradient.astype(np.float64) for gradient in self._routes.compute_own_gradients(name).values()]
        sizes = compute_peer_magnitudes(
            gradients, self._compute_element_rounding(name, self._problem.own_recipe), precision.unit_roundoff
        )
        return float(sizes.max(initial=0)), None

    def _compute_rounding(self, name: str, recipe: Recipe) -> Array:
        """Return the rounding of a correct gradient, by element or along directions."""
        directional_difference, rounding = (
            self._routes.directional_differences.get(name),
            self._compute_element_rounding(name, recipe),
        )
        return (
            rounding
            if directional_difference is None
            else directional_difference.project_rounding(rounding, self._routes.compute_own_gradients(name).values())
        )

    def _compute_element_rounding(self, name: str, recipe: Recipe) -> Array:
        """Return the rounding allowance of each element of a correct gradient."""
        return self.estimate_allowances(name, recipe).elements

    def estimate_allowances(self, name: str, recipe: Recipe) -> Allowances:
        """Return the rounding allowances of a correct gradient by a recipe."""
        if recipe.key not in self._allowances:
            problem = self._problem
            self._allowances[recipe.key] = estimate_recipe_allowances(
                problem.graph, problem.float64_leaves, recipe, problem.request.seed, problem.names
            )
        return self._allowances[recipe.key][name]
