"""What is seen of a request from outside: its identifier, one line of the log, its counts, `Server-Timing`.

Never the numbers of a tensor, never a key, and of what a client may choose nothing but an identifier of plain letters.
"""

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import structlog
from flask import Flask, Response, g, request

from schemas.plan import JudgeReport
from schemas.report import CheckReport
from service.http import metrics
from service.numerics.gradients.finite_difference import Progress

HEADER = "X-Request-ID"
CANCELLED = "cancelled"
"""Outcome of a check that its client left."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("gradcheckd")
_SANE = re.compile(r"[\w.:=@+/-]{1,128}", re.ASCII)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

# Stages are few, and looking one up takes as long as counting it.
_of_stage = cache(metrics.STAGE_SECONDS.labels)


@dataclass
class Record:
    """What one request tells of itself while it is answered.

    Attributes
    ----------
    identifier
        Its name in the log.
    started
        By `time.perf_counter`.
    stages
        Seconds by stage.
    facts
        What else its line in the log says.
    reason
        Why it was refused, in a word of ours.
    body_bytes
        How many of the body have been read.
    evaluations
        How many of the loss there have been, whether it came to a report or not.
    """

    identifier: str
    started: float = field(default_factory=time.perf_counter)
    stages: dict[str, float] = field(default_factory=dict[str, float])
    facts: dict[str, str | int] = field(default_factory=dict[str, str | int])
    reason: str | None = None
    body_bytes: int = 0
    evaluations: int = 0
    _told: int = 0

    def counting(self, onward: Progress | None = None) -> Progress:
        """Make what is told of the progress, counts its evaluations, and tells it onward."""

        def progress(name: str, done: int, total: int) -> None:
            # What begins anew is another count.
            self.evaluations += done - self._told if done >= self._told else done
            self._told = done
            if onward is not None:
                onward(name, done, total)

        return progress

    def checked(self, report: CheckReport) -> None:
        """Take from a report what is told of it, and count it; from any thread."""
        cost = report["cost"]
        self.evaluations = cost["loss_evaluations"]
        self._found(report)
        for stage, seconds in cost["stages"].items():
            self.spent(stage, float(str(seconds)))
        metrics.CHECKS.labels(report["outcome"]).inc()

    def cancelled(self) -> None:
        """Take down that nobody waits for the report of a check any longer."""
        self.left()
        metrics.CHECKS.labels(CANCELLED).inc()

    def left(self) -> None:
        """Take down that nobody waits for the answer any longer."""
        self.facts["outcome"] = CANCELLED

    def judged(self, report: JudgeReport) -> None:
        """Take from a judgement what is told of it; its evaluations were the client's, and it counts as no check."""
        self._found(report)
        self.facts["evaluations"] = report["evaluations"]

    def _found(self, report: CheckReport | JudgeReport) -> None:
        verdicts = report["verdicts"].values()
        self.facts |= {
            "outcome": report["outcome"],
            "names": len(verdicts),
            "elements": sum(each["elements"]["total"] for each in verdicts),
        }

    def spent(self, stage: str, seconds: float) -> None:
        """Take down the time of a stage."""
        self.stages[stage] = seconds
        _of_stage(stage).observe(seconds)


def observed() -> Record:
    """Record of the request that is being answered; keep it where the answer is streamed."""
    return g.record


def register(app: Flask) -> None:
    """Observe every request; to be called first, so that nothing comes before it and nothing behind."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    given = request.headers.get(HEADER, "")
    g.record = Record(given if _SANE.fullmatch(given) else made())


def made() -> str:
    """Make an identifier."""
    return uuid.uuid4().hex


def _end(response: Response) -> Response:
    record = observed()
    response.headers[HEADER] = record.identifier
    response.headers["Server-Timing"] = _timing(record)
    finish = _finish(record, response.status_code)
    if response.is_streamed:
        response.call_on_close(finish)
    else:
        finish()
    return response


def _timing(record: Record) -> str:
    spent = record.stages | {"total": time.perf_counter() - record.started}
    return ", ".join(f"{stage};dur={1e3 * seconds:.3f}" for stage, seconds in spent.items())


def _finish(record: Record, status: int) -> Callable[[], None]:
    """What is left to do when the last byte is out, without the request at hand."""
    # Of methods and addresses a client may think up any number; only those that there are are told apart.
    method = request.method if request.method in _METHODS else "other"
    route = request.url_rule.rule if request.url_rule else "none"
    return partial(_tell, record, method, route, status, request.content_length or 0)


def _tell(record: Record, method: str, route: str, status: int, announced: int) -> None:
    seconds = time.perf_counter() - record.started
    metrics.REQUESTS.labels(method, route, str(status)).inc()
    metrics.REQUEST_SECONDS.labels(route).observe(seconds)
    line: dict[str, Any] = {"request_id": record.identifier, "method": method, "route": route, "status": status}
    if record.reason is not None:
        metrics.REFUSALS.labels(record.reason).inc()
        line["reason"] = record.reason
    line |= record.facts
    if record.evaluations:
        metrics.EVALUATIONS.inc(record.evaluations)
        line["evaluations"] = record.evaluations
    size = record.body_bytes or announced
    _log.info("request", **line, body_bytes=size, seconds=round(seconds, 6), logger="gradcheckd")
