"""What the modules of the page compute, without its looks; in the browser, which is where they run."""

import itertools
import json
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.integration.conftest import ROOT


def evaluate_in_module(page: Page, module: str, expression: str, given: Any = None) -> Any:
    """What an expression in the exports `m` of a module, and in what is `given`, comes to."""
    return page.evaluate(f"(given) => import('/page/{module}.js').then((m) => {expression})", given)


@pytest.mark.parametrize(
    ("pointer", "excerpt"),
    [
        ("", "all"),
        ("/a", '{"x~/y": [1, {"z": "]}"}], "": 2}'),
        ("/a/x~0~1y/1/z", '"]}"'),
        ("/a/", "2"),
        ("/b", "-1.5e3"),
        ("/a/x~0~1y/7", '[1, {"z": "]}"}]'),
    ],
)
def test_a_json_pointer_finds_its_value_or_the_nearest_one(module_page: Page, pointer: str, excerpt: str) -> None:
    text = '{ "a": {"x~/y": [1, {"z": "]}"}], "": 2},\n "b" : -1.5e3 }'
    start, end = evaluate_in_module(module_page, "pointer", "m.located(...given)", [text, pointer])
    assert text[start:end] == (text if excerpt == "all" else excerpt)
    assert evaluate_in_module(module_page, "pointer", "m.lineOf(...given)", [text, start]) == (
        2 if pointer == "/b" else 1
    )


CONTRASTS = """[...Array(401).keys()]
  .flatMap((each) => [m.signed(1)(each / 200 - 1), m.sizes(0, 1)(10 ** (each / 400))])
  .map(({fill, ink}) => {
    const back = m.luminance(fill.match(/\\d+/g).map(Number));
    const front = ink === "#000" ? 0 : 1;
    return (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
  })"""
LUMINANCES = "given.map((each) => m.luminance(m.signed(1)(each).fill.match(/\\d+/g).map(Number)))"


def test_text_on_a_colour_can_be_read(module_page: Page) -> None:
    assert min(evaluate_in_module(module_page, "colours", CONTRASTS)) >= 4.5, "of WCAG 2"
    assert evaluate_in_module(module_page, "colours", "m.signed(1)(NaN).fill") == "rgb(128 128 128)"


def test_the_scale_of_signed_numbers_is_even_in_lightness_and_alike_on_both_sides(module_page: Page) -> None:
    """By L* of CIELAB, in sixteen steps from end to end."""
    values = [step / 8 - 1 for step in range(17)]
    lightness = [
        116 * luminance ** (1 / 3) - 16 for luminance in evaluate_in_module(module_page, "colours", LUMINANCES, values)
    ]
    assert all(abs(left - right) < 9 for left, right in zip(lightness[:8], lightness[:8:-1], strict=True))
    assert all(4 < abs(there - here) < 14 for here, there in itertools.pairwise(lightness))
    assert sorted(lightness[:9]) == lightness[:9]
    assert sorted(lightness[8:], reverse=True) == lightness[8:]


def test_written_json_parses_to_the_same_value(module_page: Page) -> None:
    request = {"tensors": {"a,b": [[1, 2.5], [3, -4]], "list 0": []}, "model": {"nodes": [{"inputs": ["a,b", '"', 2]}]}}
    text = evaluate_in_module(module_page, "editor", "m.written(given)", request)
    assert json.loads(text) == request
    assert "[1, 2.5]" in text


def test_a_safetensors_file_is_the_request_that_it_holds(module_page: Page) -> None:
    raw = list((ROOT / "examples" / "reference.safetensors").read_bytes())
    request = evaluate_in_module(module_page, "safetensors", "m.requestOf(new Uint8Array(given).buffer)", raw)
    example = json.loads((ROOT / "examples" / "reference.json").read_text())
    assert {name: request[name] for name in ("tensors", "weights")} == {
        name: example[name] for name in ("tensors", "weights")
    }
    assert request["with_respect_to"] == ["w1"]


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
    assert evaluate_in_module(module_page, "safetensors", "m.requestOf(new Uint8Array(given).buffer)", raw) == {
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


def test_nodes_with_several_outputs_are_drawn_by_output(module_page: Page) -> None:
    nodes = [
        {"name": "top.k", "op": "topk", "inputs": ["x"], "k": 2},
        {"name": "g", "op": "gather", "inputs": ["x", "top.k.indices"], "dim": 0},
        {"name": "p", "op": "mul", "inputs": {"input": "g", "other": "top.k.values"}},
    ]
    split = evaluate_in_module(module_page, "layout", "m.splitOutputs(given)", nodes)
    assert [node["name"] for node in split] == ["top.k.indices", "top.k.values", "g", "p"]
    assert split[0]["op"] == "topk"
    assert evaluate_in_module(module_page, "layout", "m.splitOutputs(given)", nodes[:1]) == nodes[:1]


def test_graph_layout_puts_readers_behind_their_inputs(module_page: Page) -> None:
    columns = dict(evaluate_in_module(module_page, "layout", "[...m.layered(given, ['x', 'w'])]", NODES))
    assert columns == {"x": 0, "a": 1, "w": 1, "b": 2, "c": 3, "loss": 4}


PLACES = """(({items, arrows}) => [
  [...items].map(([name, {x, y}]) => [name, x, y]),
  arrows.map(({from, to, way}) => [from, to, way.map(({x, y, height}) => [x, y, height])]),
])(m.layout(given, ["x", "w"], {width: 100, height: 50, across: 20, down: 10, lane: 8}))"""


def test_graph_boxes_do_not_overlap(module_page: Page) -> None:
    boxes, arrows = evaluate_in_module(module_page, "layout", PLACES, NODES)
    tops = [(x, y) for _, x, y in boxes]
    for x, y in tops:
        assert not any((x, y) != (u, v) and x == u and abs(y - v) < 60 for u, v in tops)
    (passing,) = [way for source, target, way in arrows if (source, target) == ("x", "c")]
    assert len(passing) == 4
    for x, y, height in passing[1:-1]:
        assert all(x != u or y + height <= v or v + 50 <= y for u, v in tops)
