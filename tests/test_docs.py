"""What the README and the documents say is what comes out."""

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

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))


@pytest.fixture
def client() -> FlaskClient:
    return create_app().test_client()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENTS, re.DOTALL)


def says(document: Any, excerpt: Any) -> bool:
    """Whether the document holds what the excerpt shows of it; numbers to the digits that a reader looks at."""
    if isinstance(excerpt, dict):
        return all(key in document and says(document[key], each) for key, each in excerpt.items())
    if isinstance(excerpt, list):
        return all(says(*pair) for pair in zip(document, excerpt, strict=False)) and len(document) >= len(excerpt)
    if isinstance(excerpt, float):
        return document == pytest.approx(excerpt, rel=5e-3)
    return document == excerpt


def curl_body(path: str, number: int = 0) -> dict[str, Any]:
    command = [block for block in blocks("sh") if re.match(rf"curl \S* http://[\w.:]+{path} ", block)][number]
    return json.loads(command.split("-d '")[1].rsplit("'", 1)[0])


def answer_shown(after: str) -> Any:
    """The answer that the DOCUMENTS shows first behind a heading."""
    return json.loads(re.findall(r"```json\n(.*?)```", DOCUMENTS.split(after)[1], re.DOTALL)[0])


def test_the_bugs_that_are_planted_are_named(client: FlaskClient) -> None:
    shown = answer_shown("## The bugs it names")
    command = DOCUMENTS.split("## The bugs it names")[1].split("-d '")[1].split("'", 1)[0]
    answer = client.post("/v1/check", json=json.loads(command)).json
    for verdict in (*shown["verdicts"].values(), *answer["verdicts"].values()):
        for diagnosis in verdict["diagnoses"]:
            assert diagnosis.pop("fit") < 1e-7
    assert says(answer, shown)
    shown["verdicts"]["w1"]["diagnoses"][0]["name"] = "unknown"
    assert not says(answer, shown), "the comparison must be able to fail"


def test_the_curl_of_a_bug_gets_the_answer_that_is_shown(client: FlaskClient) -> None:
    shown, body = answer_shown("## Plant a bug"), curl_body("/v1/bugs")
    answer = client.post("/v1/bugs", json=body).json
    assert says(answer, shown)
    del body["bug"]
    report = client.post("/v1/check", json=body | {"candidate": answer["bugs"][0]["candidate"]}).json
    assert "transposed" in [each["name"] for each in report["verdicts"]["w1"]["diagnoses"]]


def test_the_curl_of_a_curve_gets_the_answer_that_is_shown(client: FlaskClient) -> None:
    shown = answer_shown("## See a difference fail")
    answer = client.post("/v1/curve", json=curl_body("/v1/curve")).json
    # Of a difference of rounded numbers, and of what bounds it, the last digits are the machine's.
    assert answer["engine"].pop("error_bound") == pytest.approx(shown["engine"].pop("error_bound"), rel=0.5)
    assert says(answer, shown)
    shown["complex_step"][1] *= -1
    assert not says(answer, shown), "the comparison must be able to fail"


def test_the_errors_of_a_curve_are_those_that_are_shown(client: FlaskClient) -> None:
    """Truncation to two digits; rounding, which is the machine's, by its size."""
    answer = client.post("/v1/curve", json=curl_body("/v1/curve")).json
    assert answer is not None
    steps = [float(each) for each in row("h")]
    for name in ("forward", "central", "complex_step"):
        for step, shown in zip(steps, row(f"`{name}`"), strict=True):
            error = abs(answer[name][answer["steps"].index(step)] - answer["analytic"])
            rounding = 2e-16 if name == "complex_step" else 1e-15 / step
            assert abs(error - float(shown)) <= max(0.05 * float(shown), rounding), (name, step)


def row(head: str) -> list[str]:
    """Cells behind the first one of a row of a table."""
    (cells,) = re.findall(rf"^\| {head} \| (.*) \|$", DOCUMENTS, re.MULTILINE)
    return cells.split(" | ")


def test_the_curl_gets_the_answer_that_is_shown(client: FlaskClient) -> None:
    shown = json.loads(blocks("json")[0])
    answer = client.post("/v1/check", json=curl_body("/v1/check")).json
    assert says(answer, shown)
    shown["verdicts"]["w1"]["worst"][0]["index"] = [0, 1]
    assert not says(answer, shown), "the comparison must be able to fail"


def test_the_curl_of_projections_gets_the_answer_that_is_shown(client: FlaskClient) -> None:
    shown = answer_shown("## Look at a part")
    answer = client.post("/v1/check", json=curl_body("/v1/check", 2)).json
    assert answer is not None
    theirs, ours = shown["verdicts"]["w1"], answer["verdicts"]["w1"]
    # Of what bounds a difference the last digits are the machine's.
    assert ours["missed"].pop("relative_l2") == pytest.approx(theirs["missed"].pop("relative_l2"), rel=0.5)
    pairs = list(zip(ours["directions"], theirs["directions"], strict=True))
    for our, their in pairs:
        for bound in ("error_bound", "allowed"):
            assert our.pop(bound) == pytest.approx(their.pop(bound), rel=0.5)
    (sentence, _), (said, _) = answer.pop("summary").split("; "), shown.pop("summary").split("; ")
    assert sentence == said
    assert says(answer, shown)
    pairs[1][1]["judged"] *= -1
    assert not says(answer, shown), "the comparison must be able to fail"


def alike(shown: str, written: str) -> bool:
    """Whether texts have the same words, and numbers to the digits that a reader looks at, however they are spaced."""
    pairs = list(zip(shown.split(), written.split(), strict=False))
    return len(pairs) == len(shown.split()) and all(word_alike(*pair) for pair in pairs)


def word_alike(shown: str, written: str) -> bool:
    number = re.fullmatch(r"[-+]?\d[\d.]*(e[-+]\d+)?", shown)
    if number is None or not re.fullmatch(r"[-+]?\d.*", written):
        return re.sub("-{3,}", "---", shown) == re.sub("-{3,}", "---", written)
    # Of what bounds a difference the last digits are the machine's.
    return float(written) == pytest.approx(float(shown), rel=1e-9 if len(shown) > 10 else 0.5)


def test_the_file_is_the_request_of_the_curl() -> None:
    assert json.loads((ROOT / "examples" / "wrong_sign.json").read_text()) == curl_body("/v1/check")


@pytest.mark.parametrize(("form", "number"), [("text/plain", 0), ("text/markdown", 1)])
def test_the_curl_of_a_text_gets_the_text_that_is_shown(client: FlaskClient, form: str, number: int) -> None:
    command = [block for block in blocks("sh") if "-d @" in block][number]
    (file,), headers = re.findall(r"-d @(\S+)", command), dict(re.findall(r"-H '([\w-]+): ([^']+)'", command))
    assert headers["Accept"] == form
    (shown,) = blocks(form.removeprefix("text/").replace("plain", "text"))
    written = client.post("/v1/check", data=(ROOT / file).read_bytes(), headers=headers).text
    assert alike(shown, written)
    for right, wrong in (("0.330264536335", "0.330264436335"), ("candidate", "autograd"), ("e+1", "e+21")):
        assert not alike(shown.replace(right, wrong), written), "the comparison must be able to fail"


def test_the_tensors_of_python_and_the_curl_get_what_is_shown(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = DOCUMENTS.split("\n## Large tensors\n")[1].split("\n## ")[0]
    shown = {name: re.findall(rf"```{name}\n(.*?)```", section, re.DOTALL) for name in ("python", "sh", "console")}
    (write, read), (command,), (printed,) = shown.values()
    file, headers = (
        re.findall(r"--data-binary @(\S+)", command)[0],
        dict(re.findall(r"-H '([\w-]+): ([^']+)'", command)),
    )
    monkeypatch.chdir(tmp_path)
    exec(write, {})
    assert Path("reference.safetensors").read_bytes() == (ROOT / file).read_bytes()
    answer = client.post("/v1/check", data=(ROOT / file).read_bytes(), headers=headers)
    (into,) = re.findall(r"-o (\S+)", command)
    Path(into).write_bytes(answer.data)
    exec(read, {})
    assert capsys.readouterr().out == printed


def test_the_curl_of_progress_gets_the_lines_that_are_shown(client: FlaskClient) -> None:
    section = DOCUMENTS.split("\n## Watch a long check\n")[1].split("\n## ")[0]
    (command,), (shown,) = (re.findall(rf"```{name}\n(.*?)```", section, re.DOTALL) for name in ("sh", "jsonl"))
    file, headers = re.findall(r"-d @(\S+)", command)[0], dict(re.findall(r"-H '([\w-]+): ([^']+)'", command))
    text = client.post("/v1/check", data=(ROOT / file).read_bytes(), headers=headers).text
    lines, expected = (list(map(json.loads, each.splitlines())) for each in (text, shown))
    # Between the first and the last there may be more, of a machine that is slow.
    assert all(map(says, (lines[0], *lines[-2:]), expected))
    assert not says(lines[-1], expected[0]), "the comparison must be able to fail"


def test_the_model_of_ones_own_passes(client: FlaskClient) -> None:
    answer = client.post("/v1/check", json=json.loads(blocks("json")[1])).json
    assert answer is not None
    assert answer["outcome"] == "pass"


def test_every_op_and_every_preset_is_listed() -> None:
    language = DOCUMENTS.split("## The model language")[1].split("\n## ")[0]
    families, presets = (
        language.split(f"| {head} |")[1].split("\n\n")[0] for head in ("family | ops", "preset | what")
    )
    assert sorted(re.findall(r"`(\w+)`", families)) == sorted(OP_REGISTRY)
    listed = re.findall(r"^\| `(\w+)` \| (.*) \|$", presets, re.MULTILINE)
    assert listed == [(name, preset.description) for name, preset in PRESETS.items()]


def test_it_opens_with_a_sentence_and_the_two_commands() -> None:
    title, sentence, commands = README.split("\n\n")[:3]
    assert title == "# gradcheckd"
    assert sentence.count(". ") == 0
    assert re.findall(r"^make \w+", commands, re.MULTILINE) == ["make serve", "make test"]


def test_every_setting_is_listed_as_it_is() -> None:
    listed = set(re.findall(rf"^\| `({PREFIX}\w+)` \| (.*?) \| (.*?) \|$", DOCUMENTS, re.MULTILINE))
    assert listed == {
        (PREFIX + name.upper(), str(field.default), field.description) for name, field in Settings.model_fields.items()
    }


def test_every_metric_is_listed_as_it_is() -> None:
    listed = set(re.findall(r"^\| `(gradcheckd_\w+)` \| (\w+) \| (.*?) \|$", DOCUMENTS, re.MULTILINE))
    assert listed == {
        (family.name + ("_total" if family.type == "counter" else ""), family.type, family.documentation)
        for family in metrics.REGISTRY.collect()
    }


def test_the_line_of_the_log_is_as_it_is_shown(
    client: FlaskClient, example: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (shown,) = [json.loads(block) for block in blocks("json") if '"event": "request"' in block]
    with caplog.at_level("INFO", logger="gradcheckd"):
        client.post("/v1/check", json=example, headers={"X-Request-ID": shown["request_id"]})
    (record,) = caplog.records
    line = json.loads(logs.make_formatter().format(record))
    assert list(line) == list(shown)
    own = line.keys() - {"seconds", "timestamp", "pid", "body_bytes"}
    assert {name: line[name] for name in own} == {name: shown[name] for name in own}


def test_what_the_layout_names_is_there() -> None:
    table = DOCUMENTS.split("## Layout")[1]
    for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)[2:]:
        for name in re.findall(r"`([\w/.]+)`", cell):
            assert (ROOT / name).exists() or (ROOT / "service/numerics" / name).exists(), name


def test_make_lists_its_commands() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for command in ("serve", "test", "lint", "format", "fuzz", "bench", "load", "bounds", "clean"):
        assert re.search(rf"^{command} +\S", listed, re.MULTILINE), command


def test_the_loss_at_home_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    section = DOCUMENTS.split("\n## A loss that cannot leave home\n")[1].split("\n## ")[0]
    (script,), (printed,) = (re.findall(rf"```{name}\n(.*?)```", section, re.DOTALL) for name in ("python", "console"))
    with serve_application() as address:
        exec(script.replace("http://127.0.0.1:8000", address), {})
        assert capsys.readouterr().out == printed
        exec(script.replace("http://127.0.0.1:8000", address).replace("*= 1.0001", "*= 1"), {})
        assert capsys.readouterr().out != printed, "the comparison must be able to fail"
