"""Uniform conventions: what a program does that takes the same of several that tie, wherever they do."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.model.graph import NamedArrays
from service.numerics.ops.subgradient_choices import SubgradientChoices
from service.numerics.ties.tie_point import TiePoint

MAX_CONVENTIONS = 64
"""Conventions that are tried, a backward pass each."""
_RANDOM_CORNERS = 16
"""Corners that are drawn at random, to see how far choices reach; and half as many points between them."""


def list_node_conventions(choices: SubgradientChoices) -> list[Array]:
    """Weights by the op's own backward pass, by the first, by the last and by an even split of what ties."""
    own = choices.weights
    counts = np.bincount(choices.units, choices.is_exact_tie)[choices.units]
    several = choices.is_exact_tie & (counts > 1)
    if choices.ball_order is not None or not several.any():
        return [own]
    found = [own]
    at = np.flatnonzero(several)
    _, first = np.unique(choices.units[at], return_index=True)
    last = np.append(first[1:], at.size) - 1
    open_units = np.isin(choices.units, choices.units[at])
    for chosen in (at[first], at[last]):
        weights = np.where(open_units, 0.0, own)
        weights[chosen] = 1.0
        found.append(weights)
    found.append(np.where(open_units, choices.is_exact_tie / np.maximum(counts, 1), own))
    return found


def combine_convention_weights(point: TiePoint, max_count: int = MAX_CONVENTIONS) -> NamedArrays:
    """Weights of the conventions, (K, n), by node: one for each kind of op, in all combinations up to a number."""
    ways = {name: list_node_conventions(each) for name, each in point.choices_by_node.items()}
    kinds = sorted({point.nodes_by_name[name].op.name for name, each in ways.items() if len(each) > 1})
    taken = list(_iterate_combinations(len(kinds)))[:max_count]
    by_kind = {kind: [each[position] for each in taken] for position, kind in enumerate(kinds)}
    return {
        name: np.stack(
            [each[way if len(each) > 1 else 0] for way in by_kind.get(_get_op_name(point, name), [0] * len(taken))]
        )
        for name, each in ways.items()
    }


def _get_op_name(point: TiePoint, name: str) -> str:
    return point.nodes_by_name[name].op.name


def _iterate_combinations(kinds: int) -> Iterator[tuple[int, ...]]:
    """A way for each kind of op: all the same, then all combinations, or one that differs, as far as there is room."""
    yield from ((way,) * kinds for way in range(4 if kinds else 1))
    if kinds < 2:
        return
    if 4**kinds <= MAX_CONVENTIONS:
        yield from (each for each in product(range(4), repeat=kinds) if len(set(each)) > 1)
        return
    others = ((at, way) for at in range(kinds) for way in range(1, 4))
    for _, (at, way) in zip(range(MAX_CONVENTIONS - 4), others, strict=False):
        yield tuple(way if position == at else 0 for position in range(kinds))


def draw_corner_weights(point: TiePoint, seed: int, max_count: int = _RANDOM_CORNERS) -> NamedArrays:
    """Weights of corners drawn at random, (K, n), by node."""
    generator = np.random.default_rng([seed, 0x71E5])
    return {
        name: _draw_node_corners(each, min(max_count, _RANDOM_CORNERS), generator)
        for name, each in point.choices_by_node.items()
    }


def interpolate_choices(point: TiePoint, seed: int, most: int = _RANDOM_CORNERS // 2) -> NamedArrays:
    """Weights drawn at random of which none is 0, (K, n), by node: what any choice reaches, all of these do."""
    generator = np.random.default_rng([seed, 0xB73])
    return {
        name: _mix_choices(each, min(most, _RANDOM_CORNERS // 2), generator)
        for name, each in point.choices_by_node.items()
    }


def _mix_choices(choices: SubgradientChoices, count: int, generator: np.random.Generator) -> Array:
    """Evenly from each simplex, and of a ball from within its corners."""
    weights = generator.standard_exponential((count, choices.alternative_count))
    weights /= np.stack([np.bincount(choices.units, each) for each in weights])[:, choices.units]
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
