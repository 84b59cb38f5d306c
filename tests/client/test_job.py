"""Jobs of the client, and its commands for them, at a service with a runner."""

import json
import pickle
from pathlib import Path

import pytest

import gradcheckd
from gradcheckd.command.main import main
from gradcheckd.errors import AnswerTimeoutError, ProblemError, RequestError
from service.http import accepted_jobs
from service.http.middleware.job_access import close_jobs
from service.settings import Settings
from tests.application_server import run_application
from tests.document_text import find_blocks
from tests.integration.long_check import build_long_check

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    settings = Settings(jobs_url=f"sqlite:///{tmp_path_factory.mktemp('jobs')}/jobs.db")
    with run_application(settings) as (url, app):
        yield url
        close_jobs(app)


@pytest.fixture
def service(url):
    with gradcheckd.Service(url) as service:
        yield service


def test_job_has_the_report_of_its_check(service, url, example):
    steps = []
    job = gradcheckd.check(**example, wait=False, url=url)
    assert (job.status, job.has_ended, job.progress.total) == ("accepted", False, 0)
    report = job.wait(progress=lambda *step: steps.append(step))
    assert report.outcome == "pass"
    assert job.status == "successful"
    assert job.progress.done == job.progress.total
    expected = service.check(**example)
    assert (report.summary, list(report.verdicts)) == (expected.summary, list(expected.verdicts))
    assert report.text().startswith("gradcheckd: pass")
    assert pickle.loads(pickle.dumps(report)).markdown().startswith("#")
    assert job.result() is report
    assert repr(job) == f"Job({job.id!r}, status='successful', progress={job.progress.done}/{job.progress.total})"


def test_job_is_found_again(service, url, example):
    job = service.check(**example, wait=False, idempotency_key="once")
    assert service.check(**example, wait=False, idempotency_key="once").id == job.id
    assert service.job(job.id).wait().outcome == "pass"
    assert job.id in [other.id for other in service.jobs()]
    assert gradcheckd.job(job.id, url=url).result().outcome == "pass"
    assert job.id in [other.id for other in gradcheckd.jobs(url=url)]


INVALID = {"model": "loss = sum(x)", "tensors": {"x": [1.0]}, "with_respect_to": ["y"]}


def test_invalid_request_makes_no_job(service):
    with pytest.raises(ProblemError, match="with_respect_to") as error:
        service.check(**INVALID, wait=False)
    assert error.value.status == 422


def test_failed_job_raises_its_problem(service, monkeypatch):
    # As where no place is free for reading it.
    monkeypatch.setattr(accepted_jobs, "try_acquire_compute", lambda is_small: None)
    job = service.check(**INVALID, wait=False)
    with pytest.raises(ProblemError, match="with_respect_to") as error:
        job.wait()
    assert error.value.status == 422
    assert job.status == "failed"


def test_cancelled_job_has_no_report(service):
    job = service.check(**build_long_check(), wait=False)
    with pytest.raises(AnswerTimeoutError, match="goes on"):
        job.wait(timeout=0.3)
    with pytest.raises(ProblemError, match="no result yet"):
        job.result()
    assert job.cancel().status == "dismissed"
    with pytest.raises(ProblemError, match="cancelled") as error:
        job.wait()
    assert error.value.status == 410


def test_unknown_job_is_told_as_such(service):
    for name in ("unknown", "a/b?c", "../models"):
        with pytest.raises(ProblemError, match=r"no such job|nothing at this address"):
            service.job(name)
    with pytest.raises(ProblemError, match="no such job") as error:
        service.job("unknown")
    assert "GRADCHECKD_URL" not in str(error.value), "the address is right"


def test_without_a_service_there_is_no_job(example, monkeypatch):
    monkeypatch.delenv("GRADCHECKD_URL", raising=False)
    with pytest.raises(RequestError, match="gradcheckd serve"):
        gradcheckd.check(**example, wait=False)


def test_commands_submit_list_and_wait(url, example, tmp_path, capsys):
    file = tmp_path / "request.json"
    file.write_text(json.dumps(example | {"candidate": {"w2": [9.0, 9.0, 9.0, 9.0]}}))
    assert main(["check", str(file), "--detach", "--url", url]) == 0
    output = capsys.readouterr()
    identifier = output.out.strip()
    assert f"gradcheckd wait {identifier}" in output.err
    assert main(["wait", identifier, "--url", url]) == 1
    assert capsys.readouterr().out.startswith("gradcheckd: fail")
    assert main(["wait", identifier, "--format", "json", "--url", url]) == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "fail"
    page = tmp_path / "page.html"
    assert main(["wait", identifier, "--format", "html", "--output", str(page), "--url", url]) == 1
    assert "<html" in page.read_text()
    assert main(["jobs", "--url", url]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if identifier in line]
    assert "successful" in line
    assert "evaluations" in line
    assert main(["jobs", "--cancel", identifier, "--format", "json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out)["jobs"][0]["status"] == "dismissed"
    assert main(["wait", identifier, "--url", url]) == 3
    assert "no such job" in capsys.readouterr().err


def test_page_runs(url, monkeypatch, capsys):
    monkeypatch.setenv("GRADCHECKD_URL", url)
    monkeypatch.chdir(ROOT)
    (code,) = find_blocks((ROOT / "docs" / "jobs.md").read_text(), "python")
    exec(code, {})
    assert capsys.readouterr().out.splitlines()[-1] == "successful pass"
