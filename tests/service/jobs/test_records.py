"""Jobs as the routes see them: whose they are, what is kept, and for how long."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from service.jobs.database import JobDatabase
from service.jobs.job import (
    IdempotencyConflictError,
    JobQueueFullError,
    JobResult,
    JobStatus,
    NewJob,
    StoredProgress,
)
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecords, StoreLimits
from service.jobs.tables import JOBS, RUNNERS

JSON = "application/json"


def make_request(owner: str = "", body: bytes = b"{}", key: str | None = None, kind: str = "check") -> NewJob:
    return NewJob(owner, kind, JSON, body, key)


def test_new_job_waits(records):
    job, is_new = records.submit(make_request())
    assert (job.kind, job.status, job.started, job.finished) == ("check", JobStatus.ACCEPTED, None, None)
    assert job.progress == StoredProgress()
    assert is_new
    assert records.get(job.id, "") == job


def test_job_of_another_caller_is_not_there(records):
    job, _ = records.submit(make_request("one"))
    assert records.get(job.id, "other") is None
    assert records.get_outcome(job.id, "other") is None
    assert records.dismiss(job.id, "other") is None
    assert records.list_jobs("other", 10) == []
    assert records.get(job.id, "one") == job


def test_list_has_the_latest_first(records):
    ids = [records.submit(make_request())[0].id for _ in range(3)]
    assert [job.id for job in records.list_jobs("", 2)] == ids[:0:-1]


def test_same_key_and_body_give_the_same_job(records):
    first, _ = records.submit(make_request(key="k"))
    again, is_new = records.submit(make_request(key="k"))
    assert (again.id, is_new) == (first.id, False)
    assert records.submit(make_request("other", key="k"))[1], "a key belongs to its caller"


@pytest.mark.parametrize("other", [make_request(body=b"{ }", key="k"), make_request(key="k", kind="judge")])
def test_same_key_with_another_request_is_refused(records, other):
    records.submit(make_request(key="k"))
    with pytest.raises(IdempotencyConflictError):
        records.submit(other)


def test_requests_with_one_key_at_once_make_one_job(records):
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: records.submit(make_request(key="k")), range(16)))
    assert len({job.id for job, _ in jobs}) == 1
    assert sum(is_new for _, is_new in jobs) == 1


@pytest.mark.parametrize(
    ("limits", "reason"), [(StoreLimits(queued=2), "2 jobs"), (StoreLimits(stored_bytes=5), "4 of")]
)
def test_full_queue_takes_no_further_job(database, limits, reason):
    records = JobRecords(database, limits)
    for _ in range(2):
        records.submit(make_request())
    with pytest.raises(JobQueueFullError, match=reason):
        records.submit(make_request())


def test_running_jobs_do_not_wait(database, job_queue):
    records = JobRecords(database, StoreLimits(queued=1))
    records.submit(make_request())
    assert job_queue.claim("runner", 60) is not None
    records.submit(make_request())


def test_dismissed_job_has_no_result(records, job_queue):
    job, _ = records.submit(make_request())
    dismissed = records.dismiss(job.id, "")
    assert dismissed is not None
    assert dismissed.status == JobStatus.DISMISSED
    assert records.get(job.id, "") == dismissed
    assert job_queue.claim("runner", 60) is None


def test_ended_job_is_forgotten(records, job_queue):
    job, _ = records.submit(make_request())
    claimed = job_queue.claim("runner", 60)
    job_queue.finish(claimed, "runner", JobResult(b"result", "b64", has_details=True), StoredProgress(3, 3, "w"))
    outcome = records.get_outcome(job.id, "")
    assert outcome.result == JobResult(b"result", "b64", has_details=True)
    assert outcome.job.progress == StoredProgress(3, 3, "w")
    assert records.dismiss(job.id, "").status == JobStatus.DISMISSED
    assert records.get(job.id, "") is None
    assert records.dismiss(job.id, "") is None


def test_expired_job_is_gone_and_frees_its_key(database_url, records, job_queue):
    job, _ = records.submit(make_request(key="k"))
    job_queue.fail(job_queue.claim("runner", 60), "runner", "{}")
    assert records.get(job.id, "") is not None
    database = JobDatabase(database_url, ttl_seconds=-1.0)
    later = JobRecords(database)
    assert later.get(job.id, "") is None
    assert later.list_jobs("", 10) == []
    assert later.count_jobs().by_status[JobStatus.FAILED] == 0
    assert later.submit(make_request(key="k"))[1]
    assert JobQueue(database).delete_expired() == 0
    database.close()


def test_counts_are_by_status(records, job_queue):
    for _ in range(3):
        records.submit(make_request())
    job_queue.claim("runner", 60)
    counts = records.count_jobs()
    assert (counts.by_status[JobStatus.ACCEPTED], counts.by_status[JobStatus.RUNNING], counts.open_count) == (2, 1, 3)
    assert 0 <= counts.oldest_seconds < 3600


def test_obstacle_is_that_of_all_runners(records, job_queue):
    assert records.find_obstacle() is None
    job_queue.report_runner("one", "no scheduler")
    assert records.find_obstacle() == "no scheduler"
    job_queue.report_runner("two", None)
    assert records.find_obstacle() is None
    job_queue.report_runner("two", "no workers")
    assert records.find_obstacle() in ("no scheduler", "no workers")


def test_absence_of_all_runners_is_an_obstacle(database, records, job_queue):
    job, _ = records.submit(make_request())
    assert records.find_obstacle() is None, "a runner needs some seconds to start"
    with database.writer.begin() as connection:
        connection.execute(update(JOBS).values(created=JOBS.c.created - 31.0))
    assert records.find_obstacle() == "no runner has looked for them for 30 s"
    job_queue.report_runner("one", None)
    assert records.find_obstacle() is None
    records.dismiss(job.id, "")
    with database.writer.begin() as connection:
        connection.execute(update(RUNNERS).values(seen=0.0))
    assert records.find_obstacle() is None, "nothing waits"
