"""An answer line by line, as it comes: `application/x-ndjson`."""

import contextvars
from collections.abc import Callable, Iterator

import orjson
from flask import Response

from schemas.progress import Event, ReportEvent
from schemas.report import CheckReport
from schemas.writing import written
from service.http.held import HeldAnswer
from service.http.problems import document_of
from service.http.running import Running
from service.http.slots import Admission
from service.numerics.gradients.finite_difference import Progress

NDJSON = "application/x-ndjson"


Rendering = Callable[[CheckReport], str]


def streamed(
    job: Callable[[Progress], CheckReport], place: Admission, held: HeldAnswer, rendering: Rendering | None = None
) -> Response:
    """Answer with the progress of a job and its report.

    Parameters
    ----------
    job
        What is to run; tells of its progress.
    place
        What it holds while it runs, and its last line is written.
    held
        What that line takes until it is sent.
    rendering
        How the report is written for reading, beside its line.

    Raises
    ------
    Exception
        That of the job, if it fails before there is any progress.
    """

    def last_line(progress: Progress) -> bytes:
        # Given back when the job is over, not the answer: a client that reads slowly keeps no other waiting.
        with place:
            line = written(_reported(job(progress), rendering)) + b"\n"
            held.settle(len(line))
            return line

    running = Running(last_line)
    running.wait_until_begun()
    response = Response(_Lines(running, held), mimetype=NDJSON)
    # A proxy that collects an answer before it hands it on would keep the progress back.
    response.headers["X-Accel-Buffering"] = "no"
    return response


class _Lines:
    """The lines; closed by the server at their end, or when the client is gone, even before the first."""

    def __init__(self, running: Running[bytes], held: HeldAnswer) -> None:
        self._running, self._held = running, held
        # The request is over, for Flask, before its first line is sent.
        self._context = contextvars.copy_context()

    def __iter__(self) -> Iterator[bytes]:
        for step in self._running.steps():
            yield _line({"event": "progress", "done": step.done, "total": step.total, "tensor": step.tensor})
        try:
            yield self._running.result()
        except Exception as error:  # noqa: BLE001  # the status has been sent: what went wrong is the last line
            yield _line({"event": "problem", "problem": self._context.run(document_of, error)})

    def close(self) -> None:
        self._running.stop()
        self._held.close()


def _reported(report: CheckReport, rendering: Rendering | None) -> ReportEvent:
    event: ReportEvent = {"event": "report", "report": report}
    if rendering is not None:
        event["text"] = rendering(report)
    return event


def _line(event: Event) -> bytes:
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
