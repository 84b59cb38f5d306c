"""The heat maps of one name: every route, and what is judged less the finite difference, slice by slice."""

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
    routes = {route: each for route in _ROUTE_LABELS if (each := getattr(gradient, route)) is not None}
    shape = gradient.analytic.shape
    figure = _GradientMaps(name, {route: _to_float(each) for route, each in routes.items() if each.shape == shape})
    places = _choose_slices(shape, verdict)
    wrong = [_find_wrong_cells(verdict, at) for at in places]
    drawn = [figure.render_slice(*each) for each in zip(places, wrong, strict=True)]
    return join_markup(
        figure.render_legends(),
        _describe_framed(verdict, 0 if _is_picture(shape) else sum(map(len, wrong))),
        *drawn,
        _describe_omitted_slices(shape, len(drawn)),
        _describe_unexamined(routes["finite_difference"]),
        _describe_other_shapes(routes, shape),
    )


class _GradientMaps:
    """The maps of one name, on the same scale in all slices.

    Parameters
    ----------
    name
        Of the tensor.
    shown
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

    def render_slice(self, leading_index: LeadingIndex, wrong: set[CellIndex]) -> Markup:
        """Draw the last two axes at a place along the others, with elements that are wrong outlined."""
        title = (
            make_element("h4", f"{number_format.format_element(self._name, leading_index)}[:][:]")
            if leading_index
            else None
        )
        return join_markup(title, make_element("div", *self._render_routes(leading_index, wrong), class_="maps"))

    def _render_routes(self, leading_index: LeadingIndex, wrong: set[CellIndex]) -> Iterator[Markup]:
        for route, array in self._routes.items():
            marked = wrong if route == "candidate" else ()
            what = f"{_ROUTE_LABELS[route]} gradient of {self._name}"
            yield render_heatmap(_get_slice(array, leading_index), _ROUTE_LABELS[route], what, self._limit, marked)
        if not self._examined:
            return
        what = f"{self._difference_label}, of {self._name}"
        yield render_heatmap(
            _get_slice(self._difference, leading_index), self._difference_label, what, self._difference_limit, wrong
        )


def _to_float(array: Array) -> Array:
    return np.atleast_1d(array.astype(np.float64))


def _subtract(judged: Array, reference: Array) -> Array:
    # What is not finite in either is not finite in the difference: a finding, not an accident.
    with np.errstate(all="ignore"):
        return judged - reference


def _choose_slices(shape: tuple[int, ...], verdict: Verdict) -> list[LeadingIndex]:
    """Places along all axes but the last two: those of the worst elements first."""
    axes = shape[:-2]
    worst = [each.index[:-2] for each in verdict.worst if each.index is not None and len(each.index) == len(shape)]
    first = (tuple(int(each) for each in at) for at in np.ndindex(*axes))
    found: dict[LeadingIndex, None] = dict.fromkeys(worst)
    for at in first:
        if len(found) >= _MAX_SLICES:
            break
        found[at] = None
    return sorted(list(found)[:_MAX_SLICES])


def _get_slice(array: Array, leading_index: LeadingIndex) -> Array:
    return np.atleast_2d(array[leading_index])


def _find_wrong_cells(verdict: Verdict, leading_index: LeadingIndex) -> set[CellIndex]:
    """Places in a slice of the elements that are known to be wrong."""
    found: set[CellIndex] = set()
    for each in verdict.worst:
        if each.outcome == "fail" and each.index is not None and each.index[:-2] == leading_index:
            row, column = (0, 0, *each.index)[-2:]
            found.add((row, column))
    return found


def _describe_framed(verdict: Verdict, framed: int) -> Markup | None:
    """How many of the elements that are wrong have a frame: one without it is not thereby right."""
    failed = verdict.elements.failed
    if not failed:
        return None
    if framed >= failed:
        said = f"framed: {number_format.format_count(failed, 'element')}, all that fail"
    elif framed:
        said = f"framed: the worst {framed:,} of {failed:,} elements that fail; the others that fail have no frame"
    else:
        said = f"{number_format.format_count(failed, 'element')} fail, and none is framed in maps of so many elements"
    return make_element("p", said, class_="legend")


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
