"""The guide does what it says: its code is run, in the order in which it stands."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.application_server import serve_application
from tests.external_programs import COMPILER

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "guide.md").read_text()


def find_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_application() as address:
        yield address


def test_guide_python_runs_and_finds_its_bugs(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", address)
    names: dict[str, Any] = {}
    for block in find_blocks("python"):
        exec(compile(block, "guide.md", "exec"), names)  # with what the blocks before it made
    printed = capsys.readouterr().out
    assert names["verdict"].outcome == "fail"
    (shown,) = [block for block in find_blocks("text") if "sign_of" in block]
    assert shown in printed
    names["test_backward"](names["gradcheckd"])
    assert names["sample"].outcome == names["along"].outcome == "pass"
    assert names["sample"].verdicts["w"].elements.not_examined == 200 * 300 - 100


@pytest.mark.no_cover
@COMPILER.required_mark
def test_the_kernel_is_judged_by_the_command(address: str, tmp_path: Path) -> None:
    (source,) = find_blocks("c")
    (tmp_path / "kernel.c").write_text(source)
    command = tmp_path / "gradcheckd"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gradcheckd "$@"\n')
    command.chmod(0o755)
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "client")}
    environment = os.environ | paths | {"GRADCHECKD_URL": address}
    for block in find_blocks("sh"):
        completed = subprocess.run(
            ["sh", "-eu", "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "fail" in completed.stdout
    (worst, *_) = [line.split() for line in completed.stdout.splitlines() if line.lstrip().startswith("[")]
    assert (worst[0], worst[-1]) == ("[1]", "fail"), "the element whose term was forgotten"


def test_hosted_workflow_has_one_job() -> None:
    (job,) = find_blocks("yaml")
    document = yaml.safe_load(job)["jobs"]["gradients"]
    port = document["env"]["GRADCHECKD_URL"].rpartition(":")[2]
    assert document["services"]["gradcheckd"]["ports"] == [f"{port}:{port}"]
    assert all(set(step) & {"uses", "run"} for step in document["steps"])


def test_links_of_the_guide_exist() -> None:
    titles = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", GUIDE, re.M)
    }
    assert titles == set(re.findall(r"\]\(#(.*?)\)", GUIDE))
    for path in re.findall(r"`(examples/[\w.]+)`", GUIDE):
        assert (ROOT / path).exists()
