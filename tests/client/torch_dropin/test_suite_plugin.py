"""`pytest --gradcheckd` over a suite that was not written for it, in sessions of pytest of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gradcheckd.suite_counts import SuiteCounts

ROOT = Path(__file__).parents[3]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

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


def run_suite(
    folder: Path, *options: str, suite: str = SUITE, plugin: str = "gradcheckd.suite_plugin"
) -> subprocess.CompletedProcess[str]:
    """Run pytest on a suite, with the plugin and without anything else of ours."""
    for name, text in (("conftest", CONFTEST), ("helpers", HELPERS), ("test_suite", suite)):
        (folder / f"{name}.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADCHECKD")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "client"), str(ROOT)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", plugin, *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return partial(run_suite, tmp_path)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """The suite with the plugin, run once for all tests that read its output."""
    return run_suite(tmp_path_factory.mktemp("judged"), "--gradcheckd")


COUNTS = (
    "6 checks: 3 failed, 1 inconclusive and left to the suite's own checker, 1 errors that the suite's own checker "
    "accepts"
)


def expect_judged_and_counted(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 1, done.stdout
    assert "1 failed, 5 passed" in done.stdout
    assert "Jacobian mismatch for output 0 with respect to input 0: one element: output0/input0[1]" in done.stdout
    closing = done.stdout.split("= gradcheckd =")[1].splitlines()
    assert closing[1] == COUNTS
    assert "  accepted by the suite: test_suite.py::test_slightly_wrong" in closing
    (undecided,) = (line for line in closing if line.startswith("  inconclusive: test_suite.py::test_at_a_kink: "))
    assert "kink" in undecided
    assert "first_order_check.py" not in done.stdout, "frames of ours are left out"


def test_suite_is_judged_and_counted(judged: "subprocess.CompletedProcess[str]") -> None:
    expect_judged_and_counted(judged)


@pytest.mark.long
def test_suite_of_several_processes_is_judged_and_counted(run: Run) -> None:
    expect_judged_and_counted(run("--gradcheckd", "-p", "xdist.plugin", "-n", "2"))


def test_suite_without_the_option_is_its_own(run: Run) -> None:
    done = run()
    assert "6 passed" in done.stdout, done.stdout
    assert "gradcheckd" not in done.stdout


def test_failure_of_a_wrong_check_takes_at_most_25_lines(judged: "subprocess.CompletedProcess[str]") -> None:
    lines = [line for line in judged.stdout.splitlines() if line.startswith("E  ")]
    assert 5 < len(lines) <= 25


@pytest.mark.long
def test_directions_may_be_chosen(run: Run) -> None:
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


def test_missing_torch_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "without_torch.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'torch' else find(name, *more)\n"
        "from gradcheckd.suite_plugin import *\n"
    )
    done = run("--gradcheckd", plugin="without_torch")
    assert done.returncode == 4
    assert "--gradcheckd replaces checkers of torch, and torch is not installed here." in done.stderr


def test_counts_of_many_findings_are_shortened() -> None:
    counts = SuiteCounts(checks=30, failed=12, accepted_errors=[f"test {number}" for number in range(12)])
    counts.add(SuiteCounts(checks=2, undecided=["test: reason"]))
    assert SuiteCounts.read(counts.to_plain()) == counts
    lines = counts.format_lines()
    assert lines[0].startswith("32 checks: 12 failed, 1 inconclusive")
    assert lines[-2:] == ["  ... and 2 more", "  inconclusive: test: reason"]
    assert len(lines) == 13
