"""The configuration of pre-commit and of the hosted CI runs what `make lint` and `.ci/run` run."""

import os
import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def list_linters(makefile: str) -> set[str]:
    """The commands of `make lint`, without what names the files."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    return {line.strip().removeprefix("$(BIN)/").removesuffix(" .") for line in recipe[1].splitlines()}


def list_hooks() -> set[str]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    return {hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]}


def test_pre_commit_runs_each_linter_of_make_lint() -> None:
    assert list_hooks() == list_linters((ROOT / "Makefile").read_text())


def test_a_linter_that_no_hook_runs_is_seen() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\t$(BIN)/pyright\n", "\t$(BIN)/pyright\n\t$(BIN)/mypy\n")
    assert list_linters(makefile) - list_hooks() == {"mypy"}


def test_the_hosted_workflow_runs_the_scripts_of_the_gate() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())["jobs"]
    scripts = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert scripts == {".ci/run", ".ci/container"}
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)


def test_the_scripts_of_the_gate_are_valid_shell() -> None:
    for script in ("run", "container", "check-container.sh"):
        subprocess.run(["bash", "-n", str(ROOT / ".ci" / script)], check=True)


def test_the_container_script_sets_up_the_python_of_its_check() -> None:
    """A hosted machine builds the image in a job of its own, without the tests."""
    script = (ROOT / ".ci" / "container").read_text()
    assert ".venv/bin/python" in (ROOT / ".ci" / "check-container.sh").read_text()
    assert script.index("make install") < script.index("check-container.sh")
    makefile = (ROOT / "Makefile").read_text()
    assert "install: $(TEST_STAMP)" in makefile
