"""What the modules of the page compute, without its looks; in the browser, which is where they run."""

import itertools
import json
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.integration.conftest import ROOT


def called(page: Page, module: str, expression: str, given: Any = None) -> Any:
    """What an expression in the exports `m` of a module, and in what is `given`, comes to."""
    return page.evaluate(f"(given) => import('/page/{module}.js').then((m) => {expression})", given)


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", "all"),
        ("/a", '{"x~/y": [1, {"z": "]}"}], "": 2}'),
        ("/a/x~0~1y/1/z", '"]}"'),
        ("/a/", "2"),
        ("/b", "-1.5e3"),
        ("/a/x~0~1y/7", '[1, {"z": "]}"}]'),
    ],
)
def test_a_pointer_leads_to_its_value_or_as_near_as_there_is(module_page: Page, pointer: str, found: str) -> None:
    text = '{ "a": {"x~/y": [1, {"z": "]}"}], "": 2},\n "b" : -1.5e3 }'
    start, end = called(module_page, "pointer", "m.located(...given)", [text, pointer])
    assert text[start:end] == (text if found == "all" else found)
    assert called(module_page, "pointer", "m.lineOf(...given)", [text, start]) == (2 if pointer == "/b" else 1)


CONTRASTS = """[...Array(401).keys()]
  .flatMap((each) => [m.signed(1)(each / 200 - 1), m.sizes(0, 1)(10 ** (each / 400))])
  .map(({fill, ink}) => {
    const back = m.luminance(fill.match(/\\d+/g).map(Number));
    const front = ink === "#000" ? 0 : 1;
    return (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
  })"""
LUMINANCES = "given.map((each) => m.luminance(m.signed(1)(each).fill.match(/\\d+/g).map(Number)))"


def test_text_on_a_colour_can_be_read(module_page: Page) -> None:
    assert min(called(module_page, "colours", CONTRASTS)) >= 4.5, "of WCAG 2"
    assert called(module_page, "colours", "m.signed(1)(NaN).fill") == "rgb(128 128 128)"


def test_the_scale_of_signed_numbers_is_even_in_lightness_and_alike_on_both_sides(module_page: Page) -> None:
    """By L* of CIELAB, in sixteen steps from end to end."""
    values = [step / 8 - 1 for step in range(17)]
    lightness = [116 * each ** (1 / 3) - 16 for each in called(module_page, "colours", LUMINANCES, values)]
    assert all(abs(left - right) < 9 for left, right in zip(lightness[:8], lightness[:8:-1], strict=True))
    assert all(4 < abs(there - here) < 14 for here, there in itertools.pairwise(lightness))
    assert sorted(lightness[:9]) == lightness[:9]
    assert sorted(lightness[8:], reverse=True) == lightness[8:]


def test_json_is_written_so_that_it_reads_the_same(module_page: Page) -> None:
    request = {"tensors": {"a,b": [[1, 2.5], [3, -4]], "list 0": []}, "model": {"nodes": [{"inputs": ["a,b", '"', 2]}]}}
    text = called(module_page, "editor", "m.written(given)", request)
    assert json.loads(text) == request
    assert "[1, 2.5]" in text


def test_a_safetensors_file_is_the_request_that_it_holds(module_page: Page) -> None:
    raw = list((ROOT / "examples" / "reference.safetensors").read_bytes())
    found = called(module_page, "safetensors", "m.requestOf(new Uint8Array(given).buffer)", raw)
    example = json.loads((ROOT / "examples" / "reference.json").read_text())
    assert {name: found[name] for name in ("tensors", "weights")} == {
        name: example[name] for name in ("tensors", "weights")
    }
    assert found["with_respect_to"] == ["w1"]


def test_read_safetensors_keep_their_datatypes_and_the_bytes_of_large_tensors(module_page: Page) -> None:
    header = {
        "__metadata__": {"request": '{"dtype": "float32"}'},
        "candidate/w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "tensors/i": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]},
        "weights/a/b": {"dtype": "F64", "shape": [], "data_offsets": [16, 24]},
    }
    text = json.dumps(header).encode()
    data = bytes.fromhex("0000c07f0000803f" + "0700000000000000" + "000000000000e03f")
    raw = list(len(text).to_bytes(8, "little") + text + data)
    assert called(module_page, "safetensors", "m.requestOf(new Uint8Array(given).buffer)", raw) == {
        "dtype": "float32",
        "tensors": {"i": {"datatype": "INT64", "shape": [1], "b64": "BwAAAAAAAAA="}},
        "weights": {"a/b": 0.5},
        "candidate": {"w": {"datatype": "FP32", "shape": [2], "data": ["NaN", 1]}},
    }


NODES = [
    {"name": "c", "op": "add", "inputs": ["b", "x"]},
    {"name": "a", "op": "tanh", "inputs": ["x"]},
    {"name": "b", "op": "mul", "inputs": {"input": "a", "other": "w"}},
    {"name": "loss", "op": "mean", "inputs": ["c"]},
]


def test_a_node_stands_behind_all_that_it_reads_and_a_leaf_before_its_first_reader(module_page: Page) -> None:
    columns = dict(called(module_page, "layout", "[...m.layered(given, ['x', 'w'])]", NODES))
    assert columns == {"x": 0, "a": 1, "w": 1, "b": 2, "c": 3, "loss": 4}


PLACES = """(({items, arrows}) => [
  [...items].map(([name, {x, y}]) => [name, x, y]),
  arrows.map(({from, to, way}) => [from, to, way.map(({x, y, height}) => [x, y, height])]),
])(m.layout(given, ["x", "w"], {width: 100, height: 50, across: 20, down: 10, lane: 8}))"""


def test_no_box_is_on_another_and_an_arrow_passes_between_them(module_page: Page) -> None:
    boxes, arrows = called(module_page, "layout", PLACES, NODES)
    tops = [(x, y) for _, x, y in boxes]
    for x, y in tops:
        assert not any((x, y) != (u, v) and x == u and abs(y - v) < 60 for u, v in tops)
    (passing,) = [way for source, target, way in arrows if (source, target) == ("x", "c")]
    assert len(passing) == 4
    for x, y, height in passing[1:-1]:
        assert all(x != u or y + height <= v or v + 50 <= y for u, v in tops)
