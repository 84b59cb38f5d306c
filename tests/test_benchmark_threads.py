"""A benchmark has one core for all that it compares; who imports one, as tests do, keeps all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOLD = "import os; print(len(os.sched_getaffinity(0)), os.environ.get('OMP_NUM_THREADS'))"
AS_PROGRAM = (
    "import importlib.util as util, __main__; __main__.__spec__ = util.spec_from_loader('benchmarks.wire', None)\n"
)
CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("before", "cores", "threads"),
    [("", CORES, "7"), (AS_PROGRAM, 1, "1")],
    ids=["imported", "run"],
)
def test_only_a_benchmark_run_as_a_program_takes_one_core(before: str, cores: int, threads: str) -> None:
    code = f"{before}import benchmarks.one_thread\n{TOLD}"
    environment = os.environ | {"OMP_NUM_THREADS": "7"}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert process.stdout.split() == [str(cores), threads]


def test_none_of_the_tests_has_taken_a_core_away() -> None:
    """As an import of a benchmark did: the whole of the tests ran on one core of two, twice as long."""
    assert len(os.sched_getaffinity(0)) == len(os.sched_getaffinity(os.getppid()))
