"""`pytest --gradcheckd` over a suite that was not written for it, in sessions of pytest of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from gradcheckd.suite_counts import SuiteCounts

ROOT = Path(__file__).parents[2]

CONFTEST = """
from torch.autograd import gradcheck as imported_early
"""
HELPERS = """
import torch
from torch.autograd import gradcheck, gradgradcheck


class Square(torch.autograd.Function):
    factor = 1.0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @classmethod
    def backward(cls, ctx, gradient):
        result = 2 * ctx.saved_tensors[0] * gradient
        result[1] *= 1.0001
        return result


class Negative(Square):
    @staticmethod
    def backward(ctx, gradient):
        return -2 * ctx.saved_tensors[0] * gradient


def draw():
    return torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64, requires_grad=True)
"""
SUITE = """
import conftest
import pytest
import torch
import torch.autograd as autograd
from helpers import Negative, Square, draw, gradcheck, gradgradcheck
from torch.autograd.gradcheck import GradcheckError


def test_right():
    assert gradcheck(torch.tanh, draw())


def test_right_second_order():
    assert gradgradcheck(torch.tanh, draw())


def test_slightly_wrong():
    assert autograd.gradcheck(Square.apply, draw())


def test_expected_to_fail():
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        conftest.imported_early(Negative.apply, draw())


def test_returns_false():
    assert not gradcheck(Negative.apply, draw(), raise_exception=False)


def test_at_a_kink():
    assert gradcheck(torch.abs, torch.zeros(3, dtype=torch.float64, requires_grad=True))
"""

OTHER_LIBRARIES = """
import sys

import numpy as np
import pytest


def test_libraries_that_nobody_imports_are_not_imported():
    assert not {"torch", "jax"} & set(sys.modules)


def test_right_of_scipy():
    from scipy.optimize import check_grad, rosen, rosen_der
    assert check_grad(rosen, rosen_der, np.array([1.2, -0.7])) < 1e-5


def test_slightly_wrong_of_scipy():
    from scipy import optimize
    assert optimize.check_grad(np.sum, lambda x: np.ones(3) + 1e-6, np.array([0.3, -0.7, 1.1])) < 1e-5


def test_at_a_kink_of_scipy():
    from scipy.optimize import check_grad
    assert check_grad(lambda x: np.abs(x).sum(), lambda x: np.ones(1), np.zeros(1)) < 1e-5


def make_doubled(factor):
    import jax

    @jax.custom_jvp
    def double(x):
        return 2 * x

    double.defjvp(lambda points, tangents: (double(*points), factor * tangents[0]))
    return double


def test_right_of_jax():
    from jax.test_util import check_grads
    check_grads(make_doubled(2), (np.float32(0.3),), order=1)


def test_slightly_wrong_of_jax():
    from jax import test_util
    test_util.check_grads(make_doubled(2.001), (np.float32(0.3),), order=1)


def test_wrong_of_jax():
    from jax.test_util import check_grads
    with pytest.raises(AssertionError):
        check_grads(make_doubled(-2), (np.float32(0.3),), order=1)
"""


@dataclass(frozen=True)
class SuiteRun:
    """A session of pytest that has ended, and the processes that it left."""

    returncode: int
    stdout: str
    stderr: str
    processes_left: list[int]


def run_suite(
    folder: Path,
    *options: str,
    suite: str = SUITE,
    conftest: str = CONFTEST,
    plugin: str = "gradcheckd.suite_plugin",
) -> SuiteRun:
    """Run pytest on a suite, with the plugin and without anything else of ours."""
    for name, text in (("conftest", conftest), ("helpers", HELPERS), ("test_suite", suite)):
        (folder / f"{name}.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADCHECKD")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "client"), str(ROOT)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", plugin, *options]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        stdout, stderr = process.communicate()
    return SuiteRun(process.returncode, stdout, stderr, list_processes(process.pid))


def list_processes(session: int) -> list[int]:
    """Return the numbers of the processes of a session."""
    processes: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name, in parentheses, may have spaces; state, parent, group and session follow it.
            if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                processes.append(int(entry.name))
    return processes


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., SuiteRun]:
    return partial(run_suite, tmp_path)


@pytest.fixture(scope="module")
def judged_suite(tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """The suite with the plugin, run once for all tests that read its output."""
    return run_suite(tmp_path_factory.mktemp("judged"), "--gradcheckd")


COUNTS = (
    "6 checks: 3 failed, 1 inconclusive and left to the suite's own checker, 1 error that the suite's own checker "
    "accepts"
)


def expect_judged_and_counted(done: SuiteRun) -> None:
    assert done.returncode == 1, done.stdout
    assert "1 failed, 5 passed" in done.stdout
    assert "Jacobian mismatch for output 0 with respect to input 0: one element: output0/input0[1]" in done.stdout
    closing = done.stdout.split("= gradcheckd =")[1].splitlines()
    assert closing[1] == COUNTS
    assert "  accepted by the suite: test_suite.py::test_slightly_wrong" in closing
    (undecided,) = (line for line in closing if line.startswith("  inconclusive: test_suite.py::test_at_a_kink: "))
    assert "kink" in undecided
    for file in ("first_order_check.py", "suite_replacement.py"):
        assert file not in done.stdout, "frames of ours are left out"


def test_suite_is_judged_and_counted(judged_suite: SuiteRun) -> None:
    expect_judged_and_counted(judged_suite)


@pytest.mark.long
def test_suite_of_several_processes_is_judged_and_counted(run: Callable[..., SuiteRun]) -> None:
    expect_judged_and_counted(run("--gradcheckd", "-p", "xdist.plugin", "-n", "2"))


@pytest.mark.long
def test_suite_without_the_option_is_its_own(run: Callable[..., SuiteRun]) -> None:
    done = run()
    assert "6 passed" in done.stdout, done.stdout
    assert "gradcheckd" not in done.stdout


@pytest.mark.long
def test_suite_of_other_libraries_is_judged_and_counted(run: Callable[..., SuiteRun]) -> None:
    done = run("--gradcheckd", suite=OTHER_LIBRARIES, conftest="")
    assert "2 failed, 5 passed" in done.stdout, done.stdout
    closing = done.stdout.split("= gradcheckd =")[1].splitlines()
    assert closing[1] == (
        "6 checks: 3 failed, 1 inconclusive and left to the suite's own checker, 1 error that the suite's own checker "
        "accepts"
    )
    assert "  accepted by the suite: test_suite.py::test_slightly_wrong_of_jax" in closing
    for name in ("test_slightly_wrong_of_scipy", "test_slightly_wrong_of_jax"):
        assert f"FAILED test_suite.py::{name}" in done.stdout
    assert any(line.startswith("  inconclusive: test_suite.py::test_at_a_kink_of_scipy: ") for line in closing)


@pytest.mark.long
def test_suite_leaves_no_process_behind(run: Callable[..., SuiteRun]) -> None:
    assert not run("--gradcheckd", "-p", "xdist.plugin", "-n", "2").processes_left
    leaving = "import subprocess\n\ndef test_nothing():\n    subprocess.Popen(['sleep', '60'])\n"
    (process,) = run(suite=leaving, conftest="").processes_left
    os.kill(process, signal.SIGKILL)


def test_failure_of_a_wrong_check_takes_at_most_25_lines(judged_suite: SuiteRun) -> None:
    lines = [line for line in judged_suite.stdout.splitlines() if line.startswith("E  ")]
    assert 5 < len(lines) <= 25


@pytest.mark.long
def test_directions_may_be_chosen(run: Callable[..., SuiteRun]) -> None:
    suite = """
import torch
from helpers import draw, gradcheck

def test_right():
    points = []
    assert gradcheck(lambda x: points.append(x.detach().clone()) or x.sin(), draw())
    moved = [point - draw().detach() for point in points]
    print("one element alone:", any((move != 0).sum() == 1 for move in moved))
"""
    assert "one element alone: True" in run("--gradcheckd", "-rP", suite=suite).stdout
    done = run("--gradcheckd", "--gradcheckd-directions=random", "-rP", suite=suite)
    assert "one element alone: False" in done.stdout, done.stdout


@pytest.mark.long
def test_missing_libraries_are_named(run: Callable[..., SuiteRun], tmp_path: Path) -> None:
    (tmp_path / "without_libraries.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "missing = {'torch', 'jax', 'scipy'}\n"
        "importlib.util.find_spec = lambda name, *more: None if name in missing else find(name, *more)\n"
        "from gradcheckd.suite_plugin import *\n"
    )
    done = run("--gradcheckd", plugin="without_libraries")
    assert done.returncode == 4
    assert "--gradcheckd replaces checkers of torch, jax and scipy. None of them is installed here." in done.stderr


def test_counts_of_many_findings_are_shortened() -> None:
    counts = SuiteCounts(checks=30, failed=12, accepted_errors=[f"test {number}" for number in range(12)])
    counts.add(SuiteCounts(checks=2, undecided=["test: reason"]))
    assert SuiteCounts.read(counts.to_plain()) == counts
    lines = counts.format_lines()
    assert lines[0].startswith("32 checks: 12 failed, 1 inconclusive")
    assert lines[-2:] == ["  ... and 2 more", "  inconclusive: test: reason"]
    assert len(lines) == 13
