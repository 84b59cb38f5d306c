"""One matrix in colours: a table with numbers if it is small, else a picture."""

from collections.abc import Collection

import numpy as np

from gradcheckd.arrays import Array
from gradcheckd.page import colour_scale, number_format
from gradcheckd.page.markup import Markup, join_markup, make_element
from gradcheckd.page.png_image import reduce_matrix, write_png

MAX_TABLE_CELLS = 1024
_MAX_NUMBER_COLUMNS = 8
"""Columns with room for numbers; of more, a cell shows the sign, and its number on pointing."""
_MAX_INDEXED_CELLS = 32
CellIndex = tuple[int, int]


def render_heatmap(
    matrix: Array, label: str, description: str, limit: float, marked_cells: Collection[CellIndex] = ()
) -> Markup:
    """Draw a matrix.

    Parameters
    ----------
    matrix
        Numbers to draw, shape (rows, columns).
    label
        Caption.
    description
        Text for readers who do not see the picture.
    limit
        Magnitude of the number with the strongest colour.
    marked_cells
        Places of wrong elements.
    """
    image = (
        _render_table(matrix, limit, marked_cells)
        if matrix.size <= MAX_TABLE_CELLS
        else _render_picture(matrix, description, limit)
    )
    return make_element("figure", make_element("figcaption", label), image, class_="map")


def _render_table(matrix: Array, limit: float, marked_cells: Collection[CellIndex]) -> Markup:
    rows, columns = matrix.shape
    fills = colour_scale.colour_values(matrix, limit)
    has_numbers = columns <= _MAX_INDEXED_CELLS
    table_rows = [_render_column_numbers(columns, rows > 1)] if has_numbers and columns > 1 else []
    for row in range(rows):
        row_header = make_element("th", str(row), scope="row") if has_numbers and rows > 1 else None
        cells = [
            _render_cell(
                float(matrix[row, column]),
                fills[row, column],
                show_number=columns > _MAX_NUMBER_COLUMNS,
                is_wrong=(row, column) in marked_cells,
            )
            for column in range(columns)
        ]
        table_rows.append(make_element("tr", row_header, *cells))
    return make_element("div", make_element("table", *table_rows, class_="cells"), class_="scroll")


def _render_column_numbers(columns: int, has_row_numbers: bool) -> Markup:
    corner = make_element("td") if has_row_numbers else None
    return make_element("tr", corner, *(make_element("th", str(column), scope="col") for column in range(columns)))


def _render_cell(value: float, fill: Array, *, show_number: bool, is_wrong: bool) -> Markup:
    number = number_format.format_number(value, 6)
    style = f"background:{colour_scale.to_css(fill)};color:{colour_scale.choose_ink(fill)}"
    text = number_format.format_sign(value) if show_number else number_format.format_number(value, 3)
    mark = make_element("span", " (wrong)", class_="hidden") if is_wrong else None
    return make_element("td", text, mark, style=style, title=number, class_="wrong" if is_wrong else None)


def _render_picture(matrix: Array, description: str, limit: float) -> Markup:
    reduced, block_length = reduce_matrix(matrix)
    finite_values = matrix[np.isfinite(matrix)]
    range_text = (
        f"from {number_format.format_number(float(finite_values.min()), 3)} "
        f"to {number_format.format_number(float(finite_values.max()), 3)}"
        if finite_values.size
        else ""
    )
    pixel_note = f"a pixel is the largest of {block_length} by {block_length} elements" if block_length > 1 else ""
    nonfinite_note = (
        f"{number_format.format_count(matrix.size - finite_values.size, 'element')} not finite"
        if finite_values.size < matrix.size
        else ""
    )
    text = "; ".join(filter(None, (range_text, nonfinite_note, pixel_note)))
    rows, columns = matrix.shape
    image = make_element(
        "img",
        src=write_png(colour_scale.colour_values(reduced, limit)),
        alt=f"{description}, {rows} by {columns}, {text}",
    )
    return join_markup(image, make_element("p", f"{rows} \N{MULTIPLICATION SIGN} {columns}, {text}", class_="quiet"))


def render_legend(limit: float, description: str) -> Markup:
    """Render the scale of colours, with the numbers at its ends."""
    bar = make_element(
        "span", *(make_element("i", style=f"background:{colour}") for colour in colour_scale.make_ramp()), class_="bar"
    )
    return make_element(
        "p",
        f"{description} ",
        number_format.format_number(-limit, 3),
        bar,
        f"+{number_format.format_number(limit, 3)}",
        class_="legend",
    )
