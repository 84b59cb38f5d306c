"""Functions of pytrees as functions of their leaves: inputs and outputs of floats by their paths."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheckd.errors import TensorError, hide_frames
from gradcheckd.jax.untyped_jax import jax, jnp

__tracebackhide__ = hide_frames

Leaves = Mapping[str, Any]
"""Arrays of jax by name."""
LeafMap = Callable[[Leaves], Leaves]
"""A function from leaves to leaves, which jax differentiates."""


@dataclass(frozen=True)
class LeafFunction:
    """A function of leaves at a point.

    Attributes
    ----------
    compute
        Takes leaves of floats by name, and returns leaves of floats by name.
    point
        Leaves of the point.
    """

    compute: LeafMap
    point: Leaves

    @property
    def size(self) -> int:
        """Return the number of real numbers of the point."""
        return sum(leaf.size * (2 if jnp.iscomplexobj(leaf) else 1) for leaf in self.point.values())

    @property
    def dtypes(self) -> set[np.dtype[Any]]:
        """Return the datatypes of the point."""
        return {np.dtype(leaf.dtype) for leaf in self.point.values()}


def flatten_function(f: Callable[..., Any], args: Sequence[Any]) -> LeafFunction:
    """Return a function of pytrees as one of leaves.

    Parameters
    ----------
    f
        Takes pytrees, and returns a pytree.
    args
        Pytrees of arrays or numbers. Leaves of integers and Booleans stay as they are, and so do empty ones.

    Raises
    ------
    TensorError
        No leaf is an array of floats.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(tuple(args))
    leaves = _name_leaves("args", paths)
    floats = _select_floats(leaves)
    if not floats:
        raise TensorError("No argument has a leaf of floats. Give one, for instance jnp.asarray(x, float).")

    def compute(moved: Leaves) -> Leaves:
        result = f(*jax.tree_util.tree_unflatten(structure, {**leaves, **moved}.values()))
        outputs, _ = jax.tree_util.tree_flatten_with_path(result)
        kept = _select_floats(_name_leaves("output", outputs))
        if not kept:
            raise TensorError("The function returned no leaf of floats.")
        return _drop_empty(kept)

    return LeafFunction(compute, _drop_empty(floats))


def push_forward(function: LeafFunction, random: np.random.Generator) -> LeafFunction:
    """Return the Jacobian-vector product as a function of the point and its tangents, at random tangents."""
    tangents = {f"tangent of {name}": _draw_like(leaf, random) for name, leaf in function.point.items()}

    def compute(leaves: Leaves) -> Leaves:
        moved = {name: leaves[name] for name in function.point}
        directions = {name: leaves[f"tangent of {name}"] for name in function.point}
        return jax.jvp(function.compute, (moved,), (directions,))[1]

    return LeafFunction(compute, {**function.point, **tangents})


def pull_back(function: LeafFunction, random: np.random.Generator) -> LeafFunction:
    """Return the vector-Jacobian product as a function of the point and its cotangents, at random cotangents."""
    outputs = function.compute(function.point)
    cotangents = {f"cotangent of {name}": _draw_like(leaf, random) for name, leaf in outputs.items()}

    def compute(leaves: Leaves) -> Leaves:
        moved = {name: leaves[name] for name in function.point}
        results, transpose = jax.vjp(function.compute, moved)
        return transpose({name: leaves[f"cotangent of {name}"] for name in results})[0]

    return LeafFunction(compute, {**function.point, **cotangents})


def split_complex(function: LeafFunction) -> LeafFunction:
    """Return the same function of real leaves: complex ones become pairs along a new last axis."""

    def compute(leaves: Leaves) -> Leaves:
        joined = {name: _join_pair(leaf, function.point[name]) for name, leaf in leaves.items()}
        return {name: _split_pair(leaf) for name, leaf in function.compute(joined).items()}

    return LeafFunction(compute, {name: _split_pair(leaf) for name, leaf in function.point.items()})


def _split_pair(leaf: Any) -> Any:
    return jnp.stack([leaf.real, leaf.imag], axis=-1) if jnp.iscomplexobj(leaf) else leaf


def _join_pair(leaf: Any, original: Any) -> Any:
    return jax.lax.complex(leaf[..., 0], leaf[..., 1]) if jnp.iscomplexobj(original) else leaf


def _select_floats(leaves: Leaves) -> Leaves:
    return {name: jnp.asarray(leaf) for name, leaf in leaves.items() if _is_inexact(leaf)}


def _drop_empty(leaves: Leaves) -> Leaves:
    return {name: leaf for name, leaf in leaves.items() if leaf.size}


def _is_inexact(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.inexact))


def _name_leaves(prefix: str, paths: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Return leaves by names made of their paths, each its own."""
    leaves: dict[str, Any] = {}
    for path, leaf in paths:
        # A slash parts output and input in the names of verdicts.
        name = f"{prefix}{jax.tree_util.keystr(path)}".replace("/", ".")
        while name in leaves:
            name += "'"
        leaves[name] = leaf
    return leaves


def _draw_like(leaf: Any, random: np.random.Generator) -> Any:
    parts: list[Any] = [random.standard_normal(leaf.shape) for _ in range(2 if jnp.iscomplexobj(leaf) else 1)]
    return jnp.asarray(parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1], leaf.dtype)
