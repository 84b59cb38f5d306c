"""The computation of a job: the same answer as that of its request."""

import json
from typing import Any

import pytest

from schemas.json_writer import write_json
from schemas.stored_result import encode_result, unpack_result
from service.checks.common.background_job import CancelledError
from service.checks.common.limits import Limits
from service.checks.graph.check import check
from service.job_runner.execute import run_job
from service.jobs.job import ClaimedJob
from service.settings import Settings


def run(request: Any, limits: Limits | None = None, *, make_executor: Any = None, is_cancelled: bool = False):
    def raise_if_cancelled() -> None:
        if is_cancelled:
            raise CancelledError

    steps: list[tuple[str, int, int]] = []
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    finished = run_job(
        Settings(),
        limits or Limits(),
        make_executor,
        ClaimedJob("id", "check", "application/json", body, 1),
        lambda *step: steps.append(step),
        raise_if_cancelled,
    )
    return finished, steps


@pytest.mark.parametrize("encoding", ["nested", "b64"])
def test_result_is_that_of_the_request(example, encoding):
    request = example | {"encoding": encoding, "include": ["gradients", "intermediates"]}
    finished, steps = run(request)
    assert finished.problem is None
    expected = check(request, reserve_answer_bytes=lambda count: None)
    document = encode_result(unpack_result(finished.result.content), finished.result.encoding)
    answers = [json.loads(write_json({**answer, "cost": None})) for answer in (document, expected)]
    assert answers[0] == answers[1]
    assert list(document) == list(expected)
    assert finished.result.has_details
    assert steps[-1][1] == steps[-1][2] > 0


def test_invalid_request_has_its_problem():
    finished, _ = run({"weights": 3})
    assert finished.result is None
    assert finished.problem["status"] == 422
    assert {error["pointer"] for error in finished.problem["errors"]} == {"/tensors", "/weights"}
    assert json.loads(finished.problem_text) == finished.problem


def test_body_that_is_no_json_has_its_problem():
    finished, _ = run(b"{")
    assert finished.problem["status"] == 400


def test_job_over_its_limit_of_work_has_its_problem(example):
    finished, _ = run(example, Limits(work=1))
    assert finished.problem["status"] == 422
    assert "limit" in finished.problem["detail"]


def test_job_over_its_time_has_its_problem(example):
    finished, _ = run(example, Limits(seconds=1e-9))
    assert "out of time" in finished.problem["detail"]


def test_cancelled_job_stops(example):
    with pytest.raises(CancelledError):
        run(example, is_cancelled=True)


def test_memory_that_ends_is_a_problem_of_the_job(example, monkeypatch):
    def fail(*_: Any, **__: Any):
        raise MemoryError

    monkeypatch.setattr("service.checks.graph.check.parse_problem", fail)
    finished, _ = run(example)
    assert (finished.problem["status"], "no memory" in finished.problem["detail"]) == (503, True)
