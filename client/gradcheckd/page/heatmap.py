"""One matrix in colours: of few elements a table with its numbers, of many a picture."""

from collections.abc import Collection

import numpy as np

from gradcheckd.arrays import Array
from gradcheckd.page import colours, figures
from gradcheckd.page.markup import Markup, element, joined
from gradcheckd.page.picture import png, reduced

CELLS = 1024
_WRITTEN = 8
"""Columns with room for numbers; where there are more, a cell has the sign, and its number for who points at it."""
_NUMBERED = 32
Place = tuple[int, int]


def heatmap(matrix: Array, label: str, what: str, most: float, marked: Collection[Place] = ()) -> Markup:
    """Draw a matrix.

    Parameters
    ----------
    matrix
        (rows, columns).
    label
        Its caption.
    what
        What it is, for who does not see it.
    most
        Size of the number with the strongest colour.
    marked
        Places of elements that are wrong.
    """
    drawn = _table(matrix, most, marked) if matrix.size <= CELLS else _picture(matrix, what, most)
    return element("figure", element("figcaption", label), drawn, class_="map")


def _table(matrix: Array, most: float, marked: Collection[Place]) -> Markup:
    rows, columns = matrix.shape
    fills = colours.signed(matrix, most)
    numbered = columns <= _NUMBERED
    lines = [_numbers(columns, rows > 1)] if numbered and columns > 1 else []
    for row in range(rows):
        head = element("th", str(row), scope="row") if numbered and rows > 1 else None
        cells = [
            _cell(
                float(matrix[row, column]), fills[row, column], wide=columns > _WRITTEN, wrong=(row, column) in marked
            )
            for column in range(columns)
        ]
        lines.append(element("tr", head, *cells))
    return element("div", element("table", *lines, class_="cells"), class_="scroll")


def _numbers(columns: int, rowed: bool) -> Markup:
    corner = element("td") if rowed else None
    return element("tr", corner, *(element("th", str(column), scope="col") for column in range(columns)))


def _cell(value: float, fill: Array, *, wide: bool, wrong: bool) -> Markup:
    number = figures.told(value, 6)
    style = f"background:{colours.css(fill)};color:{colours.ink(fill)}"
    text = figures.sign(value) if wide else figures.told(value, 3)
    mark = element("span", " (wrong)", class_="hidden") if wrong else None
    return element("td", text, mark, style=style, title=number, class_="wrong" if wrong else None)


def _picture(matrix: Array, what: str, most: float) -> Markup:
    small, side = reduced(matrix)
    finite = matrix[np.isfinite(matrix)]
    span = (
        f"from {figures.told(float(finite.min()), 3)} to {figures.told(float(finite.max()), 3)}" if finite.size else ""
    )
    shared = f"a pixel is the largest of {side} by {side} elements" if side > 1 else ""
    strange = f"{figures.counted(matrix.size - finite.size, 'element')} not finite" if finite.size < matrix.size else ""
    said = "; ".join(filter(None, (span, strange, shared)))
    rows, columns = matrix.shape
    image = element("img", src=png(colours.signed(small, most)), alt=f"{what}, {rows} by {columns}, {said}")
    return joined(image, element("p", f"{rows} \N{MULTIPLICATION SIGN} {columns}, {said}", class_="quiet"))


def legend(most: float, what: str) -> Markup:
    """The scale of colours, with the numbers at its ends."""
    bar = element("span", *(element("i", style=f"background:{each}") for each in colours.ramp()), class_="bar")
    return element("p", f"{what} ", figures.told(-most, 3), bar, f"+{figures.told(most, 3)}", class_="legend")
