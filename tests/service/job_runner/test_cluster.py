"""Large jobs on a real cluster of dask: the same bytes, and no work that goes on without a job."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import LocalCluster

from schemas.json_writer import write_json
from service.checks.common.background_job import CancelledError
from service.checks.common.limits import Limits
from service.checks.graph import helpers
from service.checks.graph.check import check
from service.job_runner import cluster as cluster_module
from service.job_runner.cluster import Cluster, ClusterLostError
from service.numerics.core.interrupts import install_interrupt_check
from tests.service.checks.graph.test_helpers import build_request

PATIENCE = 120.0


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster:
        yield cluster


@pytest.fixture
def cluster(local_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(helpers, "SMALLEST_SHARED_WORK", 0)
    cluster = Cluster(local_cluster.scheduler_address)
    assert cluster.describe_absence() is None
    token = helpers.CLUSTER.set(cluster.share_work)
    yield cluster
    helpers.CLUSTER.reset(token)
    cluster.close()


def write_result(request: dict[str, Any]) -> bytes:
    report: dict[str, Any] = dict(check(request, Limits(seconds=600.0)))
    return write_json({**report, "cost": report["cost"]["loss_evaluations"]})


def test_answer_is_the_same_to_the_byte(cluster):
    request = build_request(12)
    answer = write_result(request)
    helpers.CLUSTER.set(None)
    assert answer == write_result(request)


def square(number: int) -> int:
    return number * number


def wait_and_square(number: int) -> int:
    time.sleep(0.3)
    return number * number


def test_results_come_in_order(cluster):
    with cluster.share_work() as executor:
        assert list(executor.map(square, range(20))) == [number**2 for number in range(20)]
        assert list(executor.map(square, [3])) == [9]


def test_calls_go_in_chunks_and_keep_their_order(cluster, local_cluster):
    with cluster.share_work() as executor:
        results = executor.map(square, range(20), chunksize=7)
        assert list(results) == [number**2 for number in range(20)]
        assert len(executor._maps[0]._chunks) == 3


def raise_error(number: int) -> int:
    raise ZeroDivisionError(str(number))


def test_error_of_a_call_is_raised(cluster):
    with cluster.share_work() as executor, pytest.raises(ZeroDivisionError, match="4"):
        list(executor.map(raise_error, [4, 5]))


def test_cancelled_job_leaves_no_call_behind(cluster, local_cluster):
    looks = 0

    def cancel_soon() -> None:
        nonlocal looks
        looks += 1
        if looks > 3:
            raise CancelledError

    with (
        pytest.raises(CancelledError),
        install_interrupt_check(cancel_soon),
        cluster.share_work() as executor,
    ):
        list(executor.map(wait_and_square, range(200)))
    deadline = time.monotonic() + PATIENCE
    while local_cluster.scheduler.tasks:
        assert time.monotonic() < deadline, "calls are left"
        time.sleep(0.05)


def test_killed_worker_changes_nothing(cluster, local_cluster):
    with cluster.share_work() as executor:
        results = executor.map(wait_and_square, range(10))
        first = next(results)
        os.kill(next(iter(local_cluster.workers.values())).pid, signal.SIGKILL)
        assert [first, *results] == [number**2 for number in range(10)]


def test_worker_with_the_function_may_be_killed():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as losing:
        cluster = Cluster(losing.scheduler_address)
        assert cluster.describe_absence() is None
        with cluster.share_work() as executor:
            results = executor.map(wait_and_square, range(12))
            first = next(results)
            (owners,) = cluster._client.who_has([executor._maps[0]._scattered]).values()
            for worker in losing.workers.values():
                if worker.worker_address in owners:
                    os.kill(worker.pid, signal.SIGKILL)
            assert [first, *results] == [number**2 for number in range(12)]
        cluster.close()


def end_process(number: int) -> None:
    os._exit(1)


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param({"_MAX_LOSSES": 2}, id="workers come back"),
        pytest.param({"_ANSWER_SECONDS": 0.1}, id="no worker comes back in time"),
    ],
)
def test_job_that_ends_its_workers_is_told_from_a_lost_cluster(monkeypatch, limit):
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as dying:
        cluster = Cluster(dying.scheduler_address)
        assert cluster.describe_absence() is None
        monkeypatch.setattr(cluster_module, *next(iter(limit.items())))
        with cluster.share_work() as executor, pytest.raises(ClusterLostError) as error:
            list(executor.map(end_process, range(2)))
        assert error.value.has_ended_workers
        cluster.close()


def test_cluster_without_a_connection_is_lost():
    with pytest.raises(ClusterLostError), Cluster("tcp://127.0.0.1:9").share_work():
        pass


def test_absent_scheduler_is_an_obstacle():
    cluster = Cluster("tcp://127.0.0.1:9")
    assert cluster.describe_absence() == "the scheduler tcp://127.0.0.1:9 does not answer"
    cluster.close()


def test_cluster_without_workers_is_an_obstacle():
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1") as empty:
        cluster = Cluster(empty.scheduler_address)
        assert cluster.describe_absence() == "the cluster has no workers"
        cluster.close()


def test_scheduler_that_goes_away_loses_the_job():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as leaving:
        cluster = Cluster(leaving.scheduler_address)
        assert cluster.describe_absence() is None
        with cluster.share_work() as executor:
            results = executor.map(wait_and_square, range(50))
            next(results)
            leaving.close()
            with pytest.raises(ClusterLostError) as error:
                list(results)
            assert not error.value.has_ended_workers
        assert cluster.describe_absence() is not None
        cluster.close()
