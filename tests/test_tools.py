"""`make test` needs no browser: its tests are left out in one line, or missed loudly where they are required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.external_programs import BROWSER, EXTERNAL_PROGRAMS, ExternalProgram

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parents[1]
NOTHING = ExternalProgram("unicorn", ("no-such-program",), "unicorn", "tests/none")


def collect(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Collect the tests of the browser with the programs of one folder alone."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/browser"]
    alone = {"PATH": str(path), "REQUIRE_TOOLS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = os.environ | alone | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_without_a_browser_its_tests_are_left_out_in_one_line_that_says_why(tmp_path: Path) -> None:
    done = collect(tmp_path)
    assert "::test_" not in done.stdout
    assert [line for line in done.stdout.splitlines() if "browser" in line] == [BROWSER.absence_message]


def test_with_a_browser_its_tests_are_collected(tmp_path: Path) -> None:
    (tmp_path / "chromium").write_text("#!/bin/sh\n")
    (tmp_path / "chromium").chmod(0o755)
    done = collect(tmp_path)
    assert done.stdout.count("::test_") > 20
    assert BROWSER.absence_message not in done.stdout


def test_a_required_browser_that_is_missing_is_an_error(tmp_path: Path) -> None:
    done = collect(tmp_path, REQUIRE_TOOLS="1")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert BROWSER.absence_message in done.stderr


def test_the_gate_requires_every_tool() -> None:
    assert "\nREQUIRE_TOOLS=1 make test-all\n" in (ROOT / ".ci" / "run").read_text()
    assert all(tool.path is None or os.access(tool.path, os.X_OK) for tool in (*EXTERNAL_PROGRAMS, NOTHING))
    assert NOTHING.path is None
