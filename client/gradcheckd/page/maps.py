"""The heat maps of one name: every route, and what is judged less the finite difference, slice by slice."""

from collections.abc import Iterator, Mapping

import numpy as np

from gradcheckd.arrays import Array
from gradcheckd.findings import Gradient, Verdict
from gradcheckd.page import colours, figures
from gradcheckd.page.heatmap import Place, heatmap, legend
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
    shown = {route: _float(each) for route, each in routes.items() if each.shape == shape}
    judged = "candidate" if "candidate" in shown else "analytic"
    difference = _difference(shown[judged], shown["finite_difference"])
    most, worst = colours.largest(list(shown.values())), colours.largest([difference])
    what = f"{judged} \N{MINUS SIGN} finite difference"
    drawn = [
        _slice(name, at, shown, difference, (most, worst), _wrong(verdict, at), what) for at in _leading(shape, verdict)
    ]
    legends = joined(legend(most, "gradients"), legend(worst, what) if worst else None)
    return joined(legends, *drawn, _left_out(shape, len(drawn)), _other_shape(routes, shape))


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


def _slice(
    name: str,
    at: Leading,
    shown: Mapping[str, Array],
    difference: Array,
    scales: tuple[float, float],
    wrong: set[Place],
    what: str,
) -> Markup:
    title = element("h4", f"{figures.place(name, at)}[:][:]") if at else None
    return joined(title, element("div", *_routes(name, at, shown, difference, scales, wrong, what), class_="maps"))


def _routes(
    name: str,
    at: Leading,
    shown: Mapping[str, Array],
    difference: Array,
    scales: tuple[float, float],
    wrong: set[Place],
    what: str,
) -> Iterator[Markup]:
    most, worst = scales
    for route, array in shown.items():
        marked = wrong if route == "candidate" else ()
        yield heatmap(_matrix(array, at), _ROUTES[route], f"{_ROUTES[route]} gradient of {name}", most, marked)
    yield heatmap(_matrix(difference, at), what, f"{what}, of {name}", worst, wrong)


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
