"""The page of a report: what is on it, that it holds nothing active, and that its pictures are right."""

import re
import struct
import zlib
from base64 import b64decode
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheckd import Service
from gradcheckd.page import colour_scale, number_format, render_page
from gradcheckd.page.markup import Markup, escape_visible, make_element
from gradcheckd.page.png_image import reduce_matrix, write_png
from tests.client.conftest import W1

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><b>",
    "a&amp;b'c`d",
    "turned\u202eround\x1b[31m\x00",
    "<!-- --",
]


class Reader(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "h1", "h2", "h3", "h4", "p", "br"),
    *(
        "ul",
        "li",
        "code",
        "span",
        "div",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "figure",
        "figcaption",
    ),
    *("img", "i", "details", "summary", "strong"),
}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "class", "scope", "style", "title", "src", "alt"),
    *("tabindex", "role", "aria-label"),
}


def read(text: str) -> Reader:
    """Read a page, of which nothing may be active or come from elsewhere."""
    reader = Reader(text)
    assert reader.open == []
    assert {tag for tag, _ in reader.elements} <= TAGS
    assert {name for _, attributes in reader.elements for name in attributes} <= ATTRIBUTES
    for _, attributes in reader.elements:
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
        assert re.fullmatch(r"(background:#[0-9a-f]{6}(;color:#[0-9a-f]{3})?)?", attributes.get("style") or "")
    assert "url(" not in text
    assert "@import" not in text
    return reader


def test_a_failure_is_on_the_page_with_its_bug_and_its_maps(service: Service, wrong_arrays: dict[str, Any]) -> None:
    reader = read(render_page(service.check(**wrong_arrays)))
    for words in (
        "\N{MULTIPLICATION X} fail",
        "transposed",
        "dL/dw1 is the transpose of the reference",
        "2.3767862745225306",
    ):
        assert words in reader.text
    captions = [
        "candidate, yours",
        "analytic",
        "autograd",
        "finite difference",
        "candidate \N{MINUS SIGN} finite difference",
    ]
    assert all(caption in reader.text for caption in captions)
    cells = [attributes for tag, attributes in reader.elements if tag == "td" and "style" in attributes]
    assert [cell["title"] for cell in cells[:4]] == [
        number_format.format_number(float(value), 6) for value in W1.T.ravel()
    ]
    assert sum(cell.get("class") == "wrong" for cell in cells) == 4, "two elements, of the candidate and the difference"
    assert "(wrong)" in reader.text


def test_a_pass_is_on_the_page(service: Service, reference_arrays: dict[str, Any]) -> None:
    reader = read(render_page(service.check(**reference_arrays)))
    assert "\N{CHECK MARK} pass" in reader.text
    assert "(wrong)" not in reader.text
    assert "Probable bug" not in reader.text


def test_without_gradients_there_are_no_maps(service: Service, reference_arrays: dict[str, Any]) -> None:
    reader = read(render_page(service.check(**reference_arrays, include=[])))
    assert "figure" not in {tag for tag, _ in reader.elements}


@pytest.mark.parametrize("name", HOSTILE)
def test_markup_and_control_characters_in_names_are_shown_as_text(service: Service, name: str) -> None:
    nodes = [{"name": "a", "op": "mul", "inputs": [name, name]}, {"name": "loss", "op": "sum", "inputs": ["a"]}]
    report = service.check(weights={name: np.array([1.0, 2.0])}, model=nodes, candidate={name: np.array([5.0, -4.0])})
    reader = read(render_page(report))
    assert escape_visible(name) in render_page(report)
    assert "\u202e" not in reader.text
    assert "\x1b" not in reader.text


def test_the_test_of_names_can_fail() -> None:
    for broken in ("<script>1</script>", "<p onclick='x'>a</p>", "<b>", "<img src='http://x/y.png'>"):
        with pytest.raises(AssertionError):
            read(broken)


@given(st.text())
def test_text_is_escaped_everywhere(text: str) -> None:
    made = make_element("td", text, title=text)
    reader = Reader(made)
    ((tag, attributes),) = reader.elements
    assert tag == "td"
    assert reader.text == attributes["title"]
    assert all(text.isprintable() for text in reader.text)


def test_html_element_omits_missing_attributes() -> None:
    assert make_element("p", None, "a", Markup("<br>"), class_=None, aria_label="b") == '<p aria-label="b">a<br></p>'


GRAPH = [
    {"name": "z", "op": "matmul", "inputs": ["x", "w"]},
    {"name": "t", "op": "tanh", "inputs": ["z"]},
    {"name": "loss", "op": "mean", "inputs": ["t"]},
]


def test_many_elements_are_a_picture(service: Service) -> None:
    rng = np.random.default_rng(0)
    inputs = {"tensors": {"x": rng.normal(size=(5, 40))}, "weights": {"w": rng.normal(size=(40, 30)) / 6}}
    reader = read(render_page(service.check(**inputs, model=GRAPH)))
    images = [attributes for tag, attributes in reader.elements if tag == "img"]
    assert len(images) == 4
    assert str(images[0]["alt"]).startswith("analytic gradient of w, 40 by 30, from ")
    assert decode_png(str(images[0]["src"])).shape == (40, 30, 3)


def decode_png(address: str) -> Any:
    """Read a picture as a browser does, without looking at how it was written."""
    content = b64decode(address.removeprefix("data:image/png;base64,"))
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + data),)
        chunks[kind], at = data, at + 12 + length
    columns, rows, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour) == (8, 2)
    raw = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(rows, 1 + 3 * columns)
    assert not raw[:, 0].any()
    return raw[:, 1:].reshape(rows, columns, 3)


def test_a_picture_has_the_colours_that_are_given() -> None:
    given = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    assert np.array_equal(decode_png(write_png(given)), given)


def test_large_heat_map_shows_the_largest_of_each_block() -> None:
    matrix = np.full((1030, 3), 0.5)
    matrix[700, 1], matrix[1029, 2] = -2.0, np.nan
    small, side = reduce_matrix(matrix)
    assert (small.shape, side) == ((344, 1), 3)
    assert small[233, 0] == -2.0
    assert np.isnan(small[343, 0])
    same, one = reduce_matrix(matrix[:10])
    assert one == 1
    assert same.shape == (10, 3)


def test_slices_and_candidates_of_another_shape_are_rendered(service: Service) -> None:
    w = np.arange(1.0, 25.0).reshape(4, 2, 3)
    nodes = [{"name": "a", "op": "mul", "inputs": ["w", "w"]}, {"name": "loss", "op": "sum", "inputs": ["a"]}]
    wrong = 2 * w
    wrong[3, 1, 2] = 0
    reader = read(render_page(service.check(weights={"w": w}, model=nodes, candidate={"w": wrong})))
    assert "w[3][:][:]" in reader.text
    many = np.ones((10, 1, 2))
    candidate = {"w": np.ones(3)}
    reader = read(render_page(service.check(weights={"w": many}, model=nodes, candidate=candidate)))
    assert "6 of 10 slices are drawn" in reader.text
    assert "The candidate has the shape [3] and is not drawn; the tensor has [10, 1, 2]." in reader.text


def test_page_shows_kinks_directions_and_nonfinite_numbers(service: Service, reference_arrays: dict[str, Any]) -> None:
    nodes = [{"name": "a", "op": "abs", "inputs": ["w"]}, {"name": "loss", "op": "sum", "inputs": ["a"]}]
    assert "from the left" in read(render_page(service.check(weights={"w": 0.0}, model=nodes))).text
    reader = read(render_page(service.check(**reference_arrays, candidate={"w2": np.array([np.nan, np.inf, 0, 0])})))
    assert "NaN" in reader.text
    assert "\N{INFINITY}" in reader.text
    projected = service.check(**reference_arrays, finite_difference={"projections": 2})
    assert "direction 1" in read(render_page(projected)).text
    sampled = service.check(**reference_arrays, finite_difference={"sample": 1})
    assert "NaN" in read(render_page(sampled)).text


def test_long_row_shows_signs_with_numbers_on_hover(service: Service) -> None:
    w = np.linspace(-1, 1, 41)
    nodes = [{"name": "a", "op": "mul", "inputs": ["w", "w"]}, {"name": "loss", "op": "sum", "inputs": ["a"]}]
    reader = read(render_page(service.check(weights={"w": w}, model=nodes)))
    cells = [attributes for tag, attributes in reader.elements if tag == "td" and "style" in attributes]
    assert cells[0]["title"] == "\N{MINUS SIGN}2"
    assert "\N{MINUS SIGN}" * 20 + "0" + "+" * 20 in reader.text


def render_failing_page(service: Service, size: int, failed: int) -> str:
    w = np.ones(size)
    nodes = [{"name": "loss", "op": "sum", "inputs": ["w"]}]
    candidate = np.ones(size)
    candidate[:failed] = 2.5
    return render_page(service.check(weights={"w": w}, model=nodes, candidate={"w": candidate}, include=["gradients"]))


def test_page_states_the_number_of_framed_elements(service: Service) -> None:
    text = render_failing_page(service, 100, 60)
    framed = sum(attributes.get("class") == "wrong" for _, attributes in read(text).elements) // 2
    assert 0 < framed < 60
    assert f"framed: the worst {framed} of 60 elements that fail; the others that fail have no frame" in text
    assert "framed: 2 elements, all that fail" in render_failing_page(service, 100, 2)
    assert "60 elements fail, and none is framed in maps of so many elements" in render_failing_page(service, 1100, 60)
    assert "framed" not in render_failing_page(service, 100, 0)


def test_directional_results_have_no_heat_map(service: Service, reference_arrays: dict[str, Any]) -> None:
    reader = read(render_page(service.check(**reference_arrays, finite_difference={"projections": 2})))
    assert reader.text.count("not examined element by element") == 2
    assert sum(tag == "figure" for tag, _ in reader.elements) == 2 * 2, "analytic and autograd"
    assert "not finite" not in reader.text


def test_an_unknown_bug_fits_nothing(service: Service, wrong_arrays: dict[str, Any]) -> None:
    assert " fits to " in render_page(service.check(**wrong_arrays))
    strange = wrong_arrays | {"candidate": {"w1": np.array([[1.0, 7.0], [-3.0, 0.2]])}}
    report = service.check(**strange)
    assert [diagnosis.name for diagnosis in report.diagnoses["w1"]] == ["unknown"]
    page = render_page(report)
    assert " fits to " not in page
    assert "<h3>No known bug</h3>" in page
    assert "<strong>all elements.</strong>" in page


def test_the_pattern_of_the_wrong_elements_is_on_the_page(service: Service, reference_arrays: dict[str, Any]) -> None:
    flipped = {"w1": W1 * [[1, 1], [1, -1]]}
    report = service.check(**reference_arrays, candidate=flipped)
    assert report.patterns == {"w1": "one element, sign flipped: w1[1][1]"}
    assert report.verdicts["w2"].pattern is None
    assert "<strong>one element, sign flipped: w1[1][1].</strong>" in render_page(report)
    assert "<strong>" not in render_page(service.check(**reference_arrays))


def test_hundreds_of_names_are_not_all_drawn(service: Service) -> None:
    names = [f"w{number}" for number in range(25)]
    nodes = [{"name": "c", "op": "stack", "inputs": [names]}, {"name": "loss", "op": "sum", "inputs": ["c"]}]
    reader = read(render_page(service.check(weights=dict.fromkeys(names, 1.0), model=nodes)))
    assert sum(tag == "figure" for tag, _ in reader.elements) == 20 * 4


@pytest.mark.parametrize("directions", ["random", "coordinates"])
@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_a_black_box_is_on_the_page(service: Service, directions: str, factor: float) -> None:
    w = np.array([0.5, -1.5])
    report = service.check_function(
        lambda w: float(w @ w), w, 2 * factor * w, directions=directions, evaluations="full"
    )
    reader = read(render_page(report))
    assert report.outcome in reader.text
    assert ("direction 3" in reader.text) == (directions == "random")
    assert ("a sign was lost" in reader.text) == (factor < 0)


TOLD = [
    (0.0, "0"), (1.0, "1"), (-1.5, "\N{MINUS SIGN}1.5"), (0.25, "0.25"), (1e-7, "1.000e\N{MINUS SIGN}7"),
    (123456.0, "1.235e5"), (np.nan, "NaN"), (np.inf, "\N{INFINITY}"), (-np.inf, "\N{MINUS SIGN}\N{INFINITY}"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), TOLD, ids=repr)
def test_numbers_are_shown_in_a_few_digits(value: float, text: str) -> None:
    assert number_format.format_number(value) == text


@pytest.mark.parametrize(("value", "sign"), [(2, "+"), (-2, "\N{MINUS SIGN}"), (0, "0"), (np.nan, "?")])
def test_numbers_have_their_sign_character(value: float, sign: str) -> None:
    assert number_format.format_sign(value) == sign


def test_colours_are_even_on_both_sides_and_ink_is_read_on_them() -> None:
    values = np.linspace(-1, 1, 201)
    fills = colour_scale.colour_values(values, 1.0)
    lightness = fills.astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness[:95]) > 0).all()
    assert (np.diff(lightness[106:]) < 0).all()
    assert fills[100].tolist() == colour_scale.colour_values(np.zeros(1), 0.0)[0].tolist()
    for fill in fills:
        assert compute_contrast(fill, colour_scale.choose_ink(fill)) >= 4.5
    assert colour_scale.colour_values(np.array([np.nan, np.inf]), 1.0).tolist() == [[128] * 3] * 2
    assert colour_scale.colour_values(np.array([5e-324]), 5e-324).tolist() == [fills[-1].tolist()]


def compute_contrast(fill: Any, ink: str) -> float:
    def compute_luminance(rgb: Any) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (channel / 255 for channel in rgb)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((compute_luminance(fill), 0.0 if ink == "#000" else 1.0), reverse=True)
    return (light + 0.05) / (dark + 0.05)
