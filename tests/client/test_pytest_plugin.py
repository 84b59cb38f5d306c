"""The plugin, in sessions of pytest of their own."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.test_connection import serve_answers
from tests.integration.conftest import Server

ROOT = Path(__file__).parents[2]
Session = subprocess.CompletedProcess[str]
Run = Callable[..., Session]

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


def run_pytest(folder: Path, texts: dict[str, str], *options: str, path: str = "", **variables: str) -> Session:
    """Run pytest on files, by name, with the plugin and without anything of ours."""
    for name, text in texts.items():
        (folder / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADCHECKD")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT / "client"), path])} | variables
    command = [sys.executable, "-m", "pytest", "-rA", "--strict-markers", "-W", "error", "-p", "no:cacheprovider"]
    # Alone, and the same whether the client is installed or not; that it comes by itself is seen in a wheel.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command += ["-p", "gradcheckd.pytest_plugin"]
    return subprocess.run(
        [*command, *(("-p", "xdist.plugin") if options else ()), *options, *texts],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest on one file."""

    def run(text: str = TESTS, *options: str, path: str = "", **variables: str) -> Session:
        return run_pytest(tmp_path, {"test_mine.py": text}, *options, path=path, **variables)

    return run


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


OWN_ERROR = """
def test_mine(gradcheckd):
    gradcheckd.check_function(lambda w: 1 / 0, [1.0], [1.0])
"""


@pytest.fixture(scope="module")
def failing_session(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """One session of tests that pass and fail, at the service of an address."""
    texts = {"test_mine.py": TESTS, "test_many_bugs.py": UNKNOWN_BUGS, "test_own_error.py": OWN_ERROR}
    return run_pytest(tmp_path_factory.mktemp("failing"), texts, GRADCHECKD_URL=server.url)


def find_failure(session: Session, name: str) -> str:
    """Return what a session shows of a test that fails."""
    failures = session.stdout.split("= FAILURES =")[1].split("= PASSES =")[0].split("\n____")
    (shown,) = (part for part in failures if part.partition("\n")[0].strip(" _") == name)
    return shown.split("\n====")[0]


def test_plugin_uses_the_given_address_and_shows_failures(
    failing_session: Session,
) -> None:
    assert failing_session.returncode == 1, failing_session.stdout
    assert "5 failed, 1 passed" in failing_session.stdout
    asserted, own, other = (
        find_failure(failing_session, name)
        for name in (
            "test_wrong_asserted",
            "test_wrong_in_words_of_ones_own",
            "test_restored_answer_passes_and_another_error_fails",
        )
    )
    assert "E       gradcheckd.errors.GradientError: w1 transposed or memory_order: fail: " in asserted
    assert asserted.count("probable bug: transposed") == 1, "a report is not shown twice"
    assert "- gradcheckd -" not in asserted
    assert "__tracebackhide__" not in asserted
    assert "- gradcheckd -" in own
    assert "probable bug: sign_flipped" in own
    assert "- gradcheckd -" not in other, "what passed is not shown, nor what failed in another test"


@pytest.mark.parametrize(
    "name", ["test_wrong_asserted", "test_wrong"], ids=["one wrong tensor", "twelve wrong tensors"]
)
def test_a_failed_assertion_takes_at_most_25_lines(failing_session: Session, name: str) -> None:
    message = [line for line in find_failure(failing_session, name).splitlines() if line.startswith("E ")]
    assert 5 < len(message) <= 25
    assert max(map(len, message[1:])) <= 8 + 100
    if name == "test_wrong":
        assert "more lines in the report's text()" in message[-1]


def test_an_error_of_ones_own_shows_every_frame(failing_session: Session) -> None:
    assert "function_evaluation.py:" in find_failure(failing_session, "test_mine")


def test_plugin_skips_with_a_reason_where_no_service_is_installed(run: Run, tmp_path: Path) -> None:
    # A package of that name is no service of ours.
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").touch()
    done = run()
    assert done.returncode == 0, done.stdout
    assert "4 skipped" in done.stdout
    assert "GRADCHECKD_URL is not set, and no service is installed here" in done.stdout


GONE = """
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


@pytest.fixture(scope="module")
def unreachable_session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """One session of tests at an address where nothing answers."""
    texts = {"test_mine.py": TESTS, "test_gone.py": GONE}
    return run_pytest(tmp_path_factory.mktemp("unreachable"), texts, GRADCHECKD_URL="http://127.0.0.1:1")


def test_unreachable_service_is_an_error_not_a_skip(unreachable_session: Session) -> None:
    assert unreachable_session.returncode == 1
    assert "5 failed" in unreachable_session.stdout
    for name in re.findall(r"^def (test_\w+)", TESTS, re.MULTILINE):
        shown = find_failure(unreachable_session, name)
        assert "No gradcheckd answers at http://127.0.0.1:1" in shown
        assert ".py:" not in shown.replace("test_mine.py:", ""), "no frame is shown but the test's own"
        assert "httpx" not in shown
        assert "During handling" not in shown


def test_the_report_of_a_service_that_is_gone_is_its_summary(
    unreachable_session: Session,
) -> None:
    assert "fail: the summary\n(The whole report could not be had: No gradcheckd answers" in find_failure(
        unreachable_session, "test_gone"
    )


@pytest.mark.no_cover
def test_foreign_answer_shows_no_frames_of_the_client(run: Run) -> None:
    with serve_answers(lambda _: (200, {"Content-Type": "application/json"}, b"{}")) as (url, _):
        done = run("def test_models(gradcheckd):\n    gradcheckd.models()\n", GRADCHECKD_URL=url)
    assert "E       gradcheckd.errors.UnexpectedAnswerError: " in done.stdout
    assert ".py:" not in done.stdout.replace("test_mine.py:", "")


IN_PROCESS = """
def test_first(gradcheckd):
    assert gradcheckd.url == "in this process"
    assert gradcheckd.check_function(lambda x: float((x**2).sum()), [1.0], [2.0]).passed


def test_second(gradcheckd):
    gradcheckd.assert_function(lambda x: float((x**2).sum()), [1.0], [3.0])
"""


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "options", [pytest.param((), id="alone"), pytest.param(("-n", "2"), id="xdist", marks=pytest.mark.long)]
)
def test_without_an_address_the_service_runs_in_the_process_of_the_tests(run: Run, options: tuple[str, ...]) -> None:
    done = run(IN_PROCESS, *options, path=str(ROOT))
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "GradientError: x " in done.stdout
    assert ".py:" not in done.stdout.replace("test_mine.py:", ""), "no frame is shown but the test's own"


@pytest.mark.no_cover
def test_invalid_limit_is_an_error_with_its_name(run: Run) -> None:
    done = run(IN_PROCESS, path=str(ROOT), GRADCHECKD_MAX_SECONDS="none")
    assert done.returncode == 1
    assert "cannot run in this process: GRADCHECKD_MAX_SECONDS: " in done.stdout
