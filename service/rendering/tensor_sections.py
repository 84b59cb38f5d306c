"""Tensors of a report: small ones element by element, side by side; large ones by their shape."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from schemas.datatype import Array
from schemas.plan import JudgeReport
from schemas.report import CheckReport
from schemas.tensor import Tensor
from service.rendering import number_format
from service.rendering.document import Block, Column, DisplayName, Heading, Paragraph, Section, Table
from service.rendering.verdict_sections import MAX_NAMES, sort_by_outcome

MAX_ELEMENTS = 36


def build_gradient_sections(report: CheckReport) -> Iterator[Section]:
    """Build the gradients of each tensor by every route."""
    gradients = report["gradients"]
    ordered_gradients = {name: gradients[name] for name in sort_by_outcome(report) if name in gradients}
    yield from _build_sections("Gradients", ordered_gradients)


def build_intermediate_sections(report: CheckReport) -> Iterator[Section]:
    """Build the values of the nodes, and the gradients with respect to them."""
    yield from _build_sections("Intermediates", report["intermediates"])


def build_derivative_tables(report: JudgeReport) -> Iterator[Section]:
    """Build the numerical derivatives of a judgement with their error bounds."""
    yield from _build_sections("Derivatives and their error bounds", report.get("derivatives", {}))


def _build_sections(title: str, tensors: Mapping[str, Any]) -> Iterator[Section]:
    blocks = [block for name in list(tensors)[:MAX_NAMES] for block in _build_tables(DisplayName(name), tensors[name])]
    if len(tensors) > MAX_NAMES:
        blocks.append(
            Paragraph(f"{number_format.format_count(len(tensors) - MAX_NAMES, 'more tensor')} in the JSON report.")
        )
    if blocks:
        yield Section(Heading(title), blocks, is_long=True)


def _build_tables(name: DisplayName, tensors: Mapping[str, Any]) -> Iterator[Block]:
    """Build a table of the gradients of each shape; only a candidate may have another shape than the others."""
    shapes = {route: get_shape(tensor) for route, tensor in tensors.items()}
    for shape in dict.fromkeys(shapes.values()):
        routes = [route for route in tensors if shapes[route] == shape]
        heading = Heading(_describe_shape(shape, routes if len(routes) < len(tensors) else []), (name,))
        if math.prod(shape) > MAX_ELEMENTS:
            yield Paragraph("too large to print; the JSON report has it.", heading)
        else:
            yield _build_table({route: to_array(tensors[route]) for route in routes}, shape, heading)


def _describe_shape(sizes: tuple[int, ...], routes: list[str]) -> str:
    count = number_format.format_count(math.prod(sizes), "element")
    return (
        f"{', '.join(_format_route(route) for route in routes)}{' of ' if routes else ''}shape {list(sizes)}, {count}"
    )


def _build_table(arrays: Mapping[str, Array], sizes: tuple[int, ...], heading: Heading) -> Table:
    known = {route: array for route, array in arrays.items() if not _is_unexamined(route, array)}
    columns = (Column("index", is_text=True), *(Column(_format_route(route)) for route in known))
    rows = [
        (
            number_format.format_index(index),
            *(_format_number(route, float(array[index])) for route, array in known.items()),
        )
        for index in np.ndindex(sizes)
    ]
    return Table(columns, rows, heading)


def _format_route(route: str) -> str:
    return route.replace("_", " ")


def _is_unexamined(route: str, values: Array) -> bool:
    """Tell whether there is no finite difference at all, as along whole directions."""
    return route in ("finite_difference", "error_bound") and not np.isfinite(values).any()


def _format_number(route: str, number: float) -> str:
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return number_format.format_magnitude(number) if route == "error_bound" else number_format.format_value(number)


def get_shape(tensor: Any) -> tuple[int, ...]:
    """Return the shape of a tensor on the wire, without decoding its elements."""
    if isinstance(tensor, dict):
        return tuple(cast("dict[str, Any]", tensor)["shape"])
    if isinstance(tensor, Tensor):
        return tensor.array.shape
    if isinstance(tensor, np.ndarray):
        return cast("Array", tensor).shape
    return _get_nested_shape(tensor)


def _get_nested_shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    items = cast("list[Any]", value)
    return (len(items), *(_get_nested_shape(items[0]) if items else ()))


def to_array(tensor: Any) -> Array:
    """Return the elements of a tensor on the wire, in float64."""
    if isinstance(tensor, np.ndarray):
        return cast("Array", tensor)
    if math.prod(get_shape(tensor)) == 0:
        return np.empty(get_shape(tensor))
    decoded_tensor = tensor if isinstance(tensor, Tensor) else Tensor.decode_any(tensor)
    return decoded_tensor.array.astype(np.float64)
