"""The application in the process of a client: no port, no log, no metrics.

The client of Python loads this module by its name where no service is named.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import Context
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import prometheus_client.values
from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from service.checks.common.background_job import CancelledError
from service.checks.common.limits import Limits
from service.checks.kinds import CHECK_KINDS
from service.numerics.core.interrupts import install_interrupt_check
from service.settings import PREFIX, Settings


@contextmanager
def count_in_memory() -> Generator[None]:
    """Declare the metrics inside the block in memory, although the process of the client may write its own to files."""
    client: Any = prometheus_client.values
    chosen, client.ValueClass = client.ValueClass, client.MutexValue
    try:
        yield
    finally:
        client.ValueClass = chosen


with count_in_memory():
    from service.app import create_app
    from service.direct_answers import DirectAnswers

_ENVIRONMENT_SETTINGS = frozenset(
    ("max_body_bytes", "max_binary_bytes", "max_depth", *(f"max_{limit.name}" for limit in fields(Limits)))
)
"""Settings that the environment may change: the limits of a single request."""
_NO_OTHER_CLIENTS: Mapping[str, Any] = {
    "max_checks": sys.maxsize,
    "max_small_checks": 0,
    "max_concurrent_reads": sys.maxsize,
    "max_buffered_body_bytes": sys.maxsize,
}

Answer = Iterable[bytes]
_Result = TypeVar("_Result")
_PATHS_WITHOUT_TORCH = frozenset(kind.path for kind in CHECK_KINDS if not kind.needs_torch)


class _InProcessSettings(Settings):
    """Settings of which the environment sets the limits of a single request alone.

    The other variables are those of a deployment: its keys are none of this process, and neither are its mistakes.
    """

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the arguments alone, and no environment."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_names(cls, values: Any) -> Any:
        return values

    @model_validator(mode="after")
    def _refuse_misspelt_settings(self) -> "_InProcessSettings":
        return self


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings of an application without other clients.

    Raises
    ------
    ValueError
        A limit in the environment is none; the message names the variable.
    """
    names = {name: name.upper().removeprefix(PREFIX).lower() for name in environment if name.upper().startswith(PREFIX)}
    limits = {setting: environment[name] for name, setting in names.items() if setting in _ENVIRONMENT_SETTINGS}
    try:
        return _InProcessSettings(**limits, **_NO_OTHER_CLIENTS)
    except ValidationError as error:
        wrong = "; ".join(f"{PREFIX}{str(entry['loc'][0]).upper()}: {entry['msg']}" for entry in error.errors())
        raise ValueError(f"{wrong}. Correct the variable, or unset it") from None


class InProcessApplication:
    """The application, for a client in its own process.

    Nothing acts on a request that the caller has set for itself. A check of a function is computed in a context of its
    own, against `numpy.errstate` or the context of another application of Flask. All other requests are computed in a
    thread of their own, against `torch.no_grad()` too: the change of threads takes a millisecond, a fifth of a small
    check of a function.

    Raises
    ------
    ValueError
        A limit in the environment is none.
    """

    def __init__(self) -> None:
        settings = read_settings(os.environ)
        self._app, self._direct_answers = create_app(settings, keeps_records=False), DirectAnswers(settings)

    def answer_directly(self, path: str, content: bytes, media_type: str, accept: str, seconds: float) -> bytes | None:
        """Answer a request with a body of a content type; None if it takes a request by WSGI.

        Raises
        ------
        TimeoutError
            As for `__call__`.
        """
        return _compute_within(seconds, lambda: self._direct_answers.answer(path, content, media_type, accept))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any], seconds: float) -> Answer:
        """Answer a request by the protocol of WSGI.

        Raises
        ------
        TimeoutError
            The answer is not there within the seconds. A check of a function looks at the clock at its pauses; another
            computation is left at once, and ends at its next pause.
        """
        run = self._run_here if environ.get("PATH_INFO") in _PATHS_WITHOUT_TORCH else self._run_in_thread
        return run(environ, start_response, seconds)

    def _run_here(self, environ: dict[str, Any], start_response: Callable[..., Any], seconds: float) -> Answer:
        return _compute_within(seconds, lambda: self._app(environ, start_response), _close)

    def _run_in_thread(self, environ: dict[str, Any], start_response: Callable[..., Any], seconds: float) -> Answer:
        answer: Future[Answer] = Future()
        abandoned = threading.Event()

        def check_abandoned() -> None:
            if abandoned.is_set():
                raise CancelledError

        def run() -> None:
            try:
                with np.errstate(all="ignore"), install_interrupt_check(check_abandoned):
                    answer.set_result(self._app(environ, start_response))
            except BaseException as error:  # noqa: BLE001  # the caller's thread raises it
                answer.set_exception(error)

        # Python may be set to hand the caller's context on to its threads.
        Context().run(threading.Thread(target=run, name="gradcheckd").start)
        try:
            return answer.result(seconds)
        except BaseException:
            abandoned.set()
            answer.add_done_callback(_close_answer)
            raise


def _compute_within(
    seconds: float, compute: Callable[[], _Result], discard: Callable[[_Result], None] = lambda _: None
) -> _Result:
    """Compute in a context of its own, to the first pause after so many seconds.

    Raises
    ------
    TimeoutError
        The time was over. A result that came nevertheless is discarded.
    """
    deadline, is_late = time.monotonic() + seconds, False

    def check_deadline() -> None:
        nonlocal is_late
        is_late = time.monotonic() > deadline
        if is_late:
            raise CancelledError

    def run() -> _Result:
        with np.errstate(all="ignore"), install_interrupt_check(check_deadline):
            return compute()

    try:
        result = Context().run(run)
    except CancelledError:
        raise TimeoutError from None
    if is_late:
        discard(result)
        raise TimeoutError
    return result


def _close_answer(answer: Future[Answer]) -> None:
    """Close an answer that nobody reads."""
    if answer.exception() is None:
        _close(answer.result())


def _close(answer: Answer) -> None:
    close = getattr(answer, "close", None)
    if close is not None:
        close()
