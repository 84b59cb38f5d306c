"""The README is short, its code runs, and its figures are measured."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.application_server import serve_application
from tests.document_text import DOCS, ROOT, find_blocks, read_section
from tests.external_programs import COMPILER

README = ROOT / "README.md"
MAX_README_LINES = 150
MAX_EXAMPLE_LINES = 15


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
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


def test_readme_opens_with_a_sentence_and_the_two_commands() -> None:
    title, sentence, commands = README.read_text().split("\n\n")[:3]
    assert title == "# gradcheckd"
    assert sentence.count(". ") == 0
    assert re.findall(r"^make \w+", commands, re.MULTILINE) == ["make serve", "make test"]


def test_readme_python_example_names_its_bug(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", address)
    (script,) = find_blocks(read_section(README, "Find a bug and name it, in Python"), "python")
    (shown,) = find_blocks(read_section(README, "Find a bug and name it, in Python"), "console")
    assert len(script.splitlines()) <= MAX_EXAMPLE_LINES
    names: dict[str, Any] = {}
    exec(script, names)
    assert capsys.readouterr().out == shown
    (test,) = find_blocks(read_section(README, "In pytest"), "python")
    exec(test, names)
    names["test_backward"](names["gradcheckd"])
    names["h"] = names["h"] * 0.5
    with pytest.raises(AssertionError, match="fail"):
        names["test_backward"](names["gradcheckd"])


@pytest.mark.no_cover
@COMPILER.required_mark
def test_readme_c_example_fails_with_the_same_bug(environment: dict[str, str], tmp_path: Path) -> None:
    (source,) = find_blocks(read_section(README, "In C, by the command"), "c")
    (script,) = find_blocks(read_section(README, "In C, by the command"), "sh")
    program = tmp_path / "backward.c"
    for text, status, is_named in (
        (source, 1, True),
        (source.replace(") * x[i])", ") * x[i] * (1 - pow(tanh(w[i] * x[i]), 2)))"), 0, False),
    ):
        program.write_text(text)
        completed = subprocess.run(
            ["sh", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )
        assert completed.returncode == status, completed.stdout + completed.stderr
        assert ("missing_activation_derivative" in completed.stdout) is is_named


def test_readme_curl_gets_a_report_for_reading(address: str) -> None:
    (command,) = find_blocks(read_section(README, "By curl"), "sh")
    script = command.replace("http://127.0.0.1:8000", address)
    completed = subprocess.run(["sh", "-eu", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert completed.stdout.startswith("gradcheckd: fail"), completed.stdout + completed.stderr


def test_readme_figures_are_those_measured() -> None:
    measured = (DOCS / "benchmarks.md").read_text()

    def read_cells(row: str, table: int = 0) -> list[str]:
        return [cell.strip() for cell in re.findall(rf"^\| {row} +\|(.*)\|$", measured, re.MULTILINE)[table].split("|")]

    (claims,) = re.findall(
        r"^\| false alarms and misses, float64 \| (.*) \| (.*) \|$", README.read_text(), re.MULTILINE
    )
    for claim, figures in zip(reversed(claims), read_cells("all, in %"), strict=False):
        assert claim == "{} % and {} %".format(*figures.split(", "))
    (claim,) = re.findall(r"^\| false alarms, float32 \| ([\d.]+) % \| 0 %;", README.read_text(), re.MULTILINE)
    assert claim == read_cells("all, in %", 1)[1].split(", ")[0]
    assert read_cells("all, in %", 1)[0] == "0, 0"
    times = [read_cells(row)[0] for row in ("check, called", "torch.autograd.gradcheck")]
    times += [read_cells(row)[-1] for row in ("gradcheckd, adaptive, the whole check", "torch gradcheck, slow")]
    assert re.findall(r"[\d.]+ m?s\b", README.read_text()) == times
    assert f"{read_cells('scalars')[-1]} weights" in README.read_text()
