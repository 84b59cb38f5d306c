"""The model of a growing job, by hand."""

import pytest

from benchmarks.job_scaling import NETWORK_BYTES_PER_SECOND, JobParts

PARTS = JobParts(
    serial_seconds=2.0,
    block_seconds=100.0,
    tasks=1000,
    scheduler_seconds=0.5,
    function_bytes=NETWORK_BYTES_PER_SECOND,
    result_bytes=1e6,
)


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [(1, 2 + 100 + 1), (3, 2 + 100 / 3 + 2), (200, 2 + 0.5 + 8), (10_000, 2 + 0.5 + 14)],
)
def test_a_job_takes_its_parts(workers: int, seconds: float) -> None:
    assert PARTS.predict_seconds(workers) == pytest.approx(seconds)


def test_the_scheduler_keeps_so_many_busy_and_no_more() -> None:
    most = PARTS.find_most_useful_workers()
    assert most == 200
    without_functions = PARTS._replace(function_bytes=0)
    assert without_functions.predict_seconds(most) == without_functions.predict_seconds(2 * most)
    assert without_functions.predict_seconds(most) < without_functions.predict_seconds(most // 2)


def test_work_and_weights_grow_by_themselves() -> None:
    grown = PARTS.grow(work_ratio=8, weight_ratio=4)
    assert (grown.block_seconds, grown.tasks, grown.scheduler_seconds) == (800, 8000, 4)
    assert (grown.serial_seconds, grown.function_bytes, grown.result_bytes) == (8, 4 * NETWORK_BYTES_PER_SECOND, 4e6)
    assert grown.find_most_useful_workers() == PARTS.find_most_useful_workers()
