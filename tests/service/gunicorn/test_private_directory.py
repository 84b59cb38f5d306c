import os
import tempfile

from service.gunicorn import private_directory


def test_a_directory_is_ones_own_and_leaves_nothing_behind():
    first, second = private_directory.make_private_directory(), private_directory.make_private_directory()
    assert first is not None
    assert second is not None
    assert first != second
    (first / "counter_1.db").touch()
    private_directory.remove_private_directory(first, os.getpid() + 1)
    assert first.exists(), "a worker that inherits this leaves it alone"
    for place in (first, second):
        private_directory.remove_private_directory(place, os.getpid())
        assert not place.exists()


def test_an_unwritable_directory_is_not_taken(monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert private_directory.make_private_directory() is None


def raise_no_space(*_):
    raise OSError(28, "No space left on device")


def test_a_directory_without_room_is_not_taken(monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", raise_no_space)
    assert private_directory.make_private_directory() is None
