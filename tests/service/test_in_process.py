"""The application for a client in its own process; tests/client/test_in_process.py asks it as a client does."""

import threading
import time
from typing import Any

import prometheus_client.values
import pytest

from service.checks.common.background_job import CancelledError
from service.in_process import InProcessApplication, count_in_memory, read_settings
from service.numerics.core.interrupts import check_interrupt


def test_an_answer_that_comes_too_late_is_closed() -> None:
    closed = threading.Event()
    application = InProcessApplication()

    class Late:
        def close(self) -> None:
            closed.set()

    def answer_late(*_: Any) -> Any:
        time.sleep(0.2)
        return Late()

    application._app = answer_late  # type: ignore[assignment]
    with pytest.raises(TimeoutError):
        application({}, lambda *_: None, 0.01)
    assert closed.wait(60)


def test_a_check_of_a_function_is_computed_by_the_thread_of_the_caller() -> None:
    application = InProcessApplication()
    threads: list[int] = []

    def answer(*_: Any) -> Any:
        threads.append(threading.get_ident())
        return []

    application._app = answer  # type: ignore[assignment]
    for path in ("/v1/plan", "/v1/judge", "/v1/check", "/v1/curve", "/v1/bugs"):
        application({"PATH_INFO": path}, lambda *_: None, 10)
    assert [thread == threading.get_ident() for thread in threads] == [True, True, False, False, False]


@pytest.mark.parametrize(("seconds", "is_late"), [(0.01, True), (60, False)])
def test_a_check_of_a_function_ends_at_its_first_pause_after_its_time(seconds: float, is_late: bool) -> None:
    application, closed, pauses = InProcessApplication(), threading.Event(), 0

    class Cancelled:
        def close(self) -> None:
            closed.set()

    def compute(*_: Any) -> Any:
        nonlocal pauses
        try:
            while pauses < 20:
                time.sleep(0.005)
                pauses += 1
                check_interrupt()
        except CancelledError:
            return Cancelled()
        return []

    application._app = compute  # type: ignore[assignment]
    if is_late:
        with pytest.raises(TimeoutError):
            application({"PATH_INFO": "/v1/judge"}, lambda *_: None, seconds)
        assert pauses < 20
    else:
        assert application({"PATH_INFO": "/v1/judge"}, lambda *_: None, seconds) == []
    assert closed.is_set() == is_late


def test_an_error_of_the_application_itself_is_raised() -> None:
    application = InProcessApplication()
    with pytest.raises(KeyError):
        application({}, lambda *_: None, 10)


def test_settings_of_any_spelling_are_read() -> None:
    settings = read_settings({"gradcheckd_max_depth": "7", "GRADCHECKD_MAX_QUEUED": "0", "PATH": "/"})
    assert (settings.max_depth, settings.max_queued) == (7, 8)


def test_a_limit_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"^GRADCHECKD_MAX_SECONDS: .*number.*Correct the variable, or unset it$"):
        read_settings({"GRADCHECKD_MAX_SECONDS": "long"})


def test_in_process_metrics_leave_other_metrics_alone() -> None:
    client: Any = prometheus_client.values
    before = client.ValueClass
    with count_in_memory():
        assert client.ValueClass is client.MutexValue
    assert client.ValueClass is before
