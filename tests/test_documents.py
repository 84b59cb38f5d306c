"""The README runs, is short, and points to what exists; the site of the documents builds."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradcheckd
from gradcheckd.command import main
from service.checks.graph.check import check
from service.numerics.core.precision import PRECISIONS
from service.numerics.diagnosis import GRADIENT_BUGS, bug
from service.numerics.diagnosis.matching import BugHypothesis
from service.numerics.gradients.analytic import differentiate_analytically
from service.numerics.gradients.autograd import differentiate_by_torch
from service.numerics.gradients.finite_difference import differentiate_numerically
from service.numerics.ops import OP_REGISTRY, elementwise
from service.numerics.verdict.outcome import Cause, Outcome
from tests.application_server import serve_application
from tests.external_programs import COMPILER
from tests.op_graphs import build_op_graph

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
MAX_README_LINES = 150
MAX_EXAMPLE_LINES = 15


def readme_blocks(title: str, language: str) -> list[str]:
    section = README.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_application() as address:
        yield address


@pytest.fixture
def environment(address: str, tmp_path: Path) -> dict[str, str]:
    """Variables with which a shell finds the command and the service."""
    command = tmp_path / "gradcheckd"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gradcheckd "$@"\n')
    command.chmod(0o755)
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "client")}
    return os.environ | paths | {"GRADCHECKD_URL": address}


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_README_LINES


def test_readme_opens_with_a_sentence_and_the_two_commands() -> None:
    title, sentence, commands = README.split("\n\n")[:3]
    assert title == "# gradcheckd"
    assert sentence.count(". ") == 0
    assert re.findall(r"^make \w+", commands, re.MULTILINE) == ["make serve", "make test"]


def test_readme_python_example_names_its_bug(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", address)
    (script,) = readme_blocks("Find a bug and name it, in Python", "python")
    (shown,) = readme_blocks("Find a bug and name it, in Python", "console")
    assert len(script.splitlines()) <= MAX_EXAMPLE_LINES
    names: dict[str, Any] = {}
    exec(script, names)
    assert capsys.readouterr().out == shown
    (test,) = readme_blocks("In pytest", "python")
    exec(test, names)
    names["test_backward"](names["gradcheckd"])
    names["h"] = names["h"] * 0.5
    with pytest.raises(AssertionError, match="fail"):
        names["test_backward"](names["gradcheckd"])


@COMPILER.required_mark
def test_readme_c_example_fails_with_the_same_bug(environment: dict[str, str], tmp_path: Path) -> None:
    (source,) = readme_blocks("In C, by the command", "c")
    (script,) = readme_blocks("In C, by the command", "sh")
    program = tmp_path / "backward.c"
    for text, status, is_named in (
        (source, 1, True),
        (source.replace(") * x[i])", ") * x[i] * (1 - pow(tanh(w[i] * x[i]), 2)))"), 0, False),
    ):
        program.write_text(text)
        completed = subprocess.run(
            ["sh", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert completed.returncode == status, completed.stdout + completed.stderr
        assert ("missing_activation_derivative" in completed.stdout) is is_named


def test_readme_curl_gets_a_report_for_reading(address: str) -> None:
    (command,) = readme_blocks("By curl", "sh")
    script = command.replace("http://127.0.0.1:8000", address)
    completed = subprocess.run(["sh", "-eu", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert completed.stdout.startswith("gradcheckd: fail"), completed.stdout + completed.stderr


def test_readme_figures_are_those_measured() -> None:
    measured = (DOCS / "benchmarks.md").read_text()

    def cells(row: str, table: int = 0) -> list[str]:
        return [cell.strip() for cell in re.findall(rf"^\| {row} +\|(.*)\|$", measured, re.MULTILINE)[table].split("|")]

    (claims,) = re.findall(r"^\| false alarms and misses, float64 \| (.*) \| (.*) \|$", README, re.MULTILINE)
    for claim, figures in zip(reversed(claims), cells("all, in %"), strict=False):
        assert claim == "{} % and {} %".format(*figures.split(", "))
    (claim,) = re.findall(r"^\| false alarms, float32 \| (\d+) % \| 0 %;", README, re.MULTILINE)
    assert claim == cells("all, in %", 1)[1].split(", ")[0]
    assert cells("all, in %", 1)[0] == "0, 0"
    times = [cells(row)[0] for row in ("check, called", "torch.autograd.gradcheck")]
    times += [cells(row)[-1] for row in ("gradcheckd, adaptive, the whole check", "torch gradcheck, slow")]
    assert re.findall(r"[\d.]+ ms", README) == times
    assert f"{cells('scalars')[-1]} weights" in README


def document_paths() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), ROOT / "client" / "README.md"]


def heading_anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", document_paths(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_what_exists(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        file, _, anchor = link.partition("#")
        target = path if not file else (path.parent / file)
        assert target.exists(), link
        assert not anchor or anchor in heading_anchors(target), link


def test_every_document_is_in_the_site_and_in_the_readme() -> None:
    names = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    (listed,) = re.findall(r"```\{toctree\}.*?\n\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    assert set(listed.split()) == names
    linked = set(re.findall(r"\(docs/([\w-]+)\.md\)", README))
    assert names - linked == {"client"}


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--doctree-dir", str(tmp_path / "doctrees")]
    completed = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout + completed.stderr
    described = set(re.findall(r'id="gradcheckd\.([\w.]+)"', (tmp_path / "site" / "client.html").read_text()))
    assert {*gradcheckd.__all__, "Service.check", "Report.markdown"} - {"__version__"} <= described


def table_rows(document: str, header: str) -> list[list[str]]:
    """Cells of the rows of the table with a header, given by its first cells."""
    text = (DOCS / document).read_text().split(f"\n| {header}")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_claims_state_the_limits_of_each_arithmetic() -> None:
    stated = {
        name: (float(error), float(fraction)) for name, error, fraction in table_rows("claims.md", "arithmetic |")
    }
    assert stated == {
        name: (precision.detectable_error, precision.negligible_fraction) for name, precision in PRECISIONS.items()
    }


def test_claims_have_a_row_for_each_cause() -> None:
    for header, outcome in (("cause | meaning |", Outcome.FAIL), ("cause | meaning | remedy", Outcome.INCONCLUSIVE)):
        assert len(table_rows("claims.md", header)) == sum(cause.outcome == outcome for cause in Cause)


def test_claims_state_the_coverage_that_was_measured() -> None:
    rows = json.loads((ROOT / "benchmarks/results/coverage.json").read_text())["rows"]
    ((count, percent),) = re.findall(
        r"all of ([\d,]+) error bounds held, and the largest error\nwas (\d+) % of its bound",
        (DOCS / "claims.md").read_text(),
    )
    assert all(row["covered"] == 1 and row["unbounded"] == 0 for row in rows)
    assert int(count.replace(",", "")) == sum(row["elements"] for row in rows)
    assert int(percent) == round(100 * max(row["worst"] for row in rows))


def test_claims_state_the_exit_statuses(address: str, tmp_path: Path) -> None:
    (row,) = [cells[1:] for cells in table_rows("claims.md", "where |") if cells[0].startswith("`gradcheckd check`")]
    statuses = [int(cell.removeprefix("exit status ")) for cell in row]
    gradient, expected = {"datatype": "FP64", "shape": [1]}, []
    for data, more in (([3.0], {}), ([4.0], {}), ([3.0], {"tolerance": {"rtol": 0}}), ([3.0], {"seed": "none"})):
        request = {
            "tensors": {"x": [3.0]}, "weights": {"w": [2.0]}, "candidate": {"w": gradient | {"data": data}},
            "model": {"nodes": [{"name": "y", "op": "mul", "inputs": ["x", "w"]},
                                {"name": "e", "op": "exp", "inputs": ["y"]},
                                {"name": "l", "op": "log", "inputs": ["e"]},
                                {"name": "loss", "op": "sum", "inputs": ["l"]}]},
        }  # fmt: skip
        path = tmp_path / "request.json"
        path.write_text(json.dumps(request | more))
        expected.append(main(["check", str(path), "--url", address, "--output", str(tmp_path / "report.txt")]))
    assert statuses == expected


def test_glossary_defines_each_word_once_in_order() -> None:
    words = [word for word, _ in table_rows("glossary.md", "word |")]
    assert words == sorted(set(words))


def code_block(path: Path, beginning: str) -> str:
    """The Python block of a document that begins so."""
    (block,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
        if block.startswith(beginning)
    ]
    return block


def test_op_of_the_walk_has_three_gradients_that_agree() -> None:
    names = dict(vars(elementwise))
    exec(code_block(DOCS / "adding-an-op.md", '@register_op("sinh")'), names)
    sinh = OP_REGISTRY.pop("sinh")
    for example in sinh.examples:
        graph, leaves = build_op_graph(sinh, example)
        by_hand = differentiate_analytically(graph, leaves).gradients["input"]
        by_torch = differentiate_by_torch(graph, leaves).gradients["input"]
        difference = differentiate_numerically(graph, leaves, ["input"])["input"]
        np.testing.assert_allclose(by_hand, by_torch, rtol=1e-13)
        assert (np.abs(by_hand - difference.value) <= 2 * difference.error_bound + 1e-13 * np.abs(by_hand)).all()
        wrong = sinh.bugs["slope_of_the_sine"].backward
        by_mistake = differentiate_analytically(graph, leaves, {"output": partial(wrong, graph.nodes[0].op)})
        assert (np.abs(by_mistake.gradients["input"] - difference.value) > difference.error_bound).any()
    assert set(sinh.bugs) == {"slope_of_the_sine", "not_chained", "missing_activation_derivative"}


def test_bug_of_the_walk_is_named() -> None:
    names = dict(vars(bug)) | {"np": np, "BugHypothesis": BugHypothesis}
    request = json.loads((ROOT / "examples/reference.json").read_text())
    gradient = np.array(check(request)["gradients"]["w1"]["analytic"])
    request["candidate"] = {"w1": np.flip(gradient).tolist()}

    def diagnosed() -> set[str]:
        return {found["name"] for found in check(request)["verdicts"]["w1"]["diagnoses"]}

    assert "reversed" not in diagnosed()
    exec(code_block(ROOT / "CONTRIBUTING.md", "@register_gradient_bug"), names)
    try:
        assert "reversed" in diagnosed()
    finally:
        del GRADIENT_BUGS["reversed"]


NAMES_OF_NOTHING = {"parse_request", "GRADCHECKD_", "FILE", "CHANGELOG", "CONTRIBUTING"}
"""Words of the documents that look like a name of the code and are none."""
_PATH = re.compile(r"`((?:service|schemas|client|tests|benchmarks|docs|deploy|examples|\.ci)/[\w./-]*)`")


@pytest.mark.parametrize("path", document_paths(), ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_that_are_named_exist(path: Path) -> None:
    if path.name != "CHANGELOG.md":
        assert [named for named in _PATH.findall(path.read_text()) if not (ROOT / named).exists()] == []


@pytest.mark.parametrize("path", [ROOT / "CONTRIBUTING.md", DOCS / "adding-an-op.md", DOCS / "architecture.md"])
def test_names_of_the_code_that_are_mentioned_exist(path: Path) -> None:
    words = set(re.findall(r"\w+", "\n".join(file.read_text() for file in list_source_files())))
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    mentioned = {name for span in re.findall(r"`@?([A-Za-z_][\w.]*)`", prose) for name in span.split(".")}
    unknown = {name for name in mentioned if "_" in name or not name.islower()} - words - NAMES_OF_NOTHING
    assert unknown == set()


def list_source_files() -> list[Path]:
    folders = ("service", "schemas", "client", "tests", "benchmarks")
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]


def test_method_names_modules_that_exist() -> None:
    numerics = ROOT / "service" / "numerics"
    modules = {path.relative_to(numerics).as_posix() for path in numerics.rglob("*")}
    for line in re.findall(r"^Modules?: (.*)\.$", (DOCS / "method.md").read_text(), re.MULTILINE):
        for name in re.findall(r"`([\w/.]+)`", line):
            assert any(module == name.rstrip("/") or module.endswith(f"/{name}") for module in modules), name


_QUESTION_WORD = re.compile(
    r"(?:^(?:#+ |[-*] |\d+\. )?|[.!?:]\s+|\| )((?:What|Which|Where|Whether|Of)\b.*)", re.MULTILINE
)
_CODE_OR_MEASUREMENT = re.compile(r"```.*?```|<!-- (\w+): written by .*?<!-- end of \1 -->", re.DOTALL)


def find_question_openings(text: str) -> list[str]:
    """Sentences that open with a word that asks, outside code, and outside tables that a measurement writes."""
    paragraphs = re.sub(r"(?<![\n|])\n(?![\n#|\-\d])", " ", _CODE_OR_MEASUREMENT.sub("", text))
    return _QUESTION_WORD.findall(paragraphs)


@pytest.mark.parametrize(
    "path", [path for path in document_paths() if path.parent.name != "client"], ids=lambda path: path.name
)
def test_no_sentence_opens_with_a_word_that_asks(path: Path) -> None:
    assert find_question_openings(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    ["A name. Which is it?", "# What it is", "- Where it is,\nit is.", "Text.\n\nOf two, one.", "| a | What b |"],
)
def test_a_sentence_that_opens_with_a_word_that_asks_is_found(text: str) -> None:
    assert len(find_question_openings(text)) == 1
    assert find_question_openings("The place where\nOf is a word, and ```\nWhat\n``` is code.") == []
