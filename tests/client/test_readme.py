"""Someone who has the client's README alone gets what it shows."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import gradcheckd
from gradcheckd.command import main
from tests.external_programs import COMPILER

README = (Path(__file__).parents[2] / "client" / "README.md").read_text()
ROOT = Path(__file__).parents[2]
Shell = Callable[[str], tuple[int, str]]


def read_section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def find_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def run_script(tmp_path: Path, url: str) -> Shell:
    """Run a script where there are the command and pytest, and nothing else of ours."""
    place = tmp_path / "bin"
    place.mkdir()
    plugin = "-p no:cacheprovider -p gradcheckd.pytest_plugin"
    for name, command in (("gradcheckd", "-m gradcheckd"), ("pytest", f"-m pytest {plugin}")):
        (place / name).write_text(f'#!/bin/sh\nexec {sys.executable} {command} "$@"\n')
        (place / name).chmod(0o755)

    def run(script: str) -> tuple[int, str]:
        environment = os.environ | {
            "PATH": f"{place}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT / "client"),
            "GRADCHECKD_URL": url,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


def write_named_files(text: str, place: Path) -> None:
    """Write the files that a section shows: the name stands before the block."""
    for name, content in re.findall(r"`(\w+\.\w+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL):
        (place / name).write_text(content)


def join_words(text: str) -> str:
    return " ".join(re.sub(r"^E? +", "", text, flags=re.MULTILINE).split())


@pytest.mark.no_cover
def test_readme_python_example_finds_the_bug(run_script: Shell, tmp_path: Path) -> None:
    text = read_section("A failing test in Python")
    write_named_files(text, tmp_path)
    (command,), (shown,) = find_blocks(text, "sh"), find_blocks(text, "text")
    status, out = run_script(command)
    assert status == 1, out
    assert join_words(shown) in join_words(out)
    (mended,) = re.findall(r"With `(dh = .*?)` it passes", text)
    path = tmp_path / "test_backward.py"
    path.write_text(re.sub(r"dh = .*", mended, path.read_text()))
    status, out = run_script(command)
    assert (status, "1 passed" in out) == (0, True), out


@pytest.mark.parametrize("number", [0, 1])
def test_readme_scripts_without_pytest_find_the_bug(
    number: int, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", url)
    text = read_section("Without pytest, and without a graph")
    script, printed = find_blocks(text, "python")[number], find_blocks(text, "console")[number]
    exec(script, {})
    assert capsys.readouterr().out == printed
    mended = script.replace("- np.sin", "+ np.sin").replace("0.001]]", "0.002]]")
    exec(mended, {})
    assert capsys.readouterr().out != printed, "the comparison must be able to fail"


@pytest.mark.no_cover
@COMPILER.required_mark
def test_readme_c_example_finds_the_bug(run_script: Shell, tmp_path: Path) -> None:
    text = read_section("A failing test in C")
    write_named_files(text, tmp_path)
    for command, shown in zip(find_blocks(text, "sh"), find_blocks(text, "text"), strict=True):
        status, out = run_script(command)
        assert status == 1, out
        assert join_words(shown) in join_words(out)
    source = tmp_path / "backward.c"
    source.write_text(source.read_text().replace("* x[i]);", "* x[i] * (1 - pow(tanh(w[i] * x[i]), 2)));"))
    assert run_script(find_blocks(text, "sh")[0])[0] == 0
    assert run_script(re.sub(r"-(\d\.\d{10})", r"\1", find_blocks(text, "sh")[1]))[0] == 0


def test_command_examples_of_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = read_section("The command")
    for name in sorted(set(re.findall(r"`gradcheckd (\w+)", text))):
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    options = capsys.readouterr().out
    for option in set(re.findall(r"`(--\w+)", text)) - {"--points"}:
        assert option in options
    (job,) = yaml.safe_load(find_blocks(text, "yaml")[0])["jobs"].values()
    assert job["services"]["gradcheckd"]["ports"] == ["8000:8000"]
    (install,) = (step["run"] for step in job["steps"] if "pip install" in step.get("run", ""))
    checkouts = [step["with"]["path"] for step in job["steps"] if "path" in step.get("with", {})]
    assert [f"./{path}/client" in install for path in checkouts] == [True], "what is installed was checked out"
    assert job["steps"][-1]["if"] == "always()"


def test_every_error_and_every_parameter_that_is_named_is_there() -> None:
    text = read_section("Arguments and results")
    for name in re.findall(r"`(\w+Error)`", text):
        assert hasattr(gradcheckd, name)
    parameters = inspect.signature(gradcheckd.Service.check).parameters
    fields = text.split("is a parameter of `check`: ")[1].split("`progress`")[0]
    for name in re.findall(r"`(\w+)`", fields):
        assert name in parameters
