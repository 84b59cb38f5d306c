"""The heat maps of one name: every route, and what is judged less the finite difference, slice by slice."""

from collections.abc import Iterator, Mapping

import numpy as np

from gradcheckd.arrays import Array
from gradcheckd.findings import Gradient, Verdict
from gradcheckd.page import colours, figures
from gradcheckd.page.heatmap import CELLS, Place, heatmap, legend
from gradcheckd.page.markup import Markup, element, joined

_SLICES = 6
_ROUTES = {
    "candidate": "candidate, yours",
    "analytic": "analytic",
    "autograd": "autograd",
    "finite_difference": "finite difference",
}
Leading = tuple[int, ...]


def maps(name: str, gradient: Gradient, verdict: Verdict) -> Markup:
    """Draw the gradients of a name."""
    routes = {route: each for route in _ROUTES if (each := getattr(gradient, route)) is not None}
    shape = gradient.analytic.shape
    figure = _Maps(name, {route: _float(each) for route, each in routes.items() if each.shape == shape})
    places = _leading(shape, verdict)
    wrong = [_wrong(verdict, at) for at in places]
    drawn = [figure.slice(*each) for each in zip(places, wrong, strict=True)]
    return joined(
        figure.legends(),
        _framed(verdict, 0 if _is_picture(shape) else sum(map(len, wrong))),
        *drawn,
        _left_out(shape, len(drawn)),
        _unexamined(routes["finite_difference"]),
        _other_shape(routes, shape),
    )


class _Maps:
    """The maps of one name, on the same scale in all slices.

    Parameters
    ----------
    name
        Of the tensor.
    shown
        Gradients by route, of the tensor's shape.
    """

    def __init__(self, name: str, shown: dict[str, Array]) -> None:
        judged = "candidate" if "candidate" in shown else "analytic"
        self._name, self._shown = name, shown
        self._what = f"{judged} \N{MINUS SIGN} finite difference"
        self._difference = _difference(shown[judged], shown["finite_difference"])
        self._examined = not _is_unexamined(shown["finite_difference"])
        if not self._examined:
            del shown["finite_difference"]
        self._most, self._worst = colours.largest(list(shown.values())), colours.largest([self._difference])

    def legends(self) -> Markup:
        """Draw the scales."""
        return joined(legend(self._most, "gradients"), legend(self._worst, self._what) if self._worst else None)

    def slice(self, at: Leading, wrong: set[Place]) -> Markup:
        """Draw the last two axes at a place along the others, with elements that are wrong outlined."""
        title = element("h4", f"{figures.place(self._name, at)}[:][:]") if at else None
        return joined(title, element("div", *self._drawn(at, wrong), class_="maps"))

    def _drawn(self, at: Leading, wrong: set[Place]) -> Iterator[Markup]:
        for route, array in self._shown.items():
            marked = wrong if route == "candidate" else ()
            what = f"{_ROUTES[route]} gradient of {self._name}"
            yield heatmap(_matrix(array, at), _ROUTES[route], what, self._most, marked)
        if not self._examined:
            return
        what = f"{self._what}, of {self._name}"
        yield heatmap(_matrix(self._difference, at), self._what, what, self._worst, wrong)


def _float(array: Array) -> Array:
    return np.atleast_1d(array.astype(np.float64))


def _difference(judged: Array, reference: Array) -> Array:
    # What is not finite in either is not finite in the difference: a finding, not an accident.
    with np.errstate(all="ignore"):
        return judged - reference


def _leading(shape: tuple[int, ...], verdict: Verdict) -> list[Leading]:
    """Places along all axes but the last two: those of the worst elements first."""
    axes = shape[:-2]
    worst = [each.index[:-2] for each in verdict.worst if each.index is not None and len(each.index) == len(shape)]
    first = (tuple(int(each) for each in at) for at in np.ndindex(*axes))
    found: dict[Leading, None] = dict.fromkeys(worst)
    for at in first:
        if len(found) >= _SLICES:
            break
        found[at] = None
    return sorted(list(found)[:_SLICES])


def _matrix(array: Array, at: Leading) -> Array:
    return np.atleast_2d(array[at])


def _wrong(verdict: Verdict, at: Leading) -> set[Place]:
    """Places in a slice of the elements that are known to be wrong."""
    found: set[Place] = set()
    for each in verdict.worst:
        if each.outcome == "fail" and each.index is not None and each.index[:-2] == at:
            row, column = (0, 0, *each.index)[-2:]
            found.add((row, column))
    return found


def _framed(verdict: Verdict, framed: int) -> Markup | None:
    """How many of the elements that are wrong have a frame: one without it is not thereby right."""
    failed = verdict.elements.failed
    if not failed:
        return None
    if framed >= failed:
        said = f"framed: {figures.counted(failed, 'element')}, all that fail"
    elif framed:
        said = f"framed: the worst {framed:,} of {failed:,} elements that fail; the others that fail have no frame"
    else:
        said = f"{figures.counted(failed, 'element')} fail, and none is framed in maps of so many elements"
    return element("p", said, class_="legend")


def _is_picture(shape: tuple[int, ...]) -> bool:
    return int(np.prod(shape[-2:], dtype=int)) > CELLS


def _is_unexamined(finite_difference: Array) -> bool:
    return bool(np.isnan(finite_difference).all())


def _unexamined(finite_difference: Array) -> Markup | None:
    if not _is_unexamined(_float(finite_difference)):
        return None
    return element(
        "p", "finite difference: not examined element by element, and so there is none to be drawn", class_="quiet"
    )


def _left_out(shape: tuple[int, ...], shown: int) -> Markup | None:
    count = int(np.prod(shape[:-2], dtype=int))
    if count <= shown:
        return None
    return element(
        "p",
        f"{shown} of {count:,} slices are drawn: those with the worst elements, and the first others.",
        class_="quiet",
    )


def _other_shape(routes: Mapping[str, Array], shape: tuple[int, ...]) -> Markup | None:
    candidate = routes.get("candidate")
    if candidate is None or candidate.shape == shape:
        return None
    return element(
        "p", f"The candidate has the shape {list(candidate.shape)} and is not drawn; the tensor has {list(shape)}."
    )
