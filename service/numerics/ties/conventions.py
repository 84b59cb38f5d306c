"""Uniform conventions: a program chooses the same alternative at every tie."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.model.graph import NamedArrays
from service.numerics.ops.subgradient_choices import SubgradientChoices
from service.numerics.ties.tie_point import TiePoint

MAX_CONVENTIONS = 64
"""Conventions that are tried at most, each in a backward pass."""
_RANDOM_CORNERS = 16
"""Corners that are drawn at random to see the reach of choices; half as many points lie between them."""


def list_node_conventions(choices: SubgradientChoices) -> list[Array]:
    """List weights.

    The op's own, the first tied alternative, the last, and an even split.
    """
    op_weights = choices.weights
    counts = np.bincount(choices.units, choices.is_exact_tie)[choices.units]
    is_open = choices.is_exact_tie & (counts > 1)
    if choices.ball_order is not None or not is_open.any():
        return [op_weights]
    conventions = [op_weights]
    open_positions = np.flatnonzero(is_open)
    _, first = np.unique(choices.units[open_positions], return_index=True)
    last = np.append(first[1:], open_positions.size) - 1
    open_units = np.isin(choices.units, choices.units[open_positions])
    for chosen in (open_positions[first], open_positions[last]):
        weights = np.where(open_units, 0.0, op_weights)
        weights[chosen] = 1.0
        conventions.append(weights)
    conventions.append(np.where(open_units, choices.is_exact_tie / np.maximum(counts, 1), op_weights))
    return conventions


def combine_convention_weights(point: TiePoint, max_count: int = MAX_CONVENTIONS) -> NamedArrays:
    """Combine the conventions of all kinds of ops, up to a number.

    Weights (K, n) by node.
    """
    by_node = {name: list_node_conventions(choices) for name, choices in point.choices_by_node.items()}
    kinds = sorted({_get_op_name(point, name) for name, conventions in by_node.items() if len(conventions) > 1})
    combinations = list(_iterate_combinations(len(kinds)))[:max_count]
    by_kind = {kind: [combination[kind_index] for combination in combinations] for kind_index, kind in enumerate(kinds)}
    first_only = [0] * len(combinations)
    return {
        name: np.stack(
            [
                conventions[number if len(conventions) > 1 else 0]
                for number in by_kind.get(_get_op_name(point, name), first_only)
            ]
        )
        for name, conventions in by_node.items()
    }


def _get_op_name(point: TiePoint, name: str) -> str:
    return point.nodes_by_name[name].op.name


def _iterate_combinations(kinds: int) -> Iterator[tuple[int, ...]]:
    """Yield a convention for each kind of op.

    Equal ones first, then mixed ones within the limit.
    """
    yield from ((convention,) * kinds for convention in range(4 if kinds else 1))
    if kinds < 2:
        return
    if 4**kinds <= MAX_CONVENTIONS:
        yield from (combination for combination in product(range(4), repeat=kinds) if len(set(combination)) > 1)
        return
    deviations = ((kind_index, convention) for kind_index in range(kinds) for convention in range(1, 4))
    for _, (kind_index, convention) in zip(range(MAX_CONVENTIONS - 4), deviations, strict=False):
        yield tuple(convention if position == kind_index else 0 for position in range(kinds))


def draw_corner_weights(point: TiePoint, seed: int, max_count: int = _RANDOM_CORNERS) -> NamedArrays:
    """Draw weights of corners at random, (K, n), by node."""
    generator = np.random.default_rng([seed, 0x71E5])
    return {
        name: _draw_node_corners(choices, min(max_count, _RANDOM_CORNERS), generator)
        for name, choices in point.choices_by_node.items()
    }


def interpolate_choices(point: TiePoint, seed: int, max_count: int = _RANDOM_CORNERS // 2) -> NamedArrays:
    """Draw nonzero weights at random, (K, n), by node.

    They reach everything that any choice reaches.
    """
    generator = np.random.default_rng([seed, 0xB73])
    return {
        name: _mix_choices(choices, min(max_count, _RANDOM_CORNERS // 2), generator)
        for name, choices in point.choices_by_node.items()
    }


def _mix_choices(choices: SubgradientChoices, count: int, generator: np.random.Generator) -> Array:
    """Draw weights evenly from each simplex, or from within the corners of a ball."""
    weights = generator.standard_exponential((count, choices.alternative_count))
    weights /= np.stack([np.bincount(choices.units, row) for row in weights])[:, choices.units]
    return (
        weights if choices.ball_order is None else weights * np.where(generator.random(weights.shape) < 0.5, -1.0, 1.0)
    )


def _draw_node_corners(choices: SubgradientChoices, count: int, generator: np.random.Generator) -> Array:
    units = int(choices.units[-1]) + 1
    starts = np.searchsorted(choices.units, np.arange(units))
    sizes = np.bincount(choices.units)
    weights = np.zeros((count, choices.alternative_count))
    chosen = starts + (generator.random((count, units)) * sizes).astype(np.int64)
    signs = 1.0 if choices.ball_order is None else np.where(generator.random(chosen.shape) < 0.5, -1.0, 1.0)
    np.put_along_axis(weights, chosen, signs if isinstance(signs, np.ndarray) else np.ones(chosen.shape), axis=1)
    return weights
