"""The start of the runner's program: nothing heavy loads before it has the lock."""

from importlib import import_module
from pathlib import Path

from service.jobs.runner_process import hold_lock


def start_runner(url: str, lock: str, service_pid: int, start_time: str, max_bytes: int) -> None:
    """Run the runner, unless another one holds the lock; parameters are those of `main.run_runner`."""
    with hold_lock(Path(lock)) as is_free:
        if is_free:
            import_module("service.job_runner.main").run_runner(url, lock, service_pid, start_time, max_bytes)
