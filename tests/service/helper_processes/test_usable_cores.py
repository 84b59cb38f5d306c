import os
from pathlib import Path

import pytest

from service.helper_processes import usable_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("100000 100000", 1),
        ("250000 100000", min(2, CORES)),
        ("50000 100000", 1),
        ("max 100000", CORES),
        ("100000 0", CORES),
        ("unknown", CORES),
    ],
)
def test_cores_are_those_of_the_container(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores.count_usable_cores(tmp_path / "cpu.max") == expected


def test_cores_are_those_of_the_machine_without_a_container(tmp_path: Path) -> None:
    assert usable_cores.count_usable_cores(tmp_path / "none") == CORES


@pytest.mark.parametrize(
    ("cores", "workers", "processes"),
    [(1, 1, 1), (2, 2, 1), (2, 1, 2), (8, 2, 4), (9, 4, 2), (64, 2, 4), (2, 5, 1)],
)
def test_workers_and_helpers_are_no_more_than_cores(cores: int, workers: int, processes: int) -> None:
    assert usable_cores.choose_process_count(cores, workers) == processes
