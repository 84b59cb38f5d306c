"""Tensors of a report: small ones element by element, side by side; of large ones the shape."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from schemas.datatype import Array
from schemas.report import CheckReport
from schemas.tensor import Tensor
from service.rendering import figures
from service.rendering.document import Block, Column, Heading, Name, Said, Section, Table
from service.rendering.verdicts import MAX_NAMES, by_outcome

MAX_ELEMENTS = 36


def gradients(report: CheckReport) -> Iterator[Section]:
    """The gradients of each name by every route."""
    found = report["gradients"]
    yield from _section("Gradients", {name: found[name] for name in by_outcome(report) if name in found})


def intermediates(report: CheckReport) -> Iterator[Section]:
    """Values of the nodes, and the gradients with respect to them."""
    yield from _section("Intermediates", report["intermediates"])


def _section(title: str, tensors: Mapping[str, Any]) -> Iterator[Section]:
    blocks = [block for name in list(tensors)[:MAX_NAMES] for block in _side_by_side(Name(name), tensors[name])]
    if len(tensors) > MAX_NAMES:
        blocks.append(Said(f"{figures.counted(len(tensors) - MAX_NAMES, 'name')} more in the JSON report."))
    if blocks:
        yield Section(Heading(title), blocks, long=True)


def _side_by_side(name: Name, tensors: Mapping[str, Any]) -> Iterator[Block]:
    """One table of those of one shape, which is that of all but a candidate of another."""
    shapes = {route: shape(each) for route, each in tensors.items()}
    for each in dict.fromkeys(shapes.values()):
        routes = [route for route in tensors if shapes[route] == each]
        heading = Heading(_described(each, routes if len(routes) < len(tensors) else []), name)
        if math.prod(each) > MAX_ELEMENTS:
            yield Said("too large to print; the JSON report has it.", heading)
        else:
            yield _table({route: array(tensors[route]) for route in routes}, each, heading)


def _described(sizes: tuple[int, ...], routes: list[str]) -> str:
    count = figures.counted(math.prod(sizes), "element")
    return f"{', '.join(_words(route) for route in routes)}{' of ' if routes else ''}shape {list(sizes)}, {count}"


def _table(arrays: Mapping[str, Array], sizes: tuple[int, ...], heading: Heading) -> Table:
    known = {route: each for route, each in arrays.items() if not _says_nothing(route, each)}
    columns = (Column("index", words=True), *(Column(_words(route)) for route in known))
    rows = [
        (figures.index(place), *(_figure(route, float(each[place])) for route, each in known.items()))
        for place in np.ndindex(sizes)
    ]
    return Table(columns, rows, heading)


def _words(route: str) -> str:
    return route.replace("_", " ")


def _says_nothing(route: str, values: Array) -> bool:
    """Whether there is no finite difference at all, as where whole directions were looked at."""
    return route in ("finite_difference", "error_bound") and not np.isfinite(values).any()


def _figure(route: str, number: float) -> str:
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return figures.size(number) if route == "error_bound" else figures.value(number)


def shape(tensor: Any) -> tuple[int, ...]:
    """Shape of a tensor on the wire, without a look at its elements."""
    if isinstance(tensor, dict):
        return tuple(cast("dict[str, Any]", tensor)["shape"])
    if isinstance(tensor, Tensor):
        return tensor.array.shape
    if isinstance(tensor, np.ndarray):
        return cast("Array", tensor).shape
    return _nested(tensor)


def _nested(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    inside = cast("list[Any]", value)
    return (len(inside), *(_nested(inside[0]) if inside else ()))


def array(tensor: Any) -> Array:
    """Elements of a tensor on the wire, in float64."""
    if isinstance(tensor, np.ndarray):
        return cast("Array", tensor)
    if math.prod(shape(tensor)) == 0:
        return np.empty(shape(tensor))
    decoded = tensor if isinstance(tensor, Tensor) else Tensor.decode_any(tensor)
    return decoded.array.astype(np.float64)
