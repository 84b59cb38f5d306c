"""The open choices at the ties of a problem, by recipe."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from schemas.datatype import Array
from service.checks.graph.gradient_sources import GradientSources
from service.checks.graph.problem import Problem
from service.checks.graph.references import ReferenceCache
from service.numerics import ties
from service.numerics.core.recipe import Recipe, RecipeKey
from service.numerics.model.graph import NamedArrays
from service.numerics.model.rounding import estimate_recipe_allowances
from service.numerics.ties import JudgedRows, TiePoint, TieStatus
from service.numerics.verdict import elementwise
from service.numerics.verdict.reference import Reference, Tolerance

CANDIDATE_ROUTE = "candidate"
"""Route of the candidate."""
_MAX_ALTERNATIVES = 2**16
"""Alternatives of one node up to which its choices are looked at."""


class TieChoices:
    """Choices of one problem, and the rounding where the ops' own are taken."""

    def __init__(self, problem: Problem, routes: GradientSources, references: ReferenceCache) -> None:
        self._problem, self._routes, self._references = problem, routes, references
        self._points: dict[RecipeKey, TiePoint] = {}
        self._roundings: dict[tuple[RecipeKey, RecipeKey], NamedArrays] = {}

    def find_choices(self, recipe: Recipe) -> TiePoint:
        """Return the choices that are open to a correct pass by a recipe."""
        if recipe.key not in self._points:
            problem = self._problem
            self._points[recipe.key] = ties.find_tie_point(
                problem.graph, problem.float64_leaves, [recipe], problem.request.seed, _MAX_ALTERNATIVES
            )
        return self._points[recipe.key]

    def compute_rounding(self, name: str, recipe: Recipe, chosen_in: Recipe) -> Array:
        """Return the rounding of a correct gradient on its pieces, by any choice.

        The largest by our own choices and by those that hand back the most, and what it does to round a weight times
        a gradient, twice.
        """
        key = recipe.key, chosen_in.key
        if key not in self._roundings:
            self._roundings[key] = self._compute_rounding(recipe, self.find_choices(chosen_in))
        return self._roundings[key][name]

    def _compute_rounding(self, recipe: Recipe, point: TiePoint) -> NamedArrays:
        problem = self._problem
        extreme_weights = point.list_extreme_weights() if point.choices_by_node else []
        every = [
            estimate_recipe_allowances(
                problem.graph, problem.float64_leaves, recipe, problem.request.seed, problem.names, fixed_backwards
            )
            for fixed_backwards in (
                point.list_fixed_choice_backwards(),
                *map(point.list_fixed_choice_backwards, extreme_weights),
            )
        ]
        sizes = [
            point.compute_gradients_by_weights({name: weights[None] for name, weights in node_weights.items()})
            for node_weights in extreme_weights
        ]
        return {
            name: np.max([allowances[name].elements for allowances in every], axis=0)
            + 2
            * recipe.coarsest_roundoff
            * np.max([np.abs(gradients[name][0]) for gradients in sizes], axis=0, initial=0)
            for name in problem.names
        }

    def build_reference(self, problem: Problem, name: str) -> Reference:
        """Return the reference of a gradient; at kinks, with the rounding of its pieces.

        The choices at ties are judged apart.
        """
        reference = self._references.build_reference(name, problem.get_recipe(name))
        if not reference.is_kink.any():
            return reference
        coarsest = _find_coarsest(problem.get_recipe(other_name) for other_name in problem.names)
        rounding = self._compute_piece_rounding(name, problem.get_recipe(name), coarsest)
        return dataclasses.replace(reference, rounding=np.where(reference.is_kink, rounding, reference.rounding))

    def find_standings(self, problem: Problem, tolerance: Tolerance | None) -> dict[str, dict[str, TieStatus]]:
        """Return the status of gradients at ties, by name and source.

        Parameters
        ----------
        problem
            Problem with its candidate.
        tolerance
            Tolerance of the client; None for the error that bounds and rounding allow.
        """
        judged_names = [name for name in problem.names if name not in problem.candidate]
        by_route = {CANDIDATE_ROUTE: self.find_candidate_standings(problem, tolerance)}
        for route in self._routes.by_source:
            judged = {
                name: self._references.find_comparable_values(name, self._routes.compute_own_gradients(name)[route])
                for name in judged_names
            }
            by_route[route] = self._judge_together(
                judged, {name: problem.get_recipe(name) for name in judged_names}, tolerance
            )
        status_by_name: dict[str, dict[str, TieStatus]] = {}
        for route, standings in by_route.items():
            for name, status in standings.items():
                status_by_name.setdefault(name, {})[route] = status
        return status_by_name

    def find_candidate_standings(
        self, problem: Problem, tolerance: Tolerance | None, recipe: Recipe | None = None
    ) -> dict[str, TieStatus]:
        """Return the candidate's status at ties by name, by its own recipe or another."""
        arrays = {name: problem.candidate[name].array for name in problem.names if name in problem.candidate}
        judged = {
            name: self._references.find_comparable_values(name, gradient)
            for name, gradient in arrays.items()
            if gradient.shape == problem.graph.shapes[name]
        }
        return self._judge_together(judged, {name: recipe or problem.get_recipe(name) for name in judged}, tolerance)

    def _judge_together(
        self, gradients: Mapping[str, Array], recipes: Mapping[str, Recipe], tolerance: Tolerance | None
    ) -> dict[str, TieStatus]:
        """Judge some gradients of one source together.

        Nothing where there is no kink and nothing exceeds what is allowed: then no choice excuses anything.
        """
        references = {
            name: self._references.build_reference(name, recipes[name]).with_limits(tolerance) for name in gradients
        }
        has_kinks = any(reference.is_kink.any() for reference in references.values())
        if not has_kinks and not any(
            self._has_failing_element(name, gradients[name], reference) for name, reference in references.items()
        ):
            return {}
        coarsest = _find_coarsest(recipes.values())
        if not has_kinks and not self.find_choices(coarsest).choices_by_node:
            return {}
        rows: dict[str, JudgedRows] = {}
        for name, reference in references.items():
            on_pieces = dataclasses.replace(
                reference, rounding=self._compute_piece_rounding(name, recipes[name], coarsest)
            )
            directional_difference = self._routes.directional_differences.get(name)
            rows[name] = self._build_rows(
                name,
                gradients[name],
                on_pieces,
                None if directional_difference is None else directional_difference.directions,
            )
        status_by_name = ties.judge_at_ties(self.find_choices(coarsest), rows, self._problem.request.seed)
        return {name: status.reshape_masks(gradients[name].shape) for name, status in status_by_name.items()}

    def _has_failing_element(self, name: str, gradient: Array, reference: Reference) -> bool:
        disagreement = self._references.find_disagreement(name)
        if reference is disagreement.reference:
            for source, own_gradient in disagreement.gradients.items():
                if gradient is own_gradient:
                    return bool(disagreement.failing_masks[source].any())
        return bool(elementwise.find_failing_elements(gradient, reference).any())

    def _compute_piece_rounding(self, name: str, recipe: Recipe, coarsest: Recipe) -> Array:
        """Return the rounding on the pieces, by element or along directions."""
        rounding, directional_difference = (
            self.compute_rounding(name, recipe, coarsest),
            self._routes.directional_differences.get(name),
        )
        return (
            rounding
            if directional_difference is None
            else directional_difference.project_rounding(rounding, self._routes.compute_own_gradients(name).values())
        )

    def _build_rows(self, name: str, gradient: Array, reference: Reference, directions: Array | None) -> JudgedRows:
        examined = np.ones(gradient.shape, np.bool_)
        examined_elements = self._problem.get_examined_elements(name)
        if examined_elements is not None:
            examined = np.zeros(gradient.size, np.bool_)
            examined[examined_elements] = True
        return JudgedRows(gradient, reference.allowed_error, reference.is_kink, examined, directions)


def _find_coarsest(recipes: Iterable[Recipe]) -> Recipe:
    return max(recipes, key=lambda recipe: recipe.coarsest_roundoff)
