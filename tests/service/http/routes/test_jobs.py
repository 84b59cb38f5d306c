"""Jobs over HTTP, with a real runner."""

import json
import re
import socket
import time
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.stored_result import pack_result, unpack_result
from service.app import create_app
from service.http import accepted_jobs
from service.http.middleware.concurrency import get_compute_limiter, get_small_checks
from service.http.middleware.job_access import close_jobs
from service.http.routes import jobs as jobs_routes
from service.jobs.database import JobDatabase
from service.jobs.job import JobResult, NewJob, StoredProgress
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecords
from service.jobs.runner_process import hold_lock
from service.settings import Settings
from tests.integration.long_check import build_long_check

ASYNC = {"Prefer": "respond-async"}
PATIENCE = 120.0
COST = re.compile(rb'\\?"cost\\?":\{.*?stages\\?":\{[^}]*\}[^}]*\}')

TIMES = re.compile(rb"evaluations\s+in\s[\s\S]*?diagnosis\s+[\d.]+")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('jobs')}/jobs.db"
    app = create_app(Settings(jobs_url=url))
    yield app
    close_jobs(app)


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def make_idle_client(tmp_path):
    """Clients of applications with a database in which jobs stay as they are: no runner gets the lock."""
    apps: list[Any] = []

    def make(**settings: Any):
        url = f"sqlite:///{tmp_path}/idle{len(apps)}.db"
        lock = stack.enter_context(hold_lock(tmp_path / f"idle{len(apps)}.db.runner"))
        assert lock
        app = create_app(Settings(jobs_url=url, **settings))
        apps.append(app)
        return app.test_client(), JobDatabase(url, 3600.0)

    with ExitStack() as stack:
        yield make
        for app in apps:
            close_jobs(app)


def submit(client, body: Any, path: str = "/v1/check", **headers: str):
    return client.post(path, json=body, headers=ASYNC | headers)


def wait(client, job: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while job["finished"] is None:
        assert time.monotonic() < deadline, "the job did not end"
        time.sleep(0.1)
        job = client.get(job["links"]["self"]).json
    return job


def test_request_becomes_a_job(client, example):
    answer = submit(client, example)
    assert answer.status_code == 202
    job = answer.json
    assert (answer.headers["Location"], answer.headers["Preference-Applied"]) == (job["links"]["self"], "respond-async")
    assert answer.headers["Retry-After"] == "1"
    assert (job["status"], job["started"], job["finished"]) == ("accepted", None, None)
    assert job["progress"] == {"done": 0, "total": 0, "tensor": None}
    ended = wait(client, job)
    assert ended["status"] == "successful"
    assert ended["created"] == job["created"] <= ended["started"] <= ended["finished"]
    assert ended["progress"]["done"] == ended["progress"]["total"] > 0
    assert ended["id"] in [entry["id"] for entry in client.get("/v1/jobs").json["jobs"]]


@pytest.mark.parametrize("encoding", ["nested", "b64"])
def test_result_is_the_answer_that_the_request_would_have_had(client, example, encoding):
    body = example | {
        "encoding": encoding,
        "include": ["gradients", "intermediates"],
        "candidate": {"w2": [1.0, 2.0, 3.0, 4.0]},
    }
    job = wait(client, submit(client, body).json)
    for accept in ("application/json", "text/plain; columns=70", "text/plain; detail=full", "text/markdown"):
        expected = client.post("/v1/check", json=body, headers={"Accept": accept})
        result = client.get(job["links"]["result"], headers={"Accept": accept})
        assert result.status_code == 200
        assert result.mimetype == expected.mimetype
        texts = [TIMES.sub(b"", COST.sub(b"", answer.data)) for answer in (result, expected)]
        assert texts[0] == texts[1], accept
    binary = client.get(job["links"]["result"], headers={"Accept": "application/vnd.safetensors"})
    assert binary.mimetype == "application/vnd.safetensors"
    assert client.get(job["links"]["result"], headers={"Accept": "image/png"}).status_code == 406


def test_judgement_becomes_a_job_too(client):
    plan = client.post("/v1/plan", json={"point": {"w": [1.0, 2.0]}, "evaluations": "few"}).json
    losses = [sum(x * x for x in point["w"]) for point in plan["points"]]
    body = {"plan": plan["plan"], "losses": losses, "candidate": {"w": [2.0, 4.0]}}
    expected = client.post("/v1/judge", json=body)
    job = wait(client, submit(client, body, "/v1/judge").json)
    assert client.get(job["links"]["result"]).data == expected.data


def test_further_points_of_a_judgement_are_those_of_its_answer(client):
    plan = client.post("/v1/plan", json={"point": {"w": [1.0, 2.0]}, "evaluations": "few"}).json
    losses = [abs(point["w"][0] - 1.0) ** 1.5 + point["w"][1] for point in plan["points"]]
    body = {"plan": plan["plan"], "losses": losses, "candidate": {"w": [2.0, 4.0]}}
    expected = client.post("/v1/judge", json=body)
    assert expected.json["outcome"] == "more"
    job = wait(client, submit(client, body, "/v1/judge").json)
    assert client.get(job["links"]["result"]).data == expected.data


INVALID = [
    ("/v1/check", {"weights": 3}),
    ("/v1/check", {"tensors": {"x": [1.0, 2.0]}, "weights": {"w": [1.0]}, "model": "a = dot(x, v)\nloss = sum(a)"}),
    ("/v1/judge", {"plan": "no plan", "losses": [1.0]}),
]


@pytest.mark.parametrize(("path", "body"), INVALID, ids=["no model", "unknown name", "no plan"])
def test_invalid_request_is_refused_at_once(make_idle_client, path, body):
    client, database = make_idle_client()
    answer, expected = submit(client, body, path), client.post(path, json=body)
    assert (answer.status_code, answer.json) == (422, expected.json)
    assert client.post(path, data=b"{", headers=ASYNC, content_type="application/json").status_code == 400
    assert JobRecords(database).count_jobs().open_count == 0
    database.close()


def test_job_over_its_own_limit_is_refused_at_once(make_idle_client, example):
    client, database = make_idle_client(max_work=1)
    assert client.post("/v1/check", json=example).status_code == 422
    assert submit(client, example).status_code == 202
    client, database = make_idle_client(job_max_work=1)
    assert "limit" in submit(client, example).json["detail"]
    database.close()


@contextmanager
def take_all_places(app):
    """Leave no place for a computation within the block."""
    with app.app_context(), ExitStack() as stack:
        for limiter in (get_compute_limiter(app), get_small_checks(app)):
            while (permit := limiter.try_acquire()) is not None:
                stack.enter_context(permit)
        yield


def test_request_without_a_place_is_read_by_its_job(app, client):
    """The failed job has the problem of its request, and a valid one its answer."""
    body = {"weights": 3}
    with take_all_places(app):
        answer = submit(client, body)
        assert answer.status_code == 202
    job = wait(client, answer.json)
    assert job["status"] == "failed"
    result, expected = client.get(job["links"]["result"]), client.post("/v1/check", json=body)
    assert (result.status_code, result.mimetype) == (422, "application/problem+json")
    assert result.json == expected.json


def test_request_that_takes_long_to_read_is_read_by_its_job(make_idle_client, example, monkeypatch):
    monkeypatch.setattr(accepted_jobs, "_READING_SECONDS", 1e-9)
    client, database = make_idle_client()
    assert submit(client, example).status_code == 202
    monkeypatch.setattr(accepted_jobs, "_READING_SECONDS", 60.0)
    assert submit(client, example).status_code == 202
    queue = JobQueue(database)
    unread, read = queue.claim("runner", 60), queue.claim("runner", 60)
    assert unread.work is None
    assert read.work > 0
    database.close()


def test_progress_of_a_running_job_is_told_and_cancelling_it_takes_a_second(client, example):
    job = submit(client, build_long_check()).json
    deadline = time.monotonic() + PATIENCE
    while not client.get(job["links"]["self"]).json["progress"]["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    early = client.get(job["links"]["result"])
    assert (early.status_code, early.headers["Retry-After"]) == (409, "1")
    assert "running" in early.json["detail"]
    answer = client.delete(job["links"]["self"])
    assert (answer.status_code, answer.json["status"]) == (200, "dismissed")
    assert client.get(job["links"]["self"]).json["status"] == "dismissed"
    assert client.get(job["links"]["result"]).status_code == 410
    assert wait(client, submit(client, example).json)["status"] == "successful", "the runner is free again"


def test_deleted_job_is_forgotten(client, example):
    job = wait(client, submit(client, example).json)
    assert client.delete(job["links"]["self"]).json["status"] == "dismissed"
    for answer in (
        client.get(job["links"]["self"]),
        client.get(job["links"]["result"]),
        client.delete(job["links"]["self"]),
    ):
        assert answer.status_code == 404
        assert "no such job" in answer.json["detail"]


def test_repeated_request_with_a_key_makes_one_job(client, example):
    key = {"Idempotency-Key": "nightly-7"}
    first, again = (submit(client, example, **key).json for _ in range(2))
    assert first["id"] == again["id"]
    conflict = submit(client, example | {"seed": 7}, **key)
    assert conflict.status_code == 422
    assert "nightly-7" in conflict.json["detail"]


@pytest.mark.parametrize("key", ["", "a b", "k" * 256, "\xe9"])
def test_invalid_key_is_refused(client, example, key):
    assert submit(client, example, **{"Idempotency-Key": key}).status_code == 400


@pytest.mark.parametrize("prefer", ["respond-async, wait=10", "handling=lenient, RESPOND-ASYNC"])
def test_preference_is_read_as_a_list(make_idle_client, example, prefer):
    client, _ = make_idle_client()
    assert client.post("/v1/check", json=example, headers={"Prefer": prefer}).status_code == 202


@pytest.mark.parametrize(("path", "prefer"), [("/v1/check", "return=minimal"), ("/v1/curve", "respond-async")])
def test_other_preference_or_kind_is_answered_at_once(make_idle_client, example, path, prefer):
    client, _ = make_idle_client()
    body = example | ({"element": {"name": "w2", "index": [0]}} if path == "/v1/curve" else {})
    assert client.post(path, json=body, headers={"Prefer": prefer}).status_code == 200


@pytest.mark.parametrize("limit", ["0", "x", "1001", "-1", ""])
def test_invalid_limit_is_refused(client, limit):
    answer = client.get("/v1/jobs", query_string={"limit": limit})
    assert answer.status_code == 400
    assert "1 to 1000" in answer.json["detail"]


def test_full_queue_is_refused(make_idle_client, example):
    client, _ = make_idle_client(max_queued_jobs=1)
    assert submit(client, example).status_code == 202
    full = submit(client, example)
    assert (full.status_code, full.headers["Retry-After"]) == (503, "10")
    assert full.json["detail"].startswith("1 jobs wait")


def test_body_of_another_content_type_is_refused(client):
    assert client.post("/v1/check", data=b"x", headers=ASYNC).status_code == 415


def test_jobs_belong_to_keys(make_idle_client, example):
    client, _ = make_idle_client(keys="one,two")
    one, two = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
    job = submit(client, example, **one).json
    assert client.get(job["links"]["self"], headers=one).status_code == 200
    for request in (client.get, client.delete):
        assert request(job["links"]["self"], headers=two).status_code == 404
    assert client.get(job["links"]["result"], headers=two).status_code == 404
    assert client.get("/v1/jobs", headers=two).json == {"jobs": []}
    assert client.get("/v1/jobs").status_code == 401
    assert len(client.get("/v1/jobs", headers=one).json["jobs"]) == 1


def test_jobs_of_before_a_start_are_found_and_computed(tmp_path, example):
    url = f"sqlite:///{tmp_path}/jobs.db"
    database = JobDatabase(url, 3600.0)
    body = json.dumps(example).encode()
    identifier = JobRecords(database).submit(NewJob("", "check", "application/json", body))[0].id
    assert JobQueue(database).claim("a runner that is gone", -1.0) is not None
    database.close()
    app = create_app(Settings(jobs_url=url))
    client = app.test_client()
    deadline = time.monotonic() + PATIENCE
    while client.get(f"/v1/jobs/{identifier}").json["status"] != "successful":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    close_jobs(app)


def test_absent_database_is_told(example):
    app = create_app(Settings(jobs_url="postgresql+psycopg://nobody@127.0.0.1:9/none"))
    client = app.test_client()
    for answer in (submit(client, example), client.get("/v1/jobs"), client.get("/v1/jobs/x")):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert "database" in answer.json["detail"]
    assert client.post("/v1/check", json=example).status_code == 200
    close_jobs(app)


def test_large_results_are_counted_before_they_are_loaded(make_idle_client, example, monkeypatch):
    loaded: list[int] = []
    monkeypatch.setattr(
        jobs_routes, "unpack_result", lambda packed: loaded.append(len(packed)) or unpack_result(packed)
    )
    client, database = make_idle_client(max_answer_bytes=500_000)
    for size, status in ((300_000, 200), (600_000, 503)):
        job = submit(client, example | {"seed": size}).json
        queue = JobQueue(database)
        content = pack_result({"outcome": "pass", "filler": "x" * size})
        queue.finish(queue.claim("runner", 60), "runner", JobResult(content, "nested", False), StoredProgress())
        assert client.get(job["links"]["result"]).status_code == status
    assert len(loaded) == 1
    database.close()


def test_silent_database_holds_neither_health_nor_requests_for_long(example):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = create_app(Settings(jobs_url=f"postgresql+psycopg://x@127.0.0.1:{silent.getsockname()[1]}/x"))
        client = app.test_client()
        assert client.get("/health/ready").json == {"status": "ready"}
        assert submit(client, example).status_code == 503
    close_jobs(app)


@pytest.mark.parametrize("identifier", ["x", "%00" * 32, "A" * 32, "0" * 33])
def test_what_is_no_name_of_a_job_is_unknown(client, identifier):
    for answer in (client.get(f"/v1/jobs/{identifier}"), client.delete(f"/v1/jobs/{identifier}")):
        assert answer.status_code == 404
        assert "no such job" in answer.json["detail"]


def test_readiness_tells_why_jobs_wait(make_idle_client, example):
    client, database = make_idle_client()
    submit(client, example)
    assert client.get("/health/ready").json == {"status": "ready"}
    JobQueue(database).report_runner("runner", "the scheduler tcp://cluster:8786 does not answer")
    assert client.get("/health/ready").json == {
        "status": "ready",
        "jobs": "Jobs wait: the scheduler tcp://cluster:8786 does not answer.",
    }
    database.close()


def test_application_in_another_program_has_no_jobs(example):
    client = create_app(Settings(), keeps_records=False).test_client()
    assert submit(client, example).status_code == 200
    assert client.get("/v1/jobs").json == {"jobs": []}
    assert client.get("/v1/jobs/x").status_code == 404


def test_documents_have_the_described_form(client, example):
    description = client.get("/openapi.json").json
    accepted = description["paths"]["/v1/check"]["post"]["responses"]["202"]["content"]["application/json"]["schema"]
    listed = description["paths"]["/v1/jobs"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    validate = lambda schema, document: Draft202012Validator(  # noqa: E731
        schema | {"components": description["components"]}
    ).validate(document)
    validate(accepted, submit(client, example).json)
    validate(listed, client.get("/v1/jobs").json)
    parameters = description["paths"]["/v1/jobs/{job_id}"]["get"]["parameters"]
    assert [(entry["name"], entry["in"], entry["required"]) for entry in parameters] == [("job_id", "path", True)]
