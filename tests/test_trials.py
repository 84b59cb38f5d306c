"""`make test` runs a fixed tenth of the trials, and the rest run in `make test-all`: together all, each once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.trials import (
    IN_FULL,
    LEFT_OUT,
    LONG_FILES,
    SELECTIONS,
    TENTH,
    TRIALS,
    Selection,
    choose_profile,
    choose_tenth,
    is_collected,
    select,
    split_count,
)

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parents[1]


def is_test_name(beginning: str) -> bool:
    """Return whether a node id begins that of a test: by its folder, its file, or a part of its name."""
    path, _, name = beginning.partition("::")
    if not name:
        return (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()
    return re.search(rf"^def {name}", (ROOT / path).read_text(), re.MULTILINE) is not None


COLLECT = """
import sys
import pytest
*arguments, selections = sys.argv[1:]
for selection in selections.split(","):
    print(flush=True)
    status = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *arguments, f"--trials={selection}"])
    print("ended with", int(status), flush=True)
"""


def collect_tests(*arguments: str) -> dict[Selection, list[str]]:
    """Collect tests with the real configuration, and return their node ids by selection."""
    command = [sys.executable, "-c", COLLECT, "-p", "_hypothesis_pytestplugin", *arguments, ",".join(SELECTIONS)]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    *outputs, rest = re.split(r"^ended with 0\n", done.stdout, flags=re.MULTILINE)
    assert (len(outputs), rest) == (len(SELECTIONS), ""), done.stdout + done.stderr
    return {
        selection: [line for line in output.splitlines() if "::" in line]
        for selection, output in zip(SELECTIONS, outputs, strict=True)
    }


@pytest.mark.parametrize("beginning", [*TRIALS, *IN_FULL])
def test_each_entry_of_the_tables_names_tests(beginning: str) -> None:
    assert is_test_name(beginning)


@pytest.mark.parametrize("beginning", ["tests/test_none.py", "tests/none/", "tests/test_trials.py::test_of_nothing"])
def test_an_entry_that_names_no_test_is_found(beginning: str) -> None:
    assert not is_test_name(beginning)


def test_each_exemption_is_from_an_entry() -> None:
    assert all(beginning.startswith(tuple(TRIALS)) for beginning in IN_FULL)


def test_the_tenth_has_one_of_each_ten_trials_of_a_file() -> None:
    names = [f"tests/{file}.py::test[{number}]" for file in "ab" for number in range(100)]
    tenth = choose_tenth(names)
    windows = [names[start : start + TENTH] for start in range(0, len(names), TENTH)]
    assert [len(tenth.intersection(window)) for window in windows] == [1] * 20


@pytest.mark.parametrize("count", range(1, TENTH))
def test_short_files_have_a_chosen_trial_in_proportion_to_their_count(count: int) -> None:
    files = [[f"tests/{file}.py::test[{number}]" for number in range(count)] for file in range(2000)]
    chosen = [len(choose_tenth(names)) for names in files]
    assert set(chosen) == {0, 1}
    assert sum(chosen) / len(files) == pytest.approx(count / TENTH, abs=0.05)


def test_the_tenth_is_the_same_each_time_and_of_each_file_by_itself() -> None:
    names = [f"tests/{file}.py::test[{number}]" for file in "ab" for number in range(50)]
    tenth = choose_tenth(names)
    assert tenth == choose_tenth(names[:50]) | choose_tenth(names[50:])
    assert {name.partition("[")[2] for name in tenth if "/a" in name} != {f"{10 * window}]" for window in range(5)}


@pytest.fixture(scope="module")
def collected_tests() -> dict[Selection, list[str]]:
    """Node ids of the tests of three files, of which one has trials and one property tests, by selection."""
    folder = "tests/service/numerics"
    files = (f"{folder}/blackbox/test_candidate_judge.py", f"{folder}/blackbox/test_layout.py", PROPERTY_FILE)
    return collect_tests(*files)


PROPERTY_FILE = "tests/service/numerics/core/test_batching.py"


def list_property_tests() -> set[str]:
    """The node ids of the property tests of a file."""
    names = re.findall(r"^@given.*\n(?:@.*\n)*def (\w+)", (ROOT / PROPERTY_FILE).read_text(), re.MULTILINE)
    return {f"{PROPERTY_FILE}::{name}" for name in names}


def test_the_two_commands_run_each_test_once_and_a_property_test_twice(
    collected_tests: dict[Selection, list[str]],
) -> None:
    twice = list_property_tests()
    assert len(twice) == 2
    assert sorted(collected_tests["tenth"] + collected_tests["rest"]) == sorted([*collected_tests["all"], *twice])
    assert len(set(collected_tests["all"])) == len(collected_tests["all"])


def test_the_rest_are_trials_and_property_tests_alone(collected_tests: dict[Selection, list[str]]) -> None:
    others = set(collected_tests["rest"]) - list_property_tests()
    assert others
    assert all(name.startswith(tuple(TRIALS)) for name in others)
    assert [name for name in collected_tests["tenth"] if name.startswith(tuple(TRIALS))]


class _Item:
    """As much of a test as `select` looks at."""

    def __init__(self, nodeid: str, *markers: str) -> None:
        self.nodeid = nodeid
        self.markers = markers

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.markers else None


@pytest.mark.parametrize("marker", LEFT_OUT)
def test_long_tests_are_left_to_the_gate(marker: str) -> None:
    items = [_Item("a::b"), _Item("a::c", marker), *(_Item(f"a::{number}", "trial") for number in range(10))]
    names = {selection: [item.nodeid for item in select(items, selection)] for selection in SELECTIONS}
    assert len(names["all"]) == 12
    assert ("a::b" in names["tenth"], "a::c" in names["tenth"], len(names["tenth"])) == (True, False, 2)
    assert ("a::b" in names["rest"], "a::c" in names["rest"], len(names["rest"])) == (False, True, 10)


def test_a_tenth_of_the_samples_of_one_test_is_taken_by_make_test_and_all_by_the_gate() -> None:
    tenth, all_samples = split_count(1000)
    assert (tenth.values, all_samples.values) == ((1000 // TENTH,), (1000,))
    assert [mark.name for mark in all_samples.marks] == ["long"]
    assert not tenth.marks


@pytest.mark.parametrize("path", LONG_FILES)
def test_files_that_are_not_collected_have_long_tests_alone(path: str) -> None:
    text = (ROOT / path).read_text()
    tests = re.findall(r"^((?:@.*\n)*)def test_", text, re.MULTILINE)
    assert tests
    assert all("@pytest.mark.long\n" in decorators for decorators in tests)
    assert [is_collected(path, selection) for selection in SELECTIONS] == [True, False, True]
    assert all(is_collected(f"{path}.other", selection) for selection in SELECTIONS)


@pytest.mark.parametrize(
    ("selection", "environment", "profile"),
    [
        ("tenth", {}, "tenth"),
        ("rest", {}, "fixed"),
        ("all", {}, "fixed"),
        ("tenth", {"HYPOTHESIS_PROFILE": "fresh"}, "fresh"),
    ],
)
def test_property_tests_have_a_tenth_of_their_examples(
    selection: Selection, environment: dict[str, str], profile: str
) -> None:
    assert choose_profile(selection, environment) == profile
    tenth, fixed = settings.get_profile("tenth"), settings.get_profile("fixed")
    assert TENTH * tenth.max_examples == fixed.max_examples == 100
    assert (tenth.derandomize, fixed.derandomize) == (True, True)


def test_the_gate_runs_what_make_test_runs_with_coverage_then_the_rest_and_the_documentation() -> None:
    makefile = (ROOT / "Makefile").read_text()
    run = r"\n\t@\$\(MAKE\) --no-print-directory --jobs=2 "
    assert re.search(rf"^test: .*{run}lint unit\n\n", makefile, re.MULTILINE)
    assert re.search(rf"^test-all: .*{run}lint coverage{run}trials docs\n\n", makefile, re.MULTILINE)
    commands = re.findall(r"^(\w+): \$\(TEST_STAMP\).*\n(?:\t.*\n)*?\t.*--trials=(\w+)$", makefile, re.MULTILINE)
    assert commands == [("unit", "tenth"), ("coverage", "tenth"), ("trials", "rest")]
