"""The page as people use it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from service.numerics.model.presets import PRESETS
from service.settings import Settings
from tests.application_server import serve_application
from tests.browser.conftest import PageMonitor
from tests.integration.conftest import ROOT, Server
from tests.service.checks.importing.onnx_files import FLOAT, make_classifier, make_file, node

AXE = (Path(__file__).parent / "vendor" / "axe.js").read_text()
MINUS = "\N{MINUS SIGN}"
LOOKS = [(1280, "light"), (1280, "dark"), (380, "light"), (380, "dark")]


DROP = """([name, bytes]) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], name));
  dispatchEvent(new DragEvent("drop", {dataTransfer: files, cancelable: true}));
}"""


def find_violations(page: Page) -> list[str]:
    page.evaluate(AXE)
    violations = page.evaluate(
        "axe.run().then(({violations}) => violations.map((each) => [each.id, each.nodes[0].html]))"
    )
    return [": ".join(violation) for violation in violations]


def plant(page: Page, bug: str) -> None:
    page.select_option("#bug", bug)
    expect(page.locator("#verdict .outcome .badge")).to_contain_text("fail")


def test_page_opens_with_the_reference_example_checked(page: Page) -> None:
    expect(page.locator("#verdict .outcome")).to_contain_text("pass")
    expect(page.locator("#loss")).to_have_text("2.3767862745225306")
    cell = page.locator("section.panel[data-name='w1'] [data-route='analytic'] td").first
    expect(cell).to_have_text(f"w1[0][0] {MINUS}0.13")
    expect(page.locator("#graph .box")).to_have_count(len(PRESETS["conv_tanh_scale_sigmoid"].nodes) + 4)
    expect(page.locator("#curve-text")).to_contain_text("the engine says")
    expect(page.locator("#worst tbody tr")).to_have_count(8)
    expect(page.locator("[role=grid]")).to_have_count(2 * (3 + 3))
    expect(page.locator("section.panel[data-name='w1'] [aria-selected='true']")).to_have_count(3 + 3)


def test_page_reopens_from_the_cache_of_the_browser(page: Page) -> None:
    with page.expect_response(lambda response: response.url.endswith("/page/main.js")) as kept:
        page.reload()
    assert kept.value.status in (200, 304)
    expect(page.locator("#loss")).to_have_text("2.3767862745225306")


@pytest.mark.parametrize("page", LOOKS, indirect=True)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("document.querySelector('main').append(document.createElement('img'))")
    assert find_violations(page), "a picture without words is found"


def test_model_is_a_text_that_can_be_edited(page: Page) -> None:
    page.click("#lines summary")
    expect(page.locator("#model-text")).to_have_value(re.compile(r"^C1 = conv2d\(x, w1\)\nL1 = flatten\(C1\)\n"))
    text = page.input_value("#model-text")
    page.fill("#model-text", text.replace("L1A = tanh(L1)", "L1A = sin(L1)  # another"))
    page.locator("#model-text").blur()
    expect(page.locator("#loss")).not_to_have_text("2.3767862745225306")
    expect(page.locator("#verdict .outcome")).to_contain_text("pass")
    expect(page.locator("#model-text")).to_have_value(re.compile("# another"))
    page.fill("#model-text", text.replace("tanh", "Tanhh"))
    page.locator("#model-text").blur()
    expect(page.locator("#errors")).to_contain_text("/model line 3, column 7: unknown op 'Tanhh'")


def test_a_weight_that_is_edited_changes_the_loss(page: Page) -> None:
    page.fill("[aria-label='w2[1]']", "0.7")
    page.press("[aria-label='w2[1]']", "Enter")
    expect(page.locator("#loss")).not_to_have_text("2.3767862745225306")
    assert json.loads(page.input_value("#text"))["weights"]["w2"][1] == 0.7
    page.fill("[aria-label='w2[1]']", "many")
    page.press("[aria-label='w2[1]']", "Enter")
    expect(page.locator("[aria-label='w2[1]']")).to_have_attribute("aria-invalid", "true")


def test_every_bug_is_planted_and_named(page: Page) -> None:
    expect(page.locator("#bug option")).not_to_have_count(1)
    bugs = page.locator("#bug option").evaluate_all("each => each.map((option) => option.value)")[1:]
    assert len(bugs) > 20
    for bug in bugs:
        page.select_option("#bug", "")
        expect(page.locator("#verdict .outcome .badge")).to_contain_text("pass")
        plant(page, bug)
        expect(page.locator(".diagnoses code", has_text=re.compile(f"^{bug}$")).first).to_be_visible()
    expect(page.locator("[data-route='candidate']").first).to_be_visible()


def test_every_preset_can_be_chosen(page: Page) -> None:
    for name, preset in PRESETS.items():
        page.select_option("#preset", name)
        expect(page.locator("#description")).to_have_text(preset.description)
        expect(page.locator("#graph-words")).to_contain_text(f"{preset.nodes[-1]['name']} is {preset.nodes[-1]['op']}")
        expect(page.locator("#status")).to_contain_text("Checked: pass")


def test_a_cell_is_read_with_the_keyboard_and_chosen_for_the_curve(page: Page) -> None:
    page.locator("section.panel[data-name='w1'] [data-route='analytic'] td").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    own = "w1[1][1]: analytic NUMBER, autograd NUMBER".replace("NUMBER", f"{MINUS}0.3302645363")
    expect(page.locator("#readout")).to_contain_text(own)
    difference = re.compile(rf"finite difference {MINUS}0\.33\d+ ± \S+, allowed \S+, off by \S+: pass")
    expect(page.locator("#readout")).to_contain_text(difference)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("#curve-text")).to_contain_text("w1[0][1]: the central difference is best at step")


def test_an_element_is_chosen_by_its_name_and_index(page: Page) -> None:
    page.select_option("#element-name", "L1")
    page.fill("#element-index", "[-1]")
    page.press("#element-index", "Enter")
    expect(page.locator("#curve-text")).to_contain_text("L1[-1]: the central difference is best at step")
    page.fill("#element-index", "7")
    page.press("#element-index", "Enter")
    expect(page.locator("#curve-text")).to_contain_text("/element/index")
    page.click("#step summary")
    expect(page.locator("#curve-table tbody tr")).to_have_count(65)


@pytest.mark.parametrize(
    ("method", "shows"),
    [
        ({"sample": 2}, "finite difference: none"),
        ({"projections": 3}, "compared along random directions"),
    ],
)
def test_a_check_of_a_part_shows_what_it_looked_at(page: Page, method: dict[str, int], shows: str) -> None:
    request = json.loads(page.input_value("#text")) | {"finite_difference": method}
    page.evaluate(DROP, ["part.json", list(json.dumps(request).encode())])
    expect(page.locator("#verdict .outcome")).to_contain_text(
        "random directions" if "projections" in method else "examined"
    )
    panel = page.locator("section.panel[data-name='w2']")
    told: list[str] = [panel.text_content() or ""]
    for cell in panel.locator("[data-route='analytic'] td").all():
        cell.hover()
        told.append(page.text_content("#readout") or "")
    assert any(shows in message for message in told)


def test_candidate_of_another_shape_is_shown_unchanged(page: Page) -> None:
    request = json.loads(page.input_value("#text")) | {"candidate": {"w1": [1, 2, 3, "NaN"]}}
    page.evaluate(DROP, ["odd.json", list(json.dumps(request).encode())])
    expect(page.locator("#verdict .outcome .badge")).to_contain_text("fail")
    expect(page.locator("section.panel[data-name='w1'] [data-route='candidate'] td")).to_have_count(4)


def test_a_large_tensor_is_a_picture_that_is_walked_over(page: Page) -> None:
    weights = [[(row * column) % 13 / 13 - 0.4 for column in range(45)] for row in range(40)]
    nodes = [{"name": "a", "op": "tanh", "inputs": ["w"]}, {"name": "loss", "op": "mean", "inputs": ["a"]}]
    body = {"tensors": {}, "weights": {"w": weights}, "model": {"nodes": nodes}}
    page.evaluate(DROP, ["large.json", list(json.dumps(body).encode())])
    expect(page.locator(".picture")).to_have_count(6)
    page.focus(".picture[data-route='analytic']")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator("#readout")).to_contain_text("w[1][2]: analytic")
    page.keyboard.press("Enter")
    expect(page.locator("#curve-text")).to_contain_text("w[1][2]: the central difference")
    assert find_violations(page) == []


FOCUSED = """() => {
  const grid = document.activeElement.closest("[data-route]");
  return grid ? grid.dataset.route : document.activeElement.id;
}"""


def test_every_control_is_reachable_by_keyboard(page: Page) -> None:
    reached = set[str]()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(FOCUSED))
    assert {"preset", "bug", "run", "theme", "analytic", "autograd", "finite difference"} <= reached


def test_a_worst_element_leads_to_its_cell(page: Page) -> None:
    plant(page, "sign_flipped")
    page.locator("#worst button").first.click()
    name = page.locator("#worst button").first.text_content() or ""
    assert page.evaluate("document.activeElement.textContent").startswith(name)


SELECTED = """() => {
  const text = document.querySelector("#text");
  return text.value.slice(text.selectionStart, text.selectionEnd);
}"""


def test_an_error_is_shown_at_the_field_that_it_is_about(page: Page) -> None:
    page.click("#json summary")
    request = json.loads(page.input_value("#text"))
    request["weights"]["w2"] = ["0.1", 2, 3, 4]
    page.fill("#text", json.dumps(request, indent=1))
    page.click("#run")
    expect(page.locator("#errors button")).to_have_text("/weights/w2")
    line = 1 + page.input_value("#text").split('"w2"')[0].count("\n")
    expect(page.locator("#marks .wrong")).to_have_text(str(line))
    page.locator("#errors button").click()
    selected = page.evaluate(SELECTED)
    assert json.loads(selected) == request["weights"]["w2"]
    expect(page.locator("#old")).to_be_visible()
    assert find_violations(page) == []
    page.fill("#text", "{")
    page.click("#run")
    expect(page.locator("#errors")).to_contain_text("not JSON")
    page.select_option("#preset", "logistic_regression")
    expect(page.locator("#old")).to_be_hidden()
    expect(page.locator("#errors li")).to_have_count(0)


def test_dropped_file_is_checked(page: Page) -> None:
    body = PRESETS["logistic_regression"].example_request
    page.evaluate(DROP, ["request.json", list(json.dumps(body).encode())])
    expect(page.locator("#graph-words")).to_contain_text(PRESETS["logistic_regression"].nodes[0]["name"])
    page.evaluate(DROP, ["reference.safetensors", list((ROOT / "examples" / "reference.safetensors").read_bytes())])
    expect(page.locator("#loss")).to_have_text("2.3767862745225306")
    expect(page.locator("#preset")).to_have_value("conv_tanh_scale_sigmoid")
    page.fill("[aria-label='w2[1]']", "0.7")
    page.press("[aria-label='w2[1]']", "Enter")
    expect(page.locator("#loss")).not_to_have_text("2.3767862745225306")
    page.evaluate(DROP, ["broken.safetensors", [1, 2, 3]])
    expect(page.locator("#status")).to_have_text("Refused.")
    expect(page.locator("#errors")).to_contain_text("safetensors")


def test_a_check_is_cancelled(page: Page) -> None:
    page.click("#json summary")
    size = 24
    weights = {"w": [[(row * size + column) % 7 / 7 for column in range(size)] for row in range(size)]}
    nodes = [{"name": "m0", "op": "matmul", "inputs": ["w", "w"]}]
    for n in range(1, 40):
        op, operands = ("tanh", 1) if n % 2 else ("matmul", 2)
        nodes.append({"name": f"m{n}", "op": op, "inputs": [f"m{n - 1}"] * operands})
    nodes += [{"name": "loss", "op": "mean", "inputs": ["m39"]}]
    page.fill("#text", json.dumps({"tensors": {}, "weights": weights, "model": {"nodes": nodes}}))
    page.click("#run")
    expect(page.locator("#status")).to_contain_text("evaluations, at w")
    page.click("#cancel")
    expect(page.locator("#status")).to_have_text("Cancelled.")
    expect(page.locator("#cancel")).to_be_disabled()


@pytest.mark.parametrize("kind", ["json", "curl", "python"])
def test_copied_request_is_the_checked_one(page: Page, kind: str) -> None:
    page.click("#json summary")
    page.click(f"[data-copy='{kind}']")
    expect(page.locator("#status")).to_have_text(f"Copied as {kind}.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "0.0005" in copied
    assert ("/v1/check" in copied) is (kind != "json")


@pytest.mark.parametrize("kind", ["curl", "python"])
def test_copied_command_gets_the_report(page: Page, kind: str) -> None:
    page.click("#json summary")
    page.click(f"[data-copy='{kind}']")
    expect(page.locator("#status")).to_have_text(f"Copied as {kind}.")
    copied = page.evaluate("navigator.clipboard.readText()")
    command = ["bash", "-c", copied] if kind == "curl" else [sys.executable, "-c", copied]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    assert "all 8 elements of w1, w2 agree" in printed


def test_text_is_selectable_where_copying_is_forbidden(page: Page) -> None:
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.click("#json summary")
    page.click("[data-copy='curl']")
    assert page.input_value("#copied").startswith("curl -s http://127.0.0.1:")


def test_names_and_text_are_never_read_as_html(page: Page) -> None:
    name = "<img src=x onerror=alert(1)>"
    nodes = [
        {"name": "toString", "op": "mul", "inputs": ["constructor", "__proto__"]},
        {"name": name, "op": "tanh", "inputs": ["toString"]},
        {"name": "loss", "op": "sum", "inputs": [name]},
    ]
    body = {"tensors": {"__proto__": [0.5]}, "weights": {"constructor": [0.3]}, "model": {"nodes": nodes}}
    page.evaluate(DROP, ["hostile.json", list(json.dumps(body).encode())])
    expect(page.locator("#graph-words")).to_contain_text(name)
    expect(page.locator("#preset option:checked")).to_have_text("your own model")
    assert page.locator("img").count() == 0


def test_page_asks_for_a_key_if_the_service_does(chromium: Browser) -> None:
    page = chromium.new_page()
    with serve_application(Settings(keys="secret")) as address:
        page.goto(address)
        page.fill("#bearer", "wrong")
        page.press("#bearer", "Enter")
        expect(page.locator("#errors")).to_contain_text("does not know the key")
        page.fill("#bearer", "secret")
        page.press("#bearer", "Enter")
        expect(page.locator("#loss")).to_have_text("2.3767862745225306")
        expect(page.locator("#errors li")).to_have_count(0)
        for kind in ("curl", "python"):
            copied = page.evaluate(f"import('/page/copies.js').then(({{COPIES}}) => COPIES.{kind}('', '', true))")
            assert "GRADCHECKD_KEY" in copied
            assert "secret" not in copied
        page.close()


SHIFT = """() => new Promise((resolve) => {
  let total = 0;
  const add = (each) => (total += each.hadRecentInput ? 0 : each.value);
  new PerformanceObserver((list) => list.getEntries().forEach(add)).observe({type: "layout-shift", buffered: true});
  setTimeout(() => resolve(total), 200);
})"""
GOOD = 0.1
"""Of a cumulative layout shift, by web.dev's measure."""


@pytest.mark.parametrize("page", LOOKS[::2], indirect=True)
def test_layout_is_stable_while_the_page_opens(page: Page) -> None:
    assert (shift := page.evaluate(SHIFT)) < GOOD, shift
    page.evaluate("document.querySelector('main').style.marginTop = '900px'")
    assert page.evaluate(SHIFT) > GOOD, "what jumps is noticed"


def test_chosen_theme_is_kept(page: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.click("#theme")
    assert page.evaluate(paper) != light
    expect(page.locator("#theme")).to_have_text("Light")
    page.reload()
    expect(page.locator("#theme")).to_have_text("Light")
    page.evaluate("localStorage.clear()")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(paper) != light
    page.emulate_media(color_scheme="light")
    expect(page.locator("#theme")).to_have_text("Dark")
    assert page.evaluate(paper) == light


def test_the_interface_can_be_read(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/docs")
    expect(page.locator("#docs")).to_contain_text("POST /v1/check")
    assert find_violations(page) == []


def test_page_monitor_records_errors_and_foreign_requests(chromium: Browser, server: Server) -> None:
    page = chromium.new_page()
    watch = PageMonitor(page, server.url)
    page.goto(f"{server.url}/docs")
    page.evaluate("console.error('planted')")
    page.evaluate("fetch('http://127.0.0.1:9/elsewhere').catch(() => {})")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<b style=\"color:red\">inline</b>')")
    page.wait_for_timeout(300)
    assert "planted" in watch.problems
    assert any("Content Security Policy" in problem for problem in watch.problems)
    page.close()


def test_a_dropped_model_of_onnx_is_imported_and_checked(page: Page) -> None:
    page.evaluate(DROP, ["model.onnx", list(make_classifier())])
    expect(page.locator("#graph-words")).to_contain_text("fc1.Gemm")
    expect(page.locator("#verdict")).to_contain_text("pass")
    assert '"fc1.bias"' in page.input_value("#text")


def test_a_model_that_cannot_be_imported_says_why(page: Page) -> None:
    page.evaluate(DROP, ["model.onnx", list(make_file([node("Frobnicate", "x")], {"x": (FLOAT, [2])}))])
    expect(page.locator("#errors")).to_contain_text("Frobnicate is no operator of ONNX")
