import os
import subprocess
import sys
from pathlib import Path

from gunicorn.workers import base

from service.gunicorn import heartbeat
from service.gunicorn.heartbeat import Heartbeat

ROOT = Path(__file__).parents[3]


FORKED = """
import os, time
from service.gunicorn.heartbeat import Heartbeat

beat = Heartbeat(None)
beat.notify()
first = beat.last_update()
assert abs(first - time.monotonic()) < 60
if not (pid := os.fork()):
    time.sleep(0.05)
    beat.notify()
    os._exit(0)
os.waitpid(pid, 0)
assert beat.last_update() > first
beat.close()
beat.close()
print("seen")
"""


def test_heartbeat_is_shared_between_processes():
    """In a process of its own: that of the tests may have threads, which a fork leaves behind."""
    done = subprocess.run([sys.executable, "-c", FORKED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "seen\n", done.stderr


def test_heartbeat_is_in_no_file_system():
    beat = Heartbeat(None)
    assert "memfd:" in os.readlink(f"/proc/self/fd/{beat.fileno()}")
    beat.close()


def test_workers_use_the_memory_heartbeat(monkeypatch):
    monkeypatch.setattr(base, "WorkerTmp", None)
    heartbeat.install_heartbeat()
    assert base.WorkerTmp is Heartbeat


def test_gunicorn_keeps_its_own_heartbeat_without_memfd(monkeypatch):
    monkeypatch.setattr(base, "WorkerTmp", None)
    monkeypatch.delattr(os, "memfd_create")
    heartbeat.install_heartbeat()
    assert base.WorkerTmp is None
