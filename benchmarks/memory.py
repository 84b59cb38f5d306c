"""Extra peak memory of the finite-difference stage alone, each time in a fresh process."""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import ctypes
import gc
import json
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.problems import PROBLEMS, BenchmarkProblem
from service.checks.graph import model_language
from service.checks.graph import problem as question
from service.numerics.gradients import finite_difference

ROOT = Path(__file__).parent.parent
STATUS_FILE, CLEAR_FILE = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure_extra_bytes(name: str, method: str) -> int | None:
    """Peak resident memory during the stage less that before; None where the kernel does not tell."""
    if not STATUS_FILE.exists():
        return None
    command = [sys.executable, "-m", "benchmarks.memory", name, method]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def _build_problem(problem: BenchmarkProblem, method: str) -> question.Problem:
    request = {**problem.request, "finite_difference": {"method": method}}
    return question.build_problem(model_language.parse_check_request(request))


def _run_differences(posed: question.Problem) -> None:
    finite_difference.differentiate_numerically(
        posed.graph, posed.float64_leaves, posed.names, posed.method, posed.request.seed
    )


def _release_memory() -> None:
    """Give back what is free, else the stage would fill it unseen; forget the peak so far where that is allowed."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
    try:
        CLEAR_FILE.write_text("5")
    except OSError:
        # The peak so far stays, and what is found is too large rather than too small.
        return


def _read_status_bytes(field: str) -> int:
    (kibibytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", STATUS_FILE.read_text(), re.MULTILINE)
    return 1024 * int(kibibytes)


def main(name: str, method: str) -> None:
    """Print the extra bytes."""
    _run_differences(_build_problem(PROBLEMS["S0"](), method))
    posed = _build_problem(PROBLEMS[name](), method)
    _release_memory()
    before = _read_status_bytes("VmRSS")
    _run_differences(posed)
    print(_read_status_bytes("VmHWM") - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
