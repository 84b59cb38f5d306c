"""The clients in other languages do what they say."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.served import served

EXAMPLES = Path(__file__).parents[1] / "examples"


def lines_of(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no compiler")
def test_in_c(tmp_path: Path) -> None:
    program = str(tmp_path / "blackbox")
    warnings = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["gcc", *warnings, "-O1", "-o", program, str(EXAMPLES / "blackbox.c"), "-lm"], check=True)
    with served() as address:
        right, wrong = lines_of(program, *address.removeprefix("http://").split(":"))
    assert right.startswith("pass: the gradient along 4 random directions of w")
    assert wrong.startswith("fail: 4 of 4 directions of w")


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_in_javascript() -> None:
    with served() as address:
        right, wrong = lines_of("node", str(EXAMPLES / "blackbox.mjs"), address)
    assert right.startswith("pass: the gradient along 4 random directions of w")
    assert wrong.endswith("a sign was lost.")
