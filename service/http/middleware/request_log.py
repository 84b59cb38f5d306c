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
from service.numerics.gradients.finite_difference import DifferenceProgress

REQUEST_ID_HEADER = "X-Request-ID"
CANCELLED_OUTCOME = "cancelled"
"""Outcome of a check that its client left."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("gradcheckd")
_REQUEST_ID_PATTERN = re.compile(r"[\w.:=@+/-]{1,128}", re.ASCII)
_KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

# Stages are few, and looking one up takes as long as counting it.
_get_stage_histogram = cache(metrics.STAGE_SECONDS.labels)


@dataclass
class RequestRecord:
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
    stage_seconds: dict[str, float] = field(default_factory=dict[str, float])
    log_facts: dict[str, str | int] = field(default_factory=dict[str, str | int])
    refusal_reason: str | None = None
    body_bytes: int = 0
    evaluations: int = 0
    _reported_evaluations: int = 0

    def track_progress(self, forward: DifferenceProgress | None = None) -> DifferenceProgress:
        """Make what is told of the progress, counts its evaluations, and tells it onward."""

        def progress(name: str, done: int, total: int) -> None:
            # What begins anew is another count.
            self.evaluations += done - self._reported_evaluations if done >= self._reported_evaluations else done
            self._reported_evaluations = done
            if forward is not None:
                forward(name, done, total)

        return progress

    def record_check(self, report: CheckReport) -> None:
        """Take from a report what is told of it, and count it; from any thread."""
        cost = report["cost"]
        self.evaluations = cost["loss_evaluations"]
        self._record_outcomes(report)
        for stage, seconds in cost["stages"].items():
            self.add_stage_time(stage, float(str(seconds)))
        metrics.CHECKS.labels(report["outcome"]).inc()

    def record_cancellation(self) -> None:
        """Take down that nobody waits for the report of a check any longer."""
        self.record_disconnect()
        metrics.CHECKS.labels(CANCELLED_OUTCOME).inc()

    def record_disconnect(self) -> None:
        """Take down that nobody waits for the answer any longer."""
        self.log_facts["outcome"] = CANCELLED_OUTCOME

    def record_judgement(self, report: JudgeReport) -> None:
        """Take from a judgement what is told of it; its evaluations were the client's, and it counts as no check."""
        self._record_outcomes(report)
        self.log_facts["evaluations"] = report["evaluations"]

    def _record_outcomes(self, report: CheckReport | JudgeReport) -> None:
        verdicts = report["verdicts"].values()
        self.log_facts |= {
            "outcome": report["outcome"],
            "names": len(verdicts),
            "elements": sum(each["elements"]["total"] for each in verdicts),
        }

    def add_stage_time(self, stage: str, seconds: float) -> None:
        """Take down the time of a stage."""
        self.stage_seconds[stage] = seconds
        _get_stage_histogram(stage).observe(seconds)


def current_record() -> RequestRecord:
    """Record of the request that is being answered; keep it where the answer is streamed."""
    return g.record


def register(app: Flask) -> None:
    """Observe every request; to be called first, so that nothing comes before it and nothing behind."""
    app.before_request(_begin_request)
    app.after_request(_end_request)


def _begin_request() -> None:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    g.record = RequestRecord(given if _REQUEST_ID_PATTERN.fullmatch(given) else make_request_id())


def make_request_id() -> str:
    """Make an identifier."""
    return uuid.uuid4().hex


def _end_request(response: Response) -> Response:
    record = current_record()
    response.headers[REQUEST_ID_HEADER] = record.identifier
    response.headers["Server-Timing"] = _write_server_timing(record)
    finish = _make_finisher(record, response.status_code)
    if response.is_streamed:
        response.call_on_close(finish)
    else:
        finish()
    return response


def _write_server_timing(record: RequestRecord) -> str:
    spent = record.stage_seconds | {"total": time.perf_counter() - record.started}
    return ", ".join(f"{stage};dur={1e3 * seconds:.3f}" for stage, seconds in spent.items())


def _make_finisher(record: RequestRecord, status: int) -> Callable[[], None]:
    """What is left to do when the last byte is out, without the request at hand."""
    # Of methods and addresses a client may think up any number; only those that there are are told apart.
    method = request.method if request.method in _KNOWN_METHODS else "other"
    route = request.url_rule.rule if request.url_rule else "none"
    return partial(_log_request, record, method, route, status, request.content_length or 0)


def _log_request(record: RequestRecord, method: str, route: str, status: int, announced_bytes: int) -> None:
    seconds = time.perf_counter() - record.started
    metrics.REQUESTS.labels(method, route, str(status)).inc()
    metrics.REQUEST_SECONDS.labels(route).observe(seconds)
    line: dict[str, Any] = {"request_id": record.identifier, "method": method, "route": route, "status": status}
    if record.refusal_reason is not None:
        metrics.REFUSALS.labels(record.refusal_reason).inc()
        line["reason"] = record.refusal_reason
    line |= record.log_facts
    if record.evaluations:
        metrics.EVALUATIONS.inc(record.evaluations)
        line["evaluations"] = record.evaluations
    size = record.body_bytes or announced_bytes
    _log.info("request", **line, body_bytes=size, seconds=round(seconds, 6), logger="gradcheckd")
