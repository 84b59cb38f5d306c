"""The plugin, in sessions of pytest of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.test_connection import serve_answers

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

TESTS = """
import numpy as np

INPUTS = {"tensors": {"x": np.arange(1.0, 10.0).reshape(3, 3), "y": np.array([-1.0, -1.0, 1.0, 1.0])},
          "weights": {"w1": np.array([[0.1, -0.1], [0.2, 0.001]]), "w2": np.array([0.0005, -0.2, 0.2, 0.5])}}
RIGHT = np.array([[-0.1342557202950444, -0.18325792430503762], [-0.2812623323250241, -0.3302645363350174]])


def test_right(gradcheckd):
    gradcheckd.assert_gradients(**INPUTS, candidate={"w1": RIGHT})


def test_wrong_asserted(gradcheckd):
    gradcheckd.assert_gradients(**INPUTS, candidate={"w1": RIGHT.T})


def test_wrong_in_words_of_ones_own(gradcheckd):
    report = gradcheckd.check(**INPUTS, candidate={"w1": -RIGHT})
    assert report.outcome == "pass"


def test_restored_answer_passes_and_another_error_fails(gradcheckd):
    gradcheckd.check(**INPUTS)
    assert 1 == 2
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest on a file, with the plugin and without anything of ours."""

    def run(text: str = TESTS, *options: str, path: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_mine.py").write_text(text)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADCHECKD")}
        environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT / "client"), path])} | variables
        command = [sys.executable, "-m", "pytest", "-rA", "--strict-markers", "-W", "error", "-p", "no:cacheprovider"]
        # Alone, and the same whether the client is installed or not; that it comes by itself is seen in a wheel.
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        command += ["-p", "gradcheckd.pytest_plugin"]
        return subprocess.run(
            [*command, *(("-p", "xdist.plugin") if options else ()), *options, "test_mine.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_plugin_uses_the_given_address_and_shows_failures(run: Run, url: str) -> None:
    done = run(GRADCHECKD_URL=url)
    assert done.returncode == 1, done.stdout
    assert "3 failed, 1 passed" in done.stdout
    sections = done.stdout.split("= FAILURES =")[1].split("= PASSES =")[0].split("\n____")
    asserted, own, other = (
        next(part for part in sections if name in part) for name in ("_asserted ", "_own ", "_error_fails ")
    )
    assert "E       gradcheckd.errors.GradientError: w1 transposed or memory_order: fail: " in asserted
    assert asserted.count("probable bug: transposed") == 1, "a report is not shown twice"
    assert "- gradcheckd -" not in asserted
    assert "__tracebackhide__" not in asserted
    assert "- gradcheckd -" in own
    assert "probable bug: sign_flipped" in own
    assert "- gradcheckd -" not in other, "what passed is not shown, nor what failed in another test"


UNKNOWN_BUGS = """
import numpy as np

RNG = np.random.default_rng(0)
NAMES = [f"layer{number}.weight" for number in range(12)]
INPUTS = ["x", *(f"h{number}" for number in range(11))]
NODES = [{"name": f"h{at}", "op": "mul", "inputs": [INPUTS[at], name]} for at, name in enumerate(NAMES)]
NODES.append({"name": "loss", "op": "mean", "inputs": ["h11"]})


def test_wrong(gradcheckd):
    weights = {name: RNG.normal(size=(6, 5)) for name in NAMES}
    gradcheckd.assert_gradients(
        tensors={"x": RNG.normal(size=(6, 5))}, weights=weights, model=NODES,
        candidate={name: RNG.normal(size=(6, 5)) for name in NAMES},
    )
"""


@pytest.mark.parametrize("text", [TESTS, UNKNOWN_BUGS], ids=["one wrong tensor", "twelve wrong tensors"])
def test_a_failed_assertion_takes_at_most_25_lines(run: Run, url: str, text: str) -> None:
    failures = run(text, GRADCHECKD_URL=url).stdout.split("= FAILURES =")[1].split("\n____")
    shown = next(part for part in failures if "GradientError" in part).split("\n====")[0]
    message = [line for line in shown.splitlines() if line.startswith("E ")]
    assert 5 < len(message) <= 25
    assert max(map(len, message[1:])) <= 8 + 100
    if text == UNKNOWN_BUGS:
        assert "more lines in the report's text()" in message[-1]


def test_plugin_skips_with_a_reason_where_no_service_is_installed(run: Run, tmp_path: Path) -> None:
    # A package of that name is no service of ours.
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").touch()
    done = run()
    assert done.returncode == 0, done.stdout
    assert "4 skipped" in done.stdout
    assert "GRADCHECKD_URL is not set, and no service is installed here" in done.stdout


def test_unreachable_service_is_an_error_not_a_skip(run: Run) -> None:
    done = run(GRADCHECKD_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "4 failed" in done.stdout
    assert "No gradcheckd answers at http://127.0.0.1:1" in done.stdout
    assert ".py:" not in done.stdout.replace("test_mine.py:", ""), "no frame is shown but the test's own"
    assert "httpx" not in done.stdout
    assert "During handling" not in done.stdout


def test_foreign_answer_shows_no_frames_of_the_client(run: Run) -> None:
    with serve_answers(lambda _: (200, {"Content-Type": "application/json"}, b"{}")) as (url, _):
        done = run("def test_models(gradcheckd):\n    gradcheckd.models()\n", GRADCHECKD_URL=url)
    assert "E       gradcheckd.errors.UnexpectedAnswerError: " in done.stdout
    assert ".py:" not in done.stdout.replace("test_mine.py:", "")


def test_an_error_of_ones_own_shows_every_frame(run: Run, url: str) -> None:
    text = "def test_mine(gradcheckd):\n    gradcheckd.check_function(lambda w: 1 / 0, [1.0], [1.0])\n"
    assert "function_evaluation.py:" in run(text, GRADCHECKD_URL=url).stdout


IN_PROCESS = """
def test_first(gradcheckd):
    assert gradcheckd.url == "in this process"
    assert gradcheckd.check_function(lambda x: float((x**2).sum()), [1.0], [2.0]).passed


def test_second(gradcheckd):
    gradcheckd.assert_function(lambda x: float((x**2).sum()), [1.0], [3.0])
"""


@pytest.mark.parametrize(
    "options", [pytest.param((), id="alone"), pytest.param(("-n", "2"), id="xdist", marks=pytest.mark.long)]
)
def test_without_an_address_the_service_runs_in_the_process_of_the_tests(run: Run, options: tuple[str, ...]) -> None:
    done = run(IN_PROCESS, *options, path=str(ROOT))
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "GradientError: x " in done.stdout
    assert ".py:" not in done.stdout.replace("test_mine.py:", ""), "no frame is shown but the test's own"


def test_invalid_limit_is_an_error_with_its_name(run: Run) -> None:
    done = run(IN_PROCESS, path=str(ROOT), GRADCHECKD_MAX_SECONDS="none")
    assert done.returncode == 1
    assert "cannot run in this process: GRADCHECKD_MAX_SECONDS: " in done.stdout


def test_the_report_of_a_service_that_is_gone_is_its_summary(run: Run) -> None:
    text = """
from gradcheckd import Service
from gradcheckd.report import Report


def test_gone(gradcheckd, request):
    def gone(form):
        Service("http://127.0.0.1:1").models()

    raw = {"outcome": "fail", "summary": "fail: the summary", "verdicts": {}, "loss": {"analytic": 1, "autograd": 1},
           "gradients": {}, "discrepancies": {}, "intermediates": {}}
    gradcheckd._deliver_report(Report.read(raw, gone))
    assert False
"""
    done = run(text, GRADCHECKD_URL="http://127.0.0.1:1")
    assert "fail: the summary\n(The whole report could not be had: No gradcheckd answers" in done.stdout
