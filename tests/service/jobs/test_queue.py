"""Jobs as runners see them: each is claimed once, and ends once, whatever becomes of its runners."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from service.jobs.database import JobDatabase
from service.jobs.job import ClaimRules, JobResult, JobStatus, NewJob, StoredProgress
from service.jobs.queue import MAX_CRASHES, JobQueue

RESULT = JobResult(b"result", "nested", has_details=False)


@pytest.fixture
def submit(records):
    def submit_job(owner: str = "", work: int | None = None) -> str:
        return records.submit(NewJob(owner, "check", "application/json", b"{}", work=work))[0].id

    return submit_job


def test_oldest_job_is_claimed_first(submit, job_queue):
    ids = [submit() for _ in range(3)]
    claimed = [job_queue.claim("runner", 60) for _ in range(3)]
    assert [job.id for job in claimed] == ids
    assert (claimed[0].body, claimed[0].media_type, claimed[0].attempt) == (b"{}", "application/json", 1)
    assert job_queue.claim("runner", 60) is None


def test_callers_take_turns(submit, job_queue):
    first, _, third = submit("large"), submit("large"), submit("small")
    assert [job_queue.claim("runner", 60).id for _ in range(2)] == [first, third]


def test_callers_take_turns_in_one_place_too(submit, job_queue):
    ids = [submit("large"), submit("large"), submit("large"), submit("small"), submit("third")]
    order = []
    while (claimed := job_queue.claim("runner", 60)) is not None:
        order.append(claimed.id)
        job_queue.finish(claimed, "runner", RESULT, StoredProgress())
    assert order == [ids[0], ids[3], ids[4], ids[1], ids[2]]


RULES = ClaimRules(short_work=100, long_jobs_per_owner=1)


def test_caller_has_few_long_jobs_of_a_runner_at_once(submit, job_queue):
    ids = [submit("large", 101), submit("large"), submit("large", 100), submit("small", 101)]
    claimed = [job_queue.claim("runner", 60, RULES) for _ in range(4)]
    assert [job and job.id for job in claimed] == [ids[0], ids[3], ids[2], None]
    assert [RULES.is_long(job) for job in claimed[:3]] == [True, True, False]
    # Another machine has a share of its own.
    assert job_queue.claim("other", 60, RULES).id == ids[1]


def test_place_for_short_jobs_takes_no_long_one(submit, job_queue):
    long, unread, short = submit(work=101), submit(), submit(work=100)
    rules = replace(RULES, takes_long=False)
    assert job_queue.claim("runner", 60, rules).id == short
    assert job_queue.claim("runner", 60, rules) is None
    assert {job_queue.claim("runner", 60).id for _ in range(2)} == {long, unread}


def test_no_job_is_claimed_twice(submit, job_queue):
    ids = {submit() for _ in range(40)}

    def claim_all(name: int) -> list[str]:
        claimed = []
        while (job := job_queue.claim(f"runner {name}", 60)) is not None:
            claimed.append(job.id)
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claimed = [identifier for part in pool.map(claim_all, range(4)) for identifier in part]
    assert len(claimed) == len(ids)
    assert set(claimed) == ids


def test_job_whose_lease_ended_is_claimed_again_and_ends_once(submit, records, job_queue):
    identifier = submit()
    lost = job_queue.claim("lost", -1.0)
    taken = job_queue.claim("next", 60)
    assert (taken.id, taken.attempt) == (identifier, 2)
    assert not job_queue.renew(lost, "lost", 60, StoredProgress())
    assert not job_queue.finish(lost, "lost", RESULT, StoredProgress())
    assert not job_queue.fail(lost, "lost", "{}")
    assert job_queue.finish(taken, "next", RESULT, StoredProgress(2, 2, "w"))
    assert not job_queue.finish(taken, "next", RESULT, StoredProgress())
    job = records.get(identifier, "")
    assert (job.status, job.progress) == (JobStatus.SUCCESSFUL, StoredProgress(2, 2, "w"))


def test_same_runner_cannot_end_an_earlier_run(submit, job_queue):
    submit()
    first = job_queue.claim("runner", -1.0)
    second = job_queue.claim("runner", 60)
    assert not job_queue.finish(first, "runner", RESULT, StoredProgress())
    assert job_queue.finish(second, "runner", RESULT, StoredProgress())


def test_cancelled_job_is_not_renewed(submit, records, job_queue):
    identifier = submit()
    claimed = job_queue.claim("runner", 60)
    assert job_queue.renew(claimed, "runner", 60, StoredProgress(1, 9, "w"))
    assert records.get(identifier, "").progress == StoredProgress(1, 9, "w")
    records.dismiss(identifier, "")
    assert not job_queue.renew(claimed, "runner", 60, StoredProgress())
    assert not job_queue.finish(claimed, "runner", RESULT, StoredProgress())
    assert records.get_outcome(identifier, "").result is None


def test_tensor_of_any_name_is_stored(submit, records, job_queue):
    identifier = submit()
    claimed = job_queue.claim("runner", 60)
    assert job_queue.renew(claimed, "runner", 60, StoredProgress(1, 9, "a\0b\u20ac"))
    assert records.get(identifier, "").progress.tensor == "a\0b\u20ac"


def test_released_job_waits_again(submit, records, job_queue):
    identifier = submit()
    claimed = job_queue.claim("runner", 60)
    assert job_queue.release(claimed, "runner")
    assert not job_queue.release(claimed, "runner")
    assert records.get(identifier, "").status == JobStatus.ACCEPTED
    assert job_queue.claim("other", 60).attempt == 2


def test_jobs_of_an_earlier_run_of_the_runner_wait_again(submit, job_queue):
    submit(), submit()
    job_queue.claim("runner", 60)
    job_queue.claim("other", 60)
    assert job_queue.release_all("runner") == 1
    assert job_queue.claim("runner", 60) is not None
    assert job_queue.claim("runner", 60) is None


def test_job_that_ends_all_its_runners_fails(submit, records, job_queue):
    identifier = submit()
    for _ in range(MAX_CRASHES):
        assert job_queue.claim("runner", 60) is not None
        assert job_queue.fail_exhausted("{}") == 0
        job_queue.release_all("runner")
    assert job_queue.claim("runner", 60) is None
    assert job_queue.fail_exhausted('{"status": 500}') == 1
    outcome = records.get_outcome(identifier, "")
    assert (outcome.job.status, outcome.problem) == (JobStatus.FAILED, '{"status": 500}')


def test_job_that_ends_the_workers_of_its_cluster_fails_too(submit, job_queue):
    submit()
    for _ in range(MAX_CRASHES):
        assert job_queue.fail_exhausted("{}") == 0
        job_queue.release(job_queue.claim("runner", 60), "runner", is_crash=True)
    assert job_queue.fail_exhausted("{}") == 1


def test_released_jobs_do_not_count_as_failures_of_their_runner(submit, job_queue):
    submit()
    for _ in range(2 * MAX_CRASHES):
        job_queue.release(job_queue.claim("runner", 60), "runner")
    assert job_queue.fail_exhausted("{}") == 0


def test_expired_jobs_are_deleted(database_url, submit, job_queue):
    submit(), submit()
    job_queue.fail(job_queue.claim("runner", 60), "runner", "{}")
    assert job_queue.delete_expired() == 0
    database = JobDatabase(database_url, ttl_seconds=-1.0)
    assert JobQueue(database).delete_expired() == 1
    database.close()


def test_several_processes_may_make_the_tables_at_once(database_url):
    with ThreadPoolExecutor(4) as pool:
        databases = list(pool.map(lambda _: JobDatabase(database_url, 60.0), range(8)))
    for database in databases:
        assert JobQueue(database).delete_expired() == 0
        database.close()
