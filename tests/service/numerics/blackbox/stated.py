"""Points, lines and derivatives as stated, without a loss from which they would follow."""

import numpy as np

from service.numerics.blackbox.difference import Along
from service.numerics.blackbox.domain import Ways
from service.numerics.blackbox.kinks import Shape
from service.numerics.blackbox.lines import Lines, Point, gaussian, of_elements
from service.numerics.blackbox.schedule import SCHEDULES
from service.numerics.tiles import Array

SEED, NAME = 3, "w"


def point_at(values: Array, sizes: Array | None = None, datatype: str = "FP64") -> Point:
    """A point whose elements are moved by given sizes, powers of two; by 1 where none are given."""
    values = np.asarray(values, np.float64)
    moved = np.ones(values.size) if sizes is None else np.asarray(sizes, np.float64)
    return Point(values, SCHEDULES[datatype], 1.0, Ways(moved, np.zeros(values.size, int)))


def each_element(point: Point) -> Lines:
    """Every element of a point, moved alone."""
    return of_elements(point, point.values.size, SEED, NAME)


def directions(point: Point, count: int) -> Lines:
    """Random directions of a point."""
    return gaussian(point, count, SEED, NAME)


def along_of(value: Array, bound: Array | float = 0.0, **other: object) -> Along:
    """Derivatives along lines, of a smooth loss of size 1 in float64 unless something else is said."""
    value = np.asarray(value, np.float64)
    fields = {
        "bound": bound,
        "deviation": 0.0,
        "bend": 0.0,
        "base": 1.0,
        "size": 1.0,
        "resolution": 2.0**-53,
        "constant": False,
        "shape": Shape.SMOOTH,
        "suspected": False,
    } | other
    return Along(value, **{name: np.broadcast_to(np.asarray(each), value.shape) for name, each in fields.items()})
