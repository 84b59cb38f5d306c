import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.gunicorn import metrics_files

ROOT = Path(__file__).parents[3]
COUNT = """
from prometheus_client import Counter, Gauge, Histogram
Counter("tests_done", "Done.", ("of",)).labels("a").inc({by})
Histogram("tests_seconds", "Time.", buckets=(1,)).observe({by})
Gauge("tests_busy", "Busy.", multiprocess_mode="livesum").inc({by})
"""
TELL = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def run(code, place):
    """Run in a process of its own: the client of Prometheus settles at its import where it writes."""
    command = [sys.executable, "-c", f"{code}\nimport os; print(os.getpid())"]
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(place)}
    process = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=ROOT)
    *lines, pid = process.stdout.splitlines()
    return lines, int(pid)


def read_metrics(place):
    lines, _ = run(TELL, place)
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}


def test_counts_of_dead_workers_stay_in_one_file(tmp_path):
    pids = [run(COUNT.format(by=by), tmp_path)[1] for by in (2, 3, 4)]
    before = read_metrics(tmp_path)
    assert (before['tests_done_total{of="a"}'], before["tests_busy"]) == (9, 9)
    for pid in pids:
        metrics_files.merge_dead_worker(tmp_path, pid)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_dead.db", "histogram_dead.db"]
    del before["tests_busy"]
    assert read_metrics(tmp_path) == before


def test_the_living_are_left_alone(tmp_path):
    _, dead = run(COUNT.format(by=2), tmp_path)
    _, living = run(COUNT.format(by=3), tmp_path)
    metrics_files.merge_dead_worker(tmp_path, dead)
    assert read_metrics(tmp_path)["tests_busy"] == 3
    assert (tmp_path / f"counter_{living}.db").exists()
    metrics_files.merge_dead_worker(tmp_path, dead)
    assert read_metrics(tmp_path)['tests_done_total{of="a"}'] == 5


@pytest.mark.parametrize("torn", [b"", b"\xff" * 64, b"\x40\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x7f" + b"\0" * 60])
def test_a_file_that_cannot_be_read_does_not_stay_to_break_a_scrape(tmp_path, torn):
    _, pid = run(COUNT.format(by=2), tmp_path)
    (tmp_path / "counter_1.db").write_bytes(torn)
    metrics_files.merge_dead_worker(tmp_path, 1)
    assert not (tmp_path / "counter_1.db").exists()
    metrics_files.merge_dead_worker(tmp_path, pid)
    assert read_metrics(tmp_path)['tests_done_total{of="a"}'] == 2
