"""Answers that are streamed line by line: `application/x-ndjson`."""

import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import orjson
from flask import Response

from schemas.json_writer import write_json
from schemas.progress import Event, ReportEvent
from service.checks.common.background_job import BackgroundJob
from service.http.middleware.concurrency import Permit
from service.http.middleware.memory_quota import AnswerReservation
from service.http.response.problem_details import to_problem_details
from service.numerics.core.difference import DifferenceProgress

NDJSON = "application/x-ndjson"


def stream_report(
    job: Callable[[DifferenceProgress], Mapping[str, Any]],
    permit: Permit,
    reservation: AnswerReservation,
    renderer: Callable[[Any], str] | None = None,
) -> Response:
    """Answer with the progress of a job and its report.

    Parameters
    ----------
    job
        Function that computes the report and reports its progress.
    permit
        Permit of the job, released when its last line is written.
    reservation
        Reservation of the bytes of that line until it is sent.
    renderer
        Function that renders the report for reading, for a field of the last line; None by default.

    Raises
    ------
    Exception
        The exception of the job, if it fails before any progress.
    """

    def make_last_line(progress: DifferenceProgress) -> bytes:
        # Released with the end of the job, not of the answer: a slow reader keeps no other client waiting.
        with permit:
            line = write_json(_build_report_event(job(progress), renderer)) + b"\n"
            reservation.resize(len(line))
            return line

    background_job = BackgroundJob(make_last_line)
    background_job.wait_until_started()
    response = Response(_NdjsonResponse(background_job, reservation), mimetype=NDJSON)
    # Without the header, a proxy that collects answers would keep the progress back.
    response.headers["X-Accel-Buffering"] = "no"
    return response


class _NdjsonResponse:
    """The lines of a stream.

    The server closes it at the end, or once the client is gone.
    """

    def __init__(self, job: BackgroundJob[bytes], reservation: AnswerReservation) -> None:
        self._job, self._reservation = job, reservation
        # For Flask the request is over before its first line is sent.
        self._context = contextvars.copy_context()

    def __iter__(self) -> Iterator[bytes]:
        for step in self._job.iterate_steps():
            yield _write_line(
                {
                    "event": "progress",
                    "done": step.evaluations_done,
                    "total": step.evaluations_total,
                    "tensor": step.tensor,
                }
            )
        try:
            yield self._job.result()
        except Exception as error:  # noqa: BLE001  # the status has been sent: the problem is the last line
            yield _write_line({"event": "problem", "problem": self._context.run(to_problem_details, error)})

    def close(self) -> None:
        self._job.cancel_and_wait()
        self._reservation.close()


def _build_report_event(report: Mapping[str, Any], renderer: Callable[[Any], str] | None) -> ReportEvent:
    event: ReportEvent = {"event": "report", "report": cast("Any", report)}
    if renderer is not None:
        event["text"] = renderer(report)
    return event


def _write_line(event: Event) -> bytes:
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
