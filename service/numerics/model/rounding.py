"""Rounding allowances of correct gradients: their spread in Monte Carlo arithmetic, times a safety factor."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.equal_numbers import find_equal_numbers
from service.numerics.core.precision import Precision
from service.numerics.core.recipe import Recipe, make_uniform_recipe
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.model.graph import Graph, NamedArrays
from service.numerics.model.monte_carlo import (
    ROUNDING_SWEEPS,
    MonteCarloRounding,
    SharedRounding,
    compute_root_mean_square,
)
from service.numerics.model.recipe_rounding import RecipeRounding, find_common_sizes
from service.numerics.model.uncertain_choices import choose_first_values
from service.numerics.ops.op import BackwardPass

ROUNDING_ROUNDS = 2
"""Rounds of sweeps where rounding decides and not the bound of the difference, so in what is narrower than float64.

A spread found in n sweeps may be too small by chance: an error as large as the model says exceeds 6 of them with the
probability that Student's t has with n degrees of freedom, 3e-4 for 8 and 2e-5 for 16.
"""

JUST_ABOVE_ONE = 1 + 2.0**-40
"""Factor that keeps an error at its bound within it."""
SAFETY_FACTOR = 6.0
"""Allowance over root mean square spread."""


@dataclass(frozen=True)
class Allowances:
    """The largest errors of a correct gradient.

    Attributes
    ----------
    elements
        Largest error to be expected of each element; infinite where a sweep left the finite numbers, or an argument
        its leeway.
    scale
        Largest error to be expected of the factor c that fits c times the right gradient best.
    root_mean_squares
        Root mean square of the errors of each element.
    """

    elements: Array
    scale: float
    root_mean_squares: Array


def estimate_rounding_allowances(
    graph: Graph,
    leaves: Mapping[str, Array],
    precision: Precision,
    seed: int,
    names: Iterable[str] | None = None,
    backward_overrides: Mapping[str, BackwardPass] | None = None,
) -> NamedArrays:
    """Return the rounding allowance of a correct gradient with all arithmetic in `precision`.

    The parameters are those of `estimate_recipe_allowances`.
    """
    recipe = make_uniform_recipe(precision)
    allowances = estimate_recipe_allowances(graph, leaves, recipe, seed, names, backward_overrides)
    return {name: allowance.elements for name, allowance in allowances.items()}


def estimate_recipe_allowances(
    graph: Graph,
    leaves: Mapping[str, Array],
    recipe: Recipe,
    seed: int,
    names: Iterable[str] | None = None,
    backward_overrides: Mapping[str, BackwardPass] | None = None,
) -> dict[str, Allowances]:
    """Return the rounding allowances of a correct gradient by a recipe.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...). The rounding of a number that the program cannot hold counts.
    recipe
        The roundings of the program.
    seed
        Seed of all errors.
    names
        Leaves and nodes that are asked for; all by default.
    backward_overrides
        A backward pass to take instead of the op's own, by node name.

    Notes
    -----
    The gradient itself is rounded last, to `recipe.output`, by half a unit in the last place at most. Along the right
    gradient g, n such errors e add up to the error sum(e g) / sum(g^2) of the factor, of which six root mean squares
    are allowed, as of all others.
    """
    generator = np.random.default_rng([seed, recipe.accumulate.significand_bits])
    requested_names = [name for name in graph.shapes if name not in graph.leaf_kinds] if names is None else list(names)
    observers = _make_observers(recipe, graph, generator)
    spread_scale = observers[0].spread_scale
    rounds = [
        _measure_spreads(graph, leaves, recipe, observer, requested_names, backward_overrides) for observer in observers
    ]
    by_numbers = _estimate_constant_allowances(graph, leaves, recipe.number_precision, generator, requested_names)
    return {
        name: _combine_rounds([deviations[name] for deviations in rounds], spread_scale, recipe, by_numbers.get(name))
        for name in requested_names
    }


def _make_observers(recipe: Recipe, graph: Graph, generator: np.random.Generator) -> Sequence[SharedRounding]:
    """Return the observer of each round of sweeps."""
    if not recipe.is_uniform:
        return [
            RecipeRounding(recipe, graph, generator, shifts_grids=shifts_grids)
            for shifts_grids in (False, True)
            for _ in range(_RECIPE_ROUNDS)
        ]
    observer = SharedRounding(recipe.accumulate, generator)
    return [observer] * (ROUNDING_ROUNDS if observer.spread_scale == 1 else 1)


_RECIPE_ROUNDS = 4
"""Rounds of sweeps where casts decide, of 8 each, by each of two models: nothing else is allowed beside what they find.

Errors of casts are drawn as large as they are. The probability of more than 6 root mean squares, found in 32 sweeps, is
the 1e-6 of Student's t with 32 degrees of freedom; the larger of two estimates makes it about 1e-7.
"""


class _Deviations(NamedTuple):
    """Right gradient, its spread in one round of sweeps, and that of the factor that fits it best."""

    gradient: Array
    elements: Array
    scale: Array


def _combine_rounds(
    rounds: Sequence[_Deviations], spread_scale: float, recipe: Recipe, by_numbers: Array | None
) -> Allowances:
    """Return the allowances that follow from the spreads of some rounds."""
    factor = SAFETY_FACTOR * spread_scale
    models = [rounds] if recipe.is_uniform else [rounds[:_RECIPE_ROUNDS], rounds[_RECIPE_ROUNDS:]]
    elements = factor * _combine_spreads([[deviation.elements for deviation in model] for model in models])
    if by_numbers is not None:
        elements = elements + by_numbers
    if recipe.is_uniform:
        # Where every operation rounds, errors of one element are as large as those of all.
        return Allowances(elements, math.inf, elements / SAFETY_FACTOR)
    gradient = rounds[0].gradient
    scale = factor * float(_combine_spreads([[deviation.scale for deviation in model] for model in models]))
    if by_numbers is not None:
        scale += _bound_scale_error(by_numbers, gradient)
    last_rounding = _bound_last_rounding(gradient, elements, recipe)
    scale += _bound_scale_of_last(gradient, last_rounding, recipe.output)
    # The error of a rounding is uniform, up to its bound on either side.
    root_mean_squares = np.hypot(elements / SAFETY_FACTOR, last_rounding / math.sqrt(3))
    return Allowances(elements + last_rounding, scale, root_mean_squares)


def _bound_last_rounding(gradient: Array, errors: Array, recipe: Recipe) -> Array:
    """Return the largest error of rounding a gradient that is off by `errors` at most."""
    sizes = np.abs(gradient) + errors
    is_known = np.isfinite(sizes)
    return np.where(is_known, recipe.bound_rounding_errors(recipe.output, np.where(is_known, sizes, 0.0)), np.inf)


def _bound_scale_of_last(gradient: Array, last_rounding: Array, output: Precision) -> float:
    """Return the largest error of the factor by the last roundings, alike for equal numbers."""
    norm = euclidean_norm(gradient)
    if not norm or not np.isfinite(norm) or not np.isfinite(last_rounding).all():
        return math.inf
    parts = (np.abs(gradient) / norm * (last_rounding / norm)).ravel()
    groups = find_equal_numbers(find_common_sizes(gradient, output))
    together = parts if groups is None else np.bincount(groups.ravel(), weights=parts)
    return min(JUST_ABOVE_ONE * float(parts.sum()), SAFETY_FACTOR * euclidean_norm(together) / math.sqrt(3))


def _combine_spreads(spreads_by_model: list[list[Array]]) -> Array:
    """Return the root mean square over the rounds of each model, the largest of all models."""
    return np.max([compute_root_mean_square(np.array(spreads)) for spreads in spreads_by_model], axis=0)


def _bound_scale_error(errors: Array, gradient: Array) -> float:
    """Return the largest error of the factor, given those of the elements."""
    norm = euclidean_norm(gradient)
    return euclidean_norm(errors) / norm if norm else math.inf


def _measure_spreads(
    graph: Graph,
    leaves: Mapping[str, Array],
    recipe: Recipe,
    observer: MonteCarloRounding,
    names: list[str],
    backward_overrides: Mapping[str, BackwardPass] | None,
) -> dict[str, _Deviations]:
    """Return the spread of each gradient in one round of sweeps."""
    values = graph.forward(observer.perturb_leaves(leaves), observer)
    leeway_spread = _measure_leeway_spread(graph, values)
    if leeway_spread * observer.spread_scale > 1:
        unknown = np.full((), np.inf)
        return {name: _Deviations(values[name][0], np.full(graph.shapes[name], np.inf), unknown) for name in names}
    gradients = graph.backward(values, backward_overrides, observer)
    factor = max(1.0, leeway_spread)
    return {name: _measure_spread(gradients[name], factor, is_uniform=recipe.is_uniform) for name in names}


def _measure_leeway_spread(graph: Graph, values: NamedArrays) -> float:
    """Return the spread of exponents and phases among the sweeps, as the largest part of their leeway.

    If rounding moves one beyond its leeway, a spread is none of the size of the errors: another score becomes the
    largest of a softmax, or a cosine turns. A few sweeps then see some of what may come out, and a correct gradient may
    be what they did not see. The errors that are drawn for float64 are larger than its own. If they alone leave the
    leeway, the spread is the swing of the gradient, and the true errors make the same part of it as of the leeway.
    """
    largest = 0.0
    for node in graph.nodes:
        argument = node.op.get_sensitive_argument(*choose_first_values(graph.get_operand_arrays(node, values)))
        if argument is None or argument.values.shape[0] == 1:
            continue
        exponent_values = argument.values[0]
        # A score that is masked stays so.
        moves = np.subtract(
            argument.values[1:],
            exponent_values,
            where=np.isfinite(exponent_values),
            out=np.zeros(argument.values[1:].shape),
        )
        move_sizes = compute_root_mean_square(moves)
        # Every leeway is 1 at least, and seldom asked for.
        if (move_sizes > 1).any():
            largest = float(np.fmax.reduce(move_sizes / argument.first_tile.leeway, axis=None, initial=largest))
    return largest


def _estimate_constant_allowances(
    graph: Graph, leaves: Mapping[str, Array], precision: Precision, generator: np.random.Generator, names: list[str]
) -> NamedArrays:
    """Return the allowance for constants and attributes that `precision` rounds.

    A program may round any of them to it, or hold it in more. So all are rounded, and random ones of them: they are
    not told apart, since each is the same number in every tile, and there is a pass for each choice.
    """
    inexact: list[float] = []

    def collect_inexact(number: float) -> float:
        if precision.round_significand(number) != number:
            inexact.append(number)
        return number

    graph.map_numbers(collect_inexact)
    if not inexact:
        return {}

    def round_at_random(number: float) -> float:
        return precision.round_significand(number) if generator.random() < 0.5 else number

    choices = [graph.map_numbers(precision.round_significand)]
    choices += [graph.map_numbers(round_at_random) for _ in range(ROUNDING_SWEEPS - 1 if len(inexact) > 1 else 0)]
    exact = graph.backward(graph.forward(leaves))
    gradients_by_choice = [choice.backward(choice.forward(leaves)) for choice in choices]
    return {
        name: SAFETY_FACTOR
        * compute_root_mean_square(np.array([gradients[name][0] - exact[name][0] for gradients in gradients_by_choice]))
        for name in names
    }


def _measure_spread(gradients: Array, factor: float, *, is_uniform: bool) -> _Deviations:
    """Return the spread of the sweeps behind the first, times a factor."""
    gradient = gradients[0]
    if len(gradients) == 1:
        return _Deviations(gradient, np.zeros(gradient.shape), np.zeros(()))
    moves = gradients[1:] - gradient
    elements = factor * compute_root_mean_square(moves)
    if is_uniform:
        return _Deviations(gradient, elements, np.zeros(()))
    norm = euclidean_norm(gradient)
    unit = gradient / norm if norm else np.zeros(gradient.shape)
    along = (moves * unit).reshape(len(moves), -1).sum(axis=1) / (norm or 1.0)
    return _Deviations(gradient, elements, factor * compute_root_mean_square(along))
