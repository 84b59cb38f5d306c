"""The documents show what the service answers: their commands run, and their tables agree with the code."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service import logs
from service.app import create_app
from service.http import metrics
from service.numerics.model.presets import PRESETS
from service.numerics.ops import OP_REGISTRY
from service.settings import PREFIX, Settings
from tests.application_server import serve_application
from tests.document_text import DOCS, ROOT, find_blocks, read_section

BOUND_NAMES = ("error_bound", "allowed", "relative_l2")
"""Numbers that bound a difference: their last digits depend on the machine."""


@pytest.fixture
def client() -> FlaskClient:
    return create_app().test_client()


def contains_excerpt(document: Any, excerpt: Any) -> bool:
    """Return whether a document contains an excerpt, with numbers to three digits."""
    if isinstance(excerpt, dict):
        return all(key in document and contains_excerpt(document[key], value) for key, value in excerpt.items())
    if isinstance(excerpt, list):
        return len(document) >= len(excerpt) and all(
            contains_excerpt(*pair) for pair in zip(document, excerpt, strict=False)
        )
    if isinstance(excerpt, float):
        return document == pytest.approx(excerpt, rel=5e-3)
    return document == excerpt


def replace_bounds(document: Any, excerpt: Any) -> Any:
    """Return an excerpt whose bounds are those of the document, if they are about as large."""
    if isinstance(excerpt, dict):
        return {
            key: document[key]
            if key in BOUND_NAMES and document[key] == pytest.approx(value, rel=0.5)
            else replace_bounds(document[key], value)
            for key, value in excerpt.items()
        }
    if isinstance(excerpt, list):
        return [replace_bounds(*pair) for pair in zip(document, excerpt, strict=False)]
    return excerpt


def parse_curl(text: str) -> tuple[str, dict[str, Any] | bytes, dict[str, str]]:
    """Return path, body and headers of the only curl command of a text."""
    (command,) = [block for block in find_blocks(text, "sh") if block.startswith("curl ")]
    (path,) = re.findall(r"http://[\w.:]+(/[\w/]+)", command)
    headers = dict(re.findall(r"-H '([\w-]+): ([^']+)'", command))
    if "-d '" in command:
        return path, json.loads(command.split("-d '")[1].rsplit("'", 1)[0]), headers
    (file,) = re.findall(r"(?:-d|--data-binary) @(\S+)", command)
    return path, (ROOT / file).read_bytes(), headers


def post_curl(client: FlaskClient, text: str) -> Any:
    path, body, headers = parse_curl(text)
    data = json.dumps(body) if isinstance(body, dict) else body
    return client.post(path, data=data, headers=headers)


@pytest.mark.parametrize(
    ("document", "title", "path_to_change"),
    [
        ("http.md", "Check a gradient", ("verdicts", "w1", "worst", 0, "index", 0)),
        ("http.md", "Look at a part", ("directions", 1, "judged")),
        ("http.md", "See a difference fail", ("complex_step", 1)),
        ("bugs.md", "Plant a bug", ("bugs", 0, "candidate", "w1", 0, 0)),
    ],
)
def test_curl_gets_the_answer_that_is_shown(
    client: FlaskClient, document: str, title: str, path_to_change: tuple[Any, ...]
) -> None:
    text = read_section(DOCS / document, title)
    shown, answer = json.loads(find_blocks(text, "json")[0]), post_curl(client, text).json
    for report in (shown, answer):
        # A bound stands in the sentence, too.
        report["summary"] = report.get("summary", "").split("; an error of")[0]
    shown = replace_bounds(answer, shown | ({} if "summary" in answer else {"summary": ""}))
    assert contains_excerpt(answer, shown)
    changed: Any = shown
    for key in path_to_change[:-1]:
        changed = changed[key]
    changed[path_to_change[-1]] = -1 - changed[path_to_change[-1]]
    assert not contains_excerpt(answer, shown), "the comparison must be able to fail"


def test_curl_of_the_named_bugs_gets_their_names(client: FlaskClient) -> None:
    text = read_section(DOCS / "bugs.md", "The bugs it names")
    shown, answer = json.loads(find_blocks(text, "json")[0]), post_curl(client, text).json
    for verdict in (*shown["verdicts"].values(), *answer["verdicts"].values()):
        for diagnosis in verdict["diagnoses"]:
            assert diagnosis.pop("fit") < 1e-7
    assert contains_excerpt(answer, shown)
    shown["verdicts"]["w1"]["diagnoses"][0]["name"] = "unknown"
    assert not contains_excerpt(answer, shown), "the comparison must be able to fail"


def test_planted_bug_is_named_by_a_check(client: FlaskClient) -> None:
    path, body, _ = parse_curl(read_section(DOCS / "bugs.md", "Plant a bug"))
    assert isinstance(body, dict)
    answer: Any = client.post(path, json=body).json
    del body["bug"]
    report: Any = client.post("/v1/check", json=body | {"candidate": answer["bugs"][0]["candidate"]}).json
    assert "transposed" in [diagnosis["name"] for diagnosis in report["verdicts"]["w1"]["diagnoses"]]


def test_errors_of_the_curve_are_those_that_are_shown(client: FlaskClient) -> None:
    """Truncation to two digits; rounding, which depends on the machine, by its size."""
    text = read_section(DOCS / "http.md", "See a difference fail")
    answer = post_curl(client, text).json
    rows = {
        name.strip("`"): cells.split(" | ")
        for name, cells in re.findall(r"^\| (h|`\w+`) \| (.*) \|$", text, re.MULTILINE)
    }
    steps = [float(cell) for cell in rows.pop("h")]
    assert set(rows) == {"forward", "central", "complex_step"}
    for name, cells in rows.items():
        for step, shown in zip(steps, map(float, cells), strict=True):
            error = abs(answer[name][answer["steps"].index(step)] - answer["analytic"])
            rounding = 2e-16 if name == "complex_step" else 1e-15 / step
            assert abs(error - shown) <= max(0.05 * shown, rounding), (name, step)


def is_alike(shown: str, written: str) -> bool:
    """Return whether texts have the same words, and numbers to the digits that matter, however they are spaced."""
    pairs = list(zip(shown.split(), written.split(), strict=False))
    return len(pairs) == len(shown.split()) and all(is_word_alike(*pair) for pair in pairs)


def is_word_alike(shown: str, written: str) -> bool:
    number = re.fullmatch(r"[-+±]?(\d[\d.]*(e[-+]\d+)?)([.,]?)", shown)
    counterpart = re.fullmatch(r"[-+±]?(\d[\d.]*(e[-+]\d+)?)([.,]?)", written)
    if number is None or counterpart is None:
        return re.sub("-{3,}", "---", shown) == re.sub("-{3,}", "---", written)
    value, other = (float(match[1].rstrip(".")) for match in (number, counterpart))
    same_sign = shown[0] == written[0] or {shown[0], written[0]} & set("-±") == set()
    return same_sign and other == pytest.approx(value, rel=1e-9 if len(number[1]) > 10 else 0.5)


def test_file_is_the_request_of_the_curl() -> None:
    _, body, _ = parse_curl(read_section(DOCS / "http.md", "Check a gradient"))
    assert json.loads((ROOT / "examples" / "wrong_sign.json").read_text()) == body


@pytest.mark.parametrize(("form", "number"), [("text/plain", 0), ("text/markdown", 1)])
def test_curl_of_a_text_gets_the_text_that_is_shown(client: FlaskClient, form: str, number: int) -> None:
    text = (ROOT / "docs" / "reports.md").read_text()
    path, body, headers = parse_curl(f"```sh\n{find_blocks(text, 'sh')[number]}```")
    assert headers["Accept"] == form
    (shown,) = find_blocks(text, form.removeprefix("text/").replace("plain", "text"))
    written = client.post(path, data=body, headers=headers).text
    assert is_alike(shown, written), written
    for right, wrong in (("0.330264536335", "0.330264436335"), ("candidate", "autograd"), ("e+1", "e+21")):
        assert not is_alike(shown.replace(right, wrong), written), "the comparison must be able to fail"


def test_tensors_of_python_and_the_curl_get_what_is_shown(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = read_section(DOCS / "large-models.md", "Large tensors")
    write, read = find_blocks(text, "python")
    (command,), (printed,) = find_blocks(text, "sh"), find_blocks(text, "console")
    answer = post_curl(client, text)
    monkeypatch.chdir(tmp_path)
    exec(write, {})
    assert Path("reference.safetensors").read_bytes() == (ROOT / "examples" / "reference.safetensors").read_bytes()
    (output,) = re.findall(r"-o (\S+)", command)
    Path(output).write_bytes(answer.data)
    exec(read, {})
    assert capsys.readouterr().out == printed


def test_curl_of_progress_gets_the_lines_that_are_shown(client: FlaskClient) -> None:
    text = read_section(DOCS / "large-models.md", "Watch a long check")
    (shown,) = find_blocks(text, "text")
    lines, expected = (
        [json.loads(line) for line in part.splitlines()] for part in (post_curl(client, text).text, shown)
    )
    # A slow machine writes more lines between the first and the last.
    assert all(map(contains_excerpt, (lines[0], *lines[-2:]), expected))
    assert not contains_excerpt(lines[-1], expected[0]), "the comparison must be able to fail"


def test_own_model_passes(client: FlaskClient) -> None:
    request = json.loads(find_blocks(read_section(DOCS / "http.md", "Check a gradient"), "json")[1])
    answer: Any = client.post("/v1/check", json=request).json
    assert answer["outcome"] == "pass"


def test_every_op_and_every_preset_is_listed() -> None:
    families, presets = (
        read_section(DOCS / "model-language.md", title).split(f"| {head} |")[1].split("\n\n")[0]
        for title, head in (("Operations", "family | ops"), ("Presets", "preset | description"))
    )
    assert sorted(re.findall(r"`(\w+)`", families)) == sorted(OP_REGISTRY)
    listed = re.findall(r"^\| `(\w+)` \| (.*) \|$", presets, re.MULTILINE)
    assert listed == [(name, preset.description) for name, preset in PRESETS.items()]


def test_every_setting_is_listed_as_it_is() -> None:
    text = read_section(DOCS / "operations.md", "Settings")
    listed = set(re.findall(rf"^\| `({PREFIX}\w+)` \| (.*?) \| (.*?) \|$", text, re.MULTILINE))
    assert listed == {
        (PREFIX + name.upper(), str(field.default), field.description) for name, field in Settings.model_fields.items()
    }


def test_every_metric_is_listed_as_it_is() -> None:
    text = read_section(DOCS / "operations.md", "Watch it")
    listed = set(re.findall(r"^\| `(gradcheckd_\w+)` \| (\w+) \| (.*?) \|$", text, re.MULTILINE))
    assert listed == {
        (family.name + ("_total" if family.type == "counter" else ""), family.type, family.documentation)
        for family in metrics.REGISTRY.collect()
    }


def test_log_line_equals_its_documentation(
    client: FlaskClient, example: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (shown,) = [json.loads(block) for block in find_blocks(read_section(DOCS / "operations.md", "Watch it"), "json")]
    with caplog.at_level("INFO", logger="gradcheckd"):
        client.post("/v1/check", json=example, headers={"X-Request-ID": shown["request_id"]})
    (record,) = caplog.records
    line = json.loads(logs.make_formatter().format(record))
    assert list(line) == list(shown)
    compared = line.keys() - {"seconds", "timestamp", "pid", "body_bytes"}
    assert {name: line[name] for name in compared} == {name: shown[name] for name in compared}


def test_layout_names_what_exists() -> None:
    cells = re.findall(r"^\| (.*?) \|", read_section(DOCS / "architecture.md", "Layout"), re.MULTILINE)[2:]
    assert len(cells) > 20
    for cell in cells:
        for name in re.findall(r"`([\w/.]+)`", cell):
            assert (ROOT / name).exists(), name


def test_layout_names_every_package() -> None:
    text = read_section(DOCS / "architecture.md", "Layout")
    for path in [*(ROOT / "service").glob("*/*/"), *(ROOT / "service").glob("*/")]:
        if path.is_dir() and path.name != "__pycache__" and path.parent.name != "page":
            name = f"{path.relative_to(ROOT)}/"
            assert f"`{name}" in text, name


def test_make_lists_its_commands() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for command in ("serve", "test", "lint", "format", "docs", "fuzz", "bench", "load", "bounds", "clean"):
        assert re.search(rf"^{command} +\S", listed, re.MULTILINE), command


def test_kernel_in_low_precision_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "low-precision.md").read_text()
    (script,), (printed,) = find_blocks(text, "python"), find_blocks(text, "console")
    exec(compile(script, "low-precision.md", "exec"), {})
    assert capsys.readouterr().out.strip() == printed.strip()


def test_loss_at_home_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    text = read_section(DOCS / "functions.md", "A loss that cannot leave home")
    (script,), (printed,) = find_blocks(text, "python"), find_blocks(text, "console")
    with serve_application() as address:
        script = script.replace("http://127.0.0.1:8000", address)
        exec(script, {})
        assert capsys.readouterr().out == printed
        exec(script.replace("*= 1.0001", "*= 1"), {})
        assert capsys.readouterr().out != printed, "the comparison must be able to fail"


def test_function_with_outputs_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (
        read_section(DOCS / "functions.md", title)
        for title in ("A loss that cannot leave home", "A function with outputs")
    )
    (definitions,), (script,), (printed,) = (
        find_blocks(first, "python"), find_blocks(second, "python"), find_blocks(second, "console"),
    )  # fmt: skip
    with serve_application() as address:
        names: dict[str, object] = {}
        exec(definitions.replace("http://127.0.0.1:8000", address), names)
        capsys.readouterr()
        exec(script, names)
        assert capsys.readouterr().out == printed
        exec(script.replace("1e-6", "0.0"), names)
        assert capsys.readouterr().out == printed.replace("fail", "pass"), "the right products pass"
