import os

from service.jobs.owner import find_owner, set_owner


def test_owner_is_this_process_unless_another_was_told(monkeypatch):
    monkeypatch.delenv("_GRADCHECKD_JOBS_OWNER", raising=False)
    assert find_owner() == (os.getpid(), "")
    monkeypatch.setenv("_GRADCHECKD_JOBS_OWNER", "")
    set_owner(7, "/a:b")
    assert find_owner() == (7, "/a:b")
