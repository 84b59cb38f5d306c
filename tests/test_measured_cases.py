"""Coverage is measured in one case of each test, in shared fixtures and in imports, and nowhere else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.measured_cases import PROCESS_VARIABLE, is_measured, mark_further_cases

ROOT = Path(__file__).parents[1]


class _Item:
    """As much of a test as `mark_further_cases` looks at."""

    def __init__(self, nodeid: str, *markers: str) -> None:
        self.nodeid = nodeid
        self.markers = {*markers}

    def add_marker(self, name: str) -> None:
        self.markers.add(name)

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.markers else None


@pytest.mark.parametrize(
    ("markers", "measured"),
    [((), [True, False, False]), (("covers_by_cases",), [True] * 3), (("no_cover",), [False] * 3)],
)
def test_the_first_case_of_a_test_is_measured(markers: tuple[str, ...], measured: list[bool]) -> None:
    items = [_Item(f"a.py::test[{case}]", *markers) for case in "xyz"]
    mark_further_cases(items)
    assert [is_measured(item) for item in items] == measured


def test_tests_without_cases_are_measured_in_each_file() -> None:
    items = [_Item("a.py::test"), _Item("a.py::test_more[1]"), _Item("b.py::test")]
    mark_further_cases(items)
    assert all(map(is_measured, items))


MODULE = """
def imported():
    return 1

imported()

def shared():
    return 2

def first():
    return 3

def further():
    return 4

def unmeasured():
    return 5
"""
TESTS = f"""
import os
import threading

import pytest

@pytest.fixture(scope="module")
def number():
    import covered
    return covered.shared()

@pytest.mark.no_cover
def test_import():
    import covered

@pytest.mark.parametrize("case", [0, 1, 2])
def test_cases(number, case):
    import covered
    act = covered.further if case else covered.first
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert act() == 4 - (not case)
    assert ({PROCESS_VARIABLE!r} in os.environ) == (case == 0)

@pytest.mark.no_cover
def test_unmeasured():
    import covered
    assert covered.unmeasured() == 5
"""


def test_lines_of_further_cases_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "covered.py").write_text(MODULE)
    (tmp_path / "test_covered.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    no_cover\n    covers_by_cases\n")
    (tmp_path / "rc").write_text("[run]\nsource = covered\npatch = subprocess\n")
    environment = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE_")}
    environment |= {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def run(*arguments: str) -> None:
        command = [sys.executable, "-m", "coverage", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("run", "--rcfile=rc", "-m", "pytest", "-q", "-p", "tests.conftest", "test_covered.py")
    run("combine", "--rcfile=rc", "--quiet")
    run("json", "--rcfile=rc", "--quiet", "-o", "report.json")
    functions = json.loads((tmp_path / "report.json").read_text())["files"]["covered.py"]["functions"]
    counted = {name for name, entry in functions.items() if name and entry["executed_lines"]}
    assert counted == {"imported", "shared", "first"}
