"""Recipes beside that of a candidate, whose further roundings explain its errors.

A kernel may add up in fewer digits than its author says, or round at a place that its recipe does not name. Its errors
are then those of another recipe. No single number shows that, since no two programs round alike: all of them do. A
gradient without a recipe, in one arithmetic for everything, is left out: a lower one shows in its digits.

Notes
-----
By a recipe r the error e_i of element i has a root mean square s_i(r), found by running r, and never exceeds the
allowance a_i(r). r explains a candidate if

- no error exceeds a_i(r), of this candidate and of those beside it, and the factor that fits each gradient best is
  within its own allowance;
- the root R of mean((e_i / s_i)^2) is between 1/2 and 2: errors are neither larger than the roundings make them, nor
  far smaller;
- the median of abs(e_i / s_i) is 0.35 R or more: most elements are off, and not a few of them.

Sums in few digits have a rounding for each term. Their errors are those of roundings of every value and gradient, and
larger by up to the root of the number of terms: R may be up to 10, and a_i(r) is that of a recipe with such sums.

Recipes compete by the pattern of their errors and not by its size. With the scale c that fits best, the normal density
of the n errors of a gradient, with root mean squares c s_i(r), has the logarithm

    log L(r) = -sum_i log s_i(r) - n log R + constant,

summed over the gradients of all candidates with the recipe.

Recipes within log(1000) + n / 30 of the likeliest one explain the errors about as well as it, and are named together:
a factor of 1000 in the likelihood, and root mean squares that are a fifth off.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.precision import PRECISIONS, Precision
from service.numerics.core.recipe import GRADIENT_PREFIX, Recipe
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.diagnosis.context import MAX_KEPT_ELEMENTS, DiagnosisContext
from service.numerics.diagnosis.explanation import BugExplanation, measure_relative_distance
from service.numerics.diagnosis.lower_precisions import list_lower_precisions
from service.numerics.model.rounding import Allowances

_BUG_NAME = "low_precision"
_MIN_ELEMENTS = 8
_WORK_A_NODE = 2**21
"""Multiply-adds that take as long as the calls of a node's passes for the allowance of a recipe."""
_MAX_NAMED = 3
_INCOMPLETE_NOTE = " The model is too large to try the rounding of every value and gradient."
_SMALLEST_RATIO, _RATIO_OF_ONE, _RATIO_OF_MANY = 0.5, 2.0, 10.0
"""Root R of mean((e / s)^2): the smallest one, and the largest ones of one rounding and of many in each sum."""
_LEAST_SQUARE = 2.0**-100
"""Mean square of errors over their sizes, of a gradient without errors."""
_MIN_MEDIAN = 0.35
"""Median of abs(e / s) over the root of mean((e / s)^2): 0.67 of normal errors, 0.87 of uniform ones."""
_LIKELIHOOD_LOSS, _LIKELIHOOD_LOSS_AN_ELEMENT = math.log(1000.0), 1 / 30
_PASSES_A_RECIPE = 200
"""Forward and backward passes that the allowance of a recipe takes, in forward passes."""


@dataclass(frozen=True)
class OtherRecipe:
    """A recipe with one more rounding than that of a candidate.

    Attributes
    ----------
    recipe
        The recipe.
    difference
        Noun for its further rounding: "a rounding of h to BF16".
    bounding_recipe
        Recipe that bounds the errors; the same by default.
    largest_ratio
        Largest root R of mean((e / s)^2) of errors e with the root mean squares s by the recipe.
    """

    recipe: Recipe
    difference: str
    bounding_recipe: Recipe | None = None
    largest_ratio: float = _RATIO_OF_ONE


def explain_by_other_recipes(context: DiagnosisContext, name: str, work: int) -> BugExplanation | None:
    """Explain the errors of a candidate by roundings beside those of its recipe; None if none explains them.

    Parameters
    ----------
    context
        The model and the candidates.
    name
        Name of a wrong candidate.
    work
        Multiply-adds that the search may take.
    """
    candidate, right = context.candidates[name], context.get_right_gradient(name)
    if name not in context.recipes or candidate.shape != right.shape or right.size < _MIN_ELEMENTS:
        return None
    if not (np.isfinite(candidate).all() and np.isfinite(right).all()):
        return None
    count = _count_affordable(context, work)
    if not count or not _may_be_roundings(context, name):
        return None
    others = list(islice(iterate_other_recipes(context, context.get_recipe(name)), count + 1))
    is_complete = len(others) <= count
    likely = _find_likely_recipes(context, name, others[:count])
    if not likely:
        return None
    text = (
        f"The errors of {context.describe_gradient(name)} are like those of {_join_alternatives(likely)}, in size and "
        f"place. The recipe of the check allows for {context.get_recipe(name).describe()} alone. If nothing is rounded "
        f"there, a small term may be missing, such as an eps.{'' if is_complete else _INCOMPLETE_NOTE}"
    )
    return BugExplanation(_BUG_NAME, text, measure_relative_distance(candidate, right))


def _may_be_roundings(context: DiagnosisContext, name: str) -> bool:
    """Tell whether the errors of a candidate are within those of the coarsest arithmetic that it may have."""
    errors = np.abs(context.candidates[name] - context.get_right_gradient(name))
    recipe = context.get_recipe(name)
    return any(
        (errors <= context.estimate_recipe_allowances(_compute_in(context, recipe, precision))[name].elements).all()
        for precision in _list_stored(recipe)
    )


def _count_affordable(context: DiagnosisContext, work: int) -> int:
    """Return the number of recipes that a search may try."""
    cost = _PASSES_A_RECIPE * context.graph.estimate_cost().total_work + _WORK_A_NODE * len(context.graph.nodes)
    return min(max(1, work // cost), MAX_KEPT_ELEMENTS // context.candidate_size)


def _find_likely_recipes(context: DiagnosisContext, name: str, others: Sequence[OtherRecipe]) -> list[OtherRecipe]:
    """Return the recipes that explain the errors of a candidate, and of those beside it.

    Arithmetic in few digits comes first, since it is the most common cause, then the likeliest rounding.
    """
    errors = _list_errors(context, name)
    possible = [other for other in iterate_interruptibly(others) if _is_possible(context, name, errors, other)]
    likelihoods = [_compute_likelihood(errors, _estimate_sizes(context, other)) for other in possible]
    least = max(likelihoods, default=0.0) - _find_likelihood_loss(errors)
    likely = [pair for pair in zip(likelihoods, possible, strict=True) if pair[0] >= least]
    return [other for _, other in sorted(likely, key=lambda pair: (pair[1].bounding_recipe is None, -pair[0]))]


def _is_possible(context: DiagnosisContext, name: str, errors: Mapping[str, Array], other: OtherRecipe) -> bool:
    """Tell whether a recipe allows for all errors, and makes those of a candidate about as large as they are."""
    bounds = context.estimate_recipe_allowances(other.bounding_recipe or other.recipe)
    return all(
        _are_allowed(error, context.get_right_gradient(other_name), bounds[other_name])
        for other_name, error in errors.items()
    ) and _are_like_roundings(errors[name] / _estimate_sizes(context, other)[name], other.largest_ratio)


def _estimate_sizes(context: DiagnosisContext, other: OtherRecipe) -> dict[str, Array]:
    """Return the root mean square of each error by a recipe, a tiny number for exact elements."""
    sizes = {
        name: allowances.root_mean_squares
        for name, allowances in context.estimate_recipe_allowances(other.recipe).items()
    }
    return {
        name: np.maximum(size, max(2.0**-52 * float(size.max(initial=0.0)), np.finfo(np.float64).tiny))
        for name, size in sizes.items()
    }


def _find_likelihood_loss(errors: Mapping[str, Array]) -> float:
    """Return the loss up to which a recipe explains errors about as well as the likeliest one."""
    return _LIKELIHOOD_LOSS + _LIKELIHOOD_LOSS_AN_ELEMENT * sum(error.size for error in errors.values())


def _join_alternatives(others: list[OtherRecipe]) -> str:
    """Join alternatives: "a, b or c", or "a, b, c or one of 2 others"."""
    named = [other.difference for other in others[:_MAX_NAMED]]
    if len(others) > _MAX_NAMED:
        named.append(f"one of {len(others) - _MAX_NAMED} others")
    return " or ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def iterate_other_recipes(context: DiagnosisContext, recipe: Recipe) -> Iterator[OtherRecipe]:
    """Yield the recipes with one more kind of rounding: sums, factors, inputs, and single places.

    Parameters
    ----------
    context
        The model and the candidates.
    recipe
        Recipe of a candidate.
    """
    stored = _list_stored(recipe)
    if recipe.every_cast is None:
        for precision in stored:
            every_cast, in_sums = _cast_everything(context, recipe, precision), _compute_in(context, recipe, precision)
            text = f"arithmetic in {precision.name} (sums, or every value and gradient)"
            yield OtherRecipe(every_cast, text, in_sums, _RATIO_OF_MANY)
    if recipe.products is None and recipe.accumulate.significand_bits > PRECISIONS["TF32"].significand_bits:
        for precision in (PRECISIONS["TF32"], *stored):
            yield OtherRecipe(replace(recipe, products=precision), f"factors of products in {precision.name}")
    for precision in stored if recipe.every_cast is None else ():
        text = f"a further rounding of the tensors to {precision.name}"
        yield OtherRecipe(_add_casts(recipe, _list_leaves(context), precision), text)
        yield from _iterate_single_casts(context, recipe, precision)


def _iterate_single_casts(context: DiagnosisContext, recipe: Recipe, precision: Precision) -> Iterator[OtherRecipe]:
    """Yield the recipes with one more cast, of a value or of a gradient."""
    for place in _list_places(context):
        if place not in recipe.casts:
            text = context.describe_name(place.removeprefix(GRADIENT_PREFIX))
            text = f"the gradient at {text}" if place.startswith(GRADIENT_PREFIX) else text
            yield OtherRecipe(_add_casts(recipe, [place], precision), f"a rounding of {text} to {precision.name}")


def _list_places(context: DiagnosisContext) -> list[str]:
    """List the values and gradients of the nodes, as casts name them."""
    names = [node.name for node in context.graph.nodes if context.values[node.name].dtype.kind == "f"]
    return [place for name in names for place in (name, GRADIENT_PREFIX + name)]


def _list_leaves(context: DiagnosisContext) -> list[str]:
    """List the tensors of floats."""
    return [name for name, leaf in context.leaves.items() if leaf.dtype.kind == "f"]


def _compute_in(context: DiagnosisContext, recipe: Recipe, precision: Precision) -> Recipe:
    """Return a recipe that also adds up in an arithmetic, and rounds every tensor, value and gradient to it."""
    every_cast = _cast_everything(context, recipe, precision)
    return replace(_add_casts(every_cast, _list_leaves(context), precision), accumulate=precision)


def _cast_everything(context: DiagnosisContext, recipe: Recipe, precision: Precision) -> Recipe:
    """Return a recipe that rounds every value and gradient."""
    return _add_casts(recipe, [place for place in _list_places(context) if place not in recipe.casts], precision)


def _add_casts(recipe: Recipe, places: Iterable[str], precision: Precision) -> Recipe:
    return replace(recipe, casts=MappingProxyType({**recipe.casts, **dict.fromkeys(places, precision)}))


def _list_stored(recipe: Recipe) -> list[Precision]:
    """List the arithmetics in which a program stores, below that in which it accumulates; all where it has none.

    TF32 is none: programs multiply in it, and store nothing. FP16 has its digits, and is none unless it is named.
    """
    places = (recipe.output, *recipe.casts.values(), *([] if recipe.inputs is None else [recipe.inputs]))
    lower = [precision for precision in list_lower_precisions(recipe.accumulate) if precision.name != "TF32"]
    stored = [precision for precision in lower if precision in places]
    return stored or [precision for precision in lower if precision.name != "FP16"]


def _list_errors(context: DiagnosisContext, name: str) -> dict[str, Array]:
    """Return the errors of the candidates whose recipe is that of a name."""
    recipe = context.get_recipe(name)
    return {
        other: candidate - context.get_right_gradient(other)
        for other, candidate in context.candidates.items()
        if candidate.shape == context.get_right_gradient(other).shape and context.get_recipe(other).key == recipe.key
    }


def _are_allowed(errors: Array, right: Array, allowances: Allowances) -> bool:
    """Tell whether errors are no larger than a recipe allows, one by one and together."""
    if not (np.abs(errors) <= allowances.elements).all():
        return False
    norm = euclidean_norm(right)
    return not norm or abs(float(((errors / norm) * (right / norm)).sum())) <= allowances.scale


def _are_like_roundings(ratios: Array, largest: float) -> bool:
    """Tell whether errors over their expected sizes are from about 1 to a number, and those of most elements."""
    sizes = np.abs(ratios)
    root_mean_square = math.sqrt(float(np.mean(sizes**2)))
    return _SMALLEST_RATIO <= root_mean_square <= largest and float(np.median(sizes)) >= _MIN_MEDIAN * root_mean_square


def _compute_likelihood(errors: Mapping[str, Array], sizes: Mapping[str, Array]) -> float:
    """Return the logarithm of the likelihood of normal errors at the scales that fit them best, up to a constant."""
    likelihood = 0.0
    for name, error in errors.items():
        mean_square = float(np.mean((error / sizes[name]) ** 2))
        likelihood -= float(np.log(sizes[name]).sum()) + error.size / 2 * math.log(max(mean_square, _LEAST_SQUARE))
    return likelihood
