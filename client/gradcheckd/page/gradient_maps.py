"""The heat maps of one tensor: every route, and the judged gradient less the finite difference, slice by slice."""

from collections.abc import Iterator, Mapping

import numpy as np

from gradcheckd.arrays import Array
from gradcheckd.page import colour_scale, number_format
from gradcheckd.page.heatmap import MAX_TABLE_CELLS, CellIndex, render_heatmap, render_legend
from gradcheckd.page.markup import Markup, join_markup, make_element
from gradcheckd.report_parts import Gradient, Verdict

_MAX_SLICES = 6
_ROUTE_LABELS = {
    "candidate": "candidate, yours",
    "analytic": "analytic",
    "autograd": "autograd",
    "finite_difference": "finite difference",
}
LeadingIndex = tuple[int, ...]


def render_maps(name: str, gradient: Gradient, verdict: Verdict) -> Markup:
    """Draw the gradients of a name."""
    routes = {route: array for route in _ROUTE_LABELS if (array := getattr(gradient, route)) is not None}
    shape = gradient.analytic.shape
    gradient_maps = _GradientMaps(
        name, {route: _to_float(array) for route, array in routes.items() if array.shape == shape}
    )
    leading_indices = _choose_slices(shape, verdict)
    wrong_cells_by_slice = [_find_wrong_cells(verdict, leading_index) for leading_index in leading_indices]
    slices = [
        gradient_maps.render_slice(*slice_and_cells)
        for slice_and_cells in zip(leading_indices, wrong_cells_by_slice, strict=True)
    ]
    return join_markup(
        gradient_maps.render_legends(),
        _describe_framed(verdict, 0 if _is_picture(shape) else sum(map(len, wrong_cells_by_slice))),
        *slices,
        _describe_omitted_slices(shape, len(slices)),
        _describe_unexamined(routes["finite_difference"]),
        _describe_other_shapes(routes, shape),
    )


class _GradientMaps:
    """The maps of one name, on the same scale in all slices.

    Parameters
    ----------
    name
        Name of the tensor.
    routes
        Gradients by route, of the tensor's shape.
    """

    def __init__(self, name: str, routes: dict[str, Array]) -> None:
        judged = "candidate" if "candidate" in routes else "analytic"
        self._name, self._routes = name, routes
        self._difference_label = f"{judged} \N{MINUS SIGN} finite difference"
        self._difference = _subtract(routes[judged], routes["finite_difference"])
        self._examined = not _is_unexamined(routes["finite_difference"])
        if not self._examined:
            del routes["finite_difference"]
        self._limit, self._difference_limit = (
            colour_scale.find_largest_magnitude(list(routes.values())),
            colour_scale.find_largest_magnitude([self._difference]),
        )

    def render_legends(self) -> Markup:
        """Draw the scales."""
        return join_markup(
            render_legend(self._limit, "gradients"),
            render_legend(self._difference_limit, self._difference_label) if self._difference_limit else None,
        )

    def render_slice(self, leading_index: LeadingIndex, wrong_cells: set[CellIndex]) -> Markup:
        """Draw the last two axes at a place along the others, with wrong elements outlined."""
        title = (
            make_element("h4", f"{number_format.format_element(self._name, leading_index)}[:][:]")
            if leading_index
            else None
        )
        return join_markup(title, make_element("div", *self._render_routes(leading_index, wrong_cells), class_="maps"))

    def _render_routes(self, leading_index: LeadingIndex, wrong_cells: set[CellIndex]) -> Iterator[Markup]:
        for route, array in self._routes.items():
            marked_cells = wrong_cells if route == "candidate" else ()
            description = f"{_ROUTE_LABELS[route]} gradient of {self._name}"
            yield render_heatmap(
                _get_slice(array, leading_index), _ROUTE_LABELS[route], description, self._limit, marked_cells
            )
        if not self._examined:
            return
        description = f"{self._difference_label}, of {self._name}"
        yield render_heatmap(
            _get_slice(self._difference, leading_index),
            self._difference_label,
            description,
            self._difference_limit,
            wrong_cells,
        )


def _to_float(array: Array) -> Array:
    return np.atleast_1d(array.astype(np.float64))


def _subtract(judged: Array, reference: Array) -> Array:
    # A number that is not finite makes a difference that is not: a finding, not an accident.
    with np.errstate(all="ignore"):
        return judged - reference


def _choose_slices(shape: tuple[int, ...], verdict: Verdict) -> list[LeadingIndex]:
    """Choose places along all axes but the last two: those of the worst elements first."""
    axes = shape[:-2]
    worst_indices = [
        element.index[:-2]
        for element in verdict.worst
        if element.index is not None and len(element.index) == len(shape)
    ]
    all_indices = (tuple(int(position) for position in leading_index) for leading_index in np.ndindex(*axes))
    chosen_indices: dict[LeadingIndex, None] = dict.fromkeys(worst_indices)
    for leading_index in all_indices:
        if len(chosen_indices) >= _MAX_SLICES:
            break
        chosen_indices[leading_index] = None
    return sorted(list(chosen_indices)[:_MAX_SLICES])


def _get_slice(array: Array, leading_index: LeadingIndex) -> Array:
    return np.atleast_2d(array[leading_index])


def _find_wrong_cells(verdict: Verdict, leading_index: LeadingIndex) -> set[CellIndex]:
    """Find the places in a slice of the elements that are known to be wrong."""
    cells: set[CellIndex] = set()
    for element in verdict.worst:
        if element.outcome == "fail" and element.index is not None and element.index[:-2] == leading_index:
            row, column = (0, 0, *element.index)[-2:]
            cells.add((row, column))
    return cells


def _describe_framed(verdict: Verdict, framed_count: int) -> Markup | None:
    """Say how many wrong elements have a frame: an element without one is not thereby right."""
    failed_count = verdict.elements.failed
    if not failed_count:
        return None
    if framed_count >= failed_count:
        text = f"framed: {number_format.format_count(failed_count, 'element')}, all that fail"
    elif framed_count:
        text = (
            f"framed: the worst {framed_count:,} of {failed_count:,} elements that fail; the others that fail have no "
            "frame"
        )
    else:
        text = (
            f"{number_format.format_count(failed_count, 'element')} fail, and none is framed in maps of so many "
            "elements"
        )
    return make_element("p", text, class_="legend")


def _is_picture(shape: tuple[int, ...]) -> bool:
    return int(np.prod(shape[-2:], dtype=int)) > MAX_TABLE_CELLS


def _is_unexamined(finite_difference: Array) -> bool:
    return bool(np.isnan(finite_difference).all())


def _describe_unexamined(finite_difference: Array) -> Markup | None:
    if not _is_unexamined(_to_float(finite_difference)):
        return None
    return make_element(
        "p", "finite difference: not examined element by element, and so there is none to be drawn", class_="quiet"
    )


def _describe_omitted_slices(shape: tuple[int, ...], shown_count: int) -> Markup | None:
    count = int(np.prod(shape[:-2], dtype=int))
    if count <= shown_count:
        return None
    return make_element(
        "p",
        f"{shown_count} of {count:,} slices are drawn: those with the worst elements, and the first others.",
        class_="quiet",
    )


def _describe_other_shapes(routes: Mapping[str, Array], shape: tuple[int, ...]) -> Markup | None:
    candidate = routes.get("candidate")
    if candidate is None or candidate.shape == shape:
        return None
    return make_element(
        "p", f"The candidate has the shape {list(candidate.shape)} and is not drawn; the tensor has {list(shape)}."
    )
