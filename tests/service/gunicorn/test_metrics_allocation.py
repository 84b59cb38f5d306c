"""Metrics on a file system that is full: a child writes them there, in a small file system of its own if it may."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.gunicorn import metrics_files
from service.gunicorn.metrics_allocation import AllocatedDict
from tests.service.gunicorn.test_metrics_files import COUNT, read_metrics, run

ROOT = Path(__file__).parents[3]


def raise_no_space(*_):
    raise OSError(28, "No space left on device")


def read_values(place):
    return {key: value for key, value, *_ in AllocatedDict.read_all_values_from_file(str(place))}


def test_metrics_file_grows_and_is_readable_by_the_library(tmp_path):
    place = tmp_path / "counter_1.db"
    written = AllocatedDict(str(place))
    for number in range(2000):
        written.write_value(f"a metric of number {number}", number, 0.0)
    written.close()
    assert not written.in_memory
    assert read_values(place) == {f"a metric of number {number}": number for number in range(2000)}
    stat = place.stat()
    assert 512 * stat.st_blocks >= stat.st_size, "every block is there"
    again = AllocatedDict(str(place))
    assert again.read_value("a metric of number 7") == (7.0, 0.0)
    again.close()


def test_without_room_it_counts_in_memory_and_leaves_no_file(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(os, "posix_fallocate", raise_no_space)
    place = tmp_path / "counter_1.db"
    written = AllocatedDict(str(place))
    for number in range(2000):
        written.write_value(f"a metric of number {number}", number, 0.0)
    assert written.in_memory
    assert not place.exists()
    assert written.read_value("a metric of number 1999") == (1999.0, 0.0)
    assert {key: value for key, value, *_ in written.read_all_values()}["a metric of number 5"] == 5
    assert "no room for" in caplog.text
    written.close()
    written.close()


def test_metrics_file_that_cannot_grow_keeps_its_values(tmp_path, monkeypatch):
    place = tmp_path / "counter_1.db"
    written = AllocatedDict(str(place))
    written.write_value("first", 1, 0.0)
    monkeypatch.setattr(os, "posix_fallocate", raise_no_space)
    for number in range(2000):
        written.write_value(f"a metric of number {number}", number, 0.0)
    written.write_value("first", 2, 0.0)
    assert written.in_memory
    assert (written.read_value("first"), written.read_value("a metric of number 1999")) == ((2.0, 0.0), (1999.0, 0.0))
    assert read_values(place)["first"] == 1
    written.close()


def test_a_place_that_cannot_be_written_to_is_no_error(tmp_path):
    written = AllocatedDict(str(tmp_path / "none" / "counter_1.db"))
    written.write_value("a", 1, 0.0)
    assert written.in_memory
    written.close()


def test_dead_workers_keep_their_files_on_a_full_disk(tmp_path, monkeypatch):
    (_, first), (_, second) = (run(COUNT.format(by=by), tmp_path) for by in (2, 3))
    metrics_files.merge_dead_worker(tmp_path, first)
    monkeypatch.setattr(os, "posix_fallocate", raise_no_space)
    metrics_files.merge_dead_worker(tmp_path, second)
    monkeypatch.undo()
    assert (tmp_path / f"counter_{second}.db").exists()
    assert not list(tmp_path.glob("*.new"))
    assert read_metrics(tmp_path)['tests_done_total{of="a"}'] == 5


def test_the_dead_stay_where_their_sums_cannot_even_be_copied(tmp_path, monkeypatch):
    (_, first), (_, second) = (run(COUNT.format(by=by), tmp_path) for by in (2, 3))
    metrics_files.merge_dead_worker(tmp_path, first)
    monkeypatch.setattr(metrics_files.shutil, "copy", raise_no_space)
    metrics_files.merge_dead_worker(tmp_path, second)
    assert read_metrics(tmp_path)['tests_done_total{of="a"}'] == 5


COUNTED_WHERE_IT_IS_FULL = """
import os, sys
from pathlib import Path
{use}
from prometheus_client import Counter
counter = Counter("tests_done", "Done.", ("of",))
with open({place!r} + "/filling", "wb", buffering=0) as filling:
    try:
        while True:
            filling.write(bytes(4096))
    except OSError:
        pass
for number in range(2000):
    counter.labels(str(number)).inc()
print("counted", int(counter.labels("1999")._value.get()))
"""


@pytest.fixture
def small_file_system(tmp_path):
    """A file system of 1 MiB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    "use",
    ["", "from service.gunicorn import metrics_allocation; metrics_allocation.install_allocated_dict()"],
    ids=["client", "ours"],
)
def test_a_full_file_system_ends_the_client_alone_and_no_process_of_ours(small_file_system, use):
    code = COUNTED_WHERE_IT_IS_FULL.format(use=use, place=str(small_file_system))
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(small_file_system)}
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT, check=False
    )
    if use:
        assert (process.returncode, process.stdout) == (0, "counted 1\n"), process.stderr
    else:
        assert process.returncode < 0, "the negative control"
