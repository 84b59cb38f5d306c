import os
import time

from gunicorn.workers import base

from service.serving import heartbeat
from service.serving.heartbeat import Heartbeat


def test_what_one_process_says_another_sees():
    beat = Heartbeat(None)
    beat.notify()
    first = beat.last_update()
    assert abs(first - time.monotonic()) < 60
    pid = os.fork()
    if not pid:
        time.sleep(0.05)
        beat.notify()
        os._exit(0)
    os.waitpid(pid, 0)
    assert beat.last_update() > first
    beat.close()
    beat.close()


def test_it_lies_in_no_file_system():
    beat = Heartbeat(None)
    assert "memfd:" in os.readlink(f"/proc/self/fd/{beat.fileno()}")
    beat.close()


def test_workers_use_it(monkeypatch):
    monkeypatch.setattr(base, "WorkerTmp", None)
    heartbeat.use()
    assert base.WorkerTmp is Heartbeat


def test_where_there_is_none_they_use_their_own(monkeypatch):
    monkeypatch.setattr(base, "WorkerTmp", None)
    monkeypatch.delattr(os, "memfd_create")
    heartbeat.use()
    assert base.WorkerTmp is None
