"""Rounding allowances of correct gradients: their spread in Monte Carlo arithmetic, times a safety factor."""

from collections.abc import Iterable, Mapping

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision
from service.numerics.model.graph import Graph, NamedArrays
from service.numerics.model.monte_carlo import (
    ROUNDING_SWEEPS,
    MonteCarloRounding,
    SharedRounding,
    compute_root_mean_square,
    perturb_leaves,
)
from service.numerics.model.uncertain_choices import choose_first_values
from service.numerics.ops.op import BackwardPass

ROUNDING_ROUNDS = 2
"""Rounds of sweeps where rounding decides and not the bound of the difference, so in what is narrower than float64.

A spread found in n sweeps may be too small by chance: an error as large as the model says exceeds 6 of them with the
probability that Student's t has with n degrees of freedom, 3e-4 for 8 and 2e-5 for 16.
"""

SAFETY_FACTOR = 6.0
"""Allowance over root mean square spread."""


def estimate_rounding_allowances(
    graph: Graph,
    leaves: Mapping[str, Array],
    precision: Precision,
    seed: int,
    names: Iterable[str] | None = None,
    backward_overrides: Mapping[str, BackwardPass] | None = None,
) -> NamedArrays:
    """Return the rounding allowance of a correct gradient in `precision`.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...). The rounding of a number that `precision` lacks counts.
    precision
        The arithmetic judged.
    seed
        Seed of all errors.
    names
        Leaves and nodes that are asked for; all by default.
    backward_overrides
        A backward pass to take instead of the op's own, by node name.

    Returns
    -------
    Values
        The largest difference to be expected of each gradient, of its shape; infinite where a sweep left the finite
        numbers, or an argument its leeway.
    """
    generator = np.random.default_rng([seed, precision.significand_bits])
    observer = SharedRounding(precision, generator)
    requested_names = [name for name in graph.shapes if name not in graph.leaf_kinds] if names is None else list(names)
    rounds = [
        _measure_spreads(graph, leaves, precision, observer, requested_names, backward_overrides)
        for _ in range(ROUNDING_ROUNDS if observer.spread_scale == 1 else 1)
    ]
    spread = {
        name: compute_root_mean_square(np.array([gradients[name] for gradients in rounds])) for name in requested_names
    }
    by_numbers = _estimate_constant_allowances(graph, leaves, precision, generator, requested_names)
    return {
        name: SAFETY_FACTOR * observer.spread_scale * spread[name] + by_numbers.get(name, 0) for name in requested_names
    }


def _measure_spreads(
    graph: Graph,
    leaves: Mapping[str, Array],
    precision: Precision,
    observer: MonteCarloRounding,
    names: list[str],
    backward_overrides: Mapping[str, BackwardPass] | None,
) -> NamedArrays:
    """Return the spread of each gradient in one round of sweeps."""
    values = graph.forward(perturb_leaves(leaves, precision, observer), observer)
    leeway_spread = _measure_leeway_spread(graph, values)
    if leeway_spread * observer.spread_scale > 1:
        return {name: np.full(graph.shapes[name], np.inf) for name in names}
    gradients = graph.backward(values, backward_overrides, observer)
    return {name: max(1.0, leeway_spread) * _measure_spread(gradients[name]) for name in names}


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


def _measure_spread(gradient: Array) -> Array:
    if gradient.shape[0] == 1:
        return np.zeros(gradient.shape[1:])
    return compute_root_mean_square(gradient[1:] - gradient[0])
