import logging
import threading
import time

import pytest

from service.checks.common.background_job import BackgroundJob, ProgressStep

PAUSE = 0.1


def make_counting_job(times, pause=0.0):
    def run_job(told):
        for done in range(times):
            told("w", done, times)
            time.sleep(pause)
        return "all"

    return run_job


def start_job(job):
    running = BackgroundJob(job)
    running.wait_until_started()
    return running


def test_short_job_reports_its_first_and_last_step(monkeypatch):
    monkeypatch.setattr("service.checks.common.background_job._POLL_SECONDS", 60)  # longer than the job on any machine
    running = start_job(make_counting_job(1000))
    first, last = running.iterate_steps()
    assert (first, last) == (ProgressStep("w", 0, 1000), ProgressStep("w", 999, 1000))
    assert running.result() == "all"


def test_job_of_one_step_reports_one():
    running = start_job(make_counting_job(1))
    assert list(running.iterate_steps()) == [ProgressStep("w", 0, 1)]


def test_long_job_reports_ten_steps_a_second_in_order():
    started = time.monotonic()
    steps = list(start_job(make_counting_job(400, 0.001)).iterate_steps())
    seconds = time.monotonic() - started
    assert 3 <= len(steps) <= seconds / PAUSE + 2
    assert steps == sorted(steps, key=lambda step: step.evaluations_done)
    assert (steps[0].evaluations_done, steps[-1].evaluations_done) == (0, 399)


def test_job_reports_steps_while_it_runs():
    running = start_job(make_counting_job(200, 0.1))
    steps = running.iterate_steps()
    next(steps)
    assert 0 < next(steps).evaluations_done < 199
    running.cancel_and_wait()


def test_unchanged_progress_is_reported_once():
    running = start_job(lambda told: (told("w", 0, 1), time.sleep(0.35)))
    assert list(running.iterate_steps()) == [ProgressStep("w", 0, 1)]


def test_exception_before_the_first_step_is_raised_at_once():
    with pytest.raises(ZeroDivisionError):
        start_job(lambda told: 1 / 0)


def test_later_exception_is_raised_with_the_result():
    def run_job(told):
        told("w", 0, 2)
        raise ZeroDivisionError

    running = start_job(run_job)
    assert list(running.iterate_steps()) == [ProgressStep("w", 0, 2)]
    with pytest.raises(ZeroDivisionError):
        running.result()


def test_a_job_without_steps_has_a_result():
    running = start_job(lambda told: "all")
    assert list(running.iterate_steps()) == []
    assert running.result() == "all"


def test_stopped_job_ends_at_its_next_step_and_leaves_no_thread(caplog):
    reached = []

    def run_job(told):
        for done in range(10**6):
            told("w", done, 10**6)
            reached.append(done)
            time.sleep(0.01)

    before = threading.active_count()
    running = start_job(run_job)
    assert threading.active_count() == before + 1
    with caplog.at_level(logging.INFO, logger="gradcheckd"):
        running.cancel_and_wait()
    assert threading.active_count() == before
    assert len(reached) < 1000
    assert "the client went away" in caplog.text
    running.cancel_and_wait()


def test_stopping_a_finished_job_does_nothing(caplog):
    with caplog.at_level(logging.INFO, logger="gradcheckd"):
        running = start_job(make_counting_job(2))
        running.result()
        running.cancel_and_wait()
    assert caplog.text == ""
