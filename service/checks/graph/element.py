"""The element of a request: its tensor and its place in it."""

from collections.abc import Iterator

import numpy as np

from schemas.check import NodeBase
from schemas.curve import CurveRequest, ElementSpec
from schemas.problem_details import PlacedError, error_at, quote_name
from service.checks.graph.problem import why_not_differentiable
from service.numerics.core.batching import Shape
from service.numerics.model.graph import Graph


def choose_element_name(request: CurveRequest[NodeBase], graph: Graph, errors: list[PlacedError]) -> tuple[str, ...]:
    """Return the name to differentiate by, and append errors of the element."""
    spec = request.element
    reason = why_not_differentiable(graph, spec.name)
    if reason is not None:
        errors.append(error_at(reason, "element", "name"))
    else:
        errors.extend(_find_index_errors(spec, graph.shapes[spec.name]))
    return (spec.name,)


def compute_flat_index(spec: ElementSpec, graph: Graph) -> int:
    """Return the flat index of an existing element."""
    shape = graph.shapes[spec.name]
    # A negative number counts from the end, as NumPy has it.
    index = [number % length for number, length in zip(spec.index, shape, strict=True)]
    return int(np.ravel_multi_index(index, shape)) if shape else 0


def _find_index_errors(spec: ElementSpec, shape: Shape) -> Iterator[PlacedError]:
    whose = f"{quote_name(spec.name)}, whose shape is {list(shape)}"
    if len(spec.index) != len(shape):
        count = f"{len(spec.index)} number{'s' * (len(spec.index) != 1)}"
        detail = f"{count} given as index into {whose}: one for each axis is needed, such as {[0] * len(shape)}"
        yield error_at(detail, "element", "index")
        return
    for axis, (number, length) in enumerate(zip(spec.index, shape, strict=True)):
        if not -length <= number < length:
            detail = (
                f"{number} is out of range on axis {axis} of {whose}: from 0 to {length - 1}, "
                f"or counted from the end from -1 to {-length}"
            )
            yield error_at(detail, "element", "index", axis)
