"""Requests for plans at random: shapes, datatypes, sizes of elements, scales, outputs, directions, few and full."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

DTYPES = (np.float64, np.float32, np.float16)
MAX_TENSORS, MAX_SIZE = 3, 4


@dataclass(frozen=True)
class RandomPlanRequest:
    """A request for a plan, in arrays.

    Attributes
    ----------
    point
        Tensors by name.
    fields
        Directions, seed, scales and evaluations.
    outputs
        Arrays of the shapes of the outputs by name; None of a loss.
    has_own_cotangents
        True if these arrays are the cotangents.
    """

    point: dict[str, Any]
    fields: dict[str, Any]
    outputs: dict[str, Any] | None
    has_own_cotangents: bool


def draw_plan_requests(seed: int) -> Iterator[RandomPlanRequest]:
    """Draw requests without end; some of them are refused, for a scale that is too small."""
    for number in itertools.count():
        yield draw_plan_request(np.random.default_rng([seed, number]))


def draw_plan_request(generator: np.random.Generator) -> RandomPlanRequest:
    point = {
        f"{'wé/'[: generator.integers(1, 4)]}{number}": _draw_tensor(generator)
        for number in range(generator.integers(1, MAX_TENSORS + 1))
    }
    fields = dict(itertools.compress(_draw_fields(generator, point), generator.random(4) < 0.7))
    outputs = None
    if generator.random() < 0.5:
        names = [f"output{number}" for number in range(generator.integers(1, 4))]
        outputs = {name: generator.normal(size=_draw_shape(generator)) for name in names}
    return RandomPlanRequest(point, fields, outputs, bool(generator.random() < 0.4))


def _draw_fields(generator: np.random.Generator, point: dict[str, Any]) -> list[tuple[str, Any]]:
    kind, count = str(generator.choice(["random", "coordinates"])), int(generator.integers(1, 9))
    directions = {"kind": kind} | ({"count": count} if generator.random() < 0.4 else {})
    scale: dict[str, Any] = {}
    for name, values in point.items():
        unit = float(np.median(np.abs(values.astype(float))) or 1) * 10.0 ** generator.uniform(-4, 1)
        if generator.random() < 0.5:
            spread = np.abs(generator.normal(size=values.shape)) + 0.01
            scale[name] = float(unit) if generator.random() < 0.5 else unit * spread
    return [
        ("directions", directions),
        ("seed", int(generator.integers(2**63 - 1))),
        ("evaluations", str(generator.choice(["few", "full"]))),
        ("scale", scale),
    ]


def _draw_tensor(generator: np.random.Generator) -> Any:
    """Draw elements of one unit, of several, rounded ones, some of them 0, or left by rounding."""
    values = generator.normal(size=_draw_shape(generator))
    kind = generator.integers(6)
    if kind == 1:
        values = values * 10.0 ** generator.integers(-6, 6, size=values.shape)
    if kind == 2:
        values = np.where(generator.random(values.shape) < 0.4, 0, values)
    if kind == 3:
        values = np.round(values)
    if kind == 4:
        values = np.where(generator.random(values.shape) < 0.3, 2e-16 * values, values)
    if kind == 5:
        values = values * 10.0 ** generator.integers(-30, 30)
    dtype = DTYPES[generator.integers(len(DTYPES))] if generator.random() < 0.5 else np.float64
    with np.errstate(over="ignore"):
        narrowed = values.astype(dtype)
    return np.where(np.isfinite(narrowed), narrowed, dtype(1))


def _draw_shape(generator: np.random.Generator) -> tuple[int, ...]:
    return tuple(generator.integers(1, MAX_SIZE + 1, size=generator.integers(4)).tolist())
