"""The lock of the runner, and the process that it serves."""

import os
import subprocess
import sys

from service.jobs.job_service import choose_lock
from service.jobs.runner_process import RunnerStarter, hold_lock, read_start_time


def test_lock_is_held_by_one(tmp_path):
    path = tmp_path / "lock"
    with hold_lock(path) as first, hold_lock(path) as second:
        assert (first, second) == (True, False)
    with hold_lock(path) as again:
        assert again


def test_start_time_tells_a_process_from_a_later_one():
    assert read_start_time(os.getpid()) == read_start_time(os.getpid()) != ""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert read_start_time(process.pid) not in ("", read_start_time(os.getpid()))
    process.communicate(b"\n")
    assert read_start_time(process.pid) == ""


def test_ended_child_that_nobody_has_waited_for_is_gone():
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout.read() == b""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert read_start_time(process.pid) == ""
    process.wait()
    process.stdout.close()


def test_no_runner_starts_while_another_holds_the_lock(tmp_path):
    starter = RunnerStarter("sqlite://", tmp_path / "lock", os.getpid(), 2**30)
    with hold_lock(tmp_path / "lock"):
        starter.ensure_runner()
    starter.close()


def test_lock_lies_beside_a_file_and_else_on_the_machine(tmp_path):
    assert choose_lock(f"sqlite:///{tmp_path}/jobs.db") == tmp_path / "jobs.db.runner"
    one, other = (choose_lock(f"postgresql+psycopg://host/{name}") for name in ("one", "other"))
    assert one != other
    assert "host" not in one.name, "an address may have a password"
