"""The record of a request.

Its identifier, its line in the log, its metrics, `Server-Timing`.

The record never holds the numbers of a tensor or a key. The only text of the client's choice is an identifier of plain
letters.
"""

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from flask import Flask, Response, g, request

from service.checks.common.check_kind import AnswerFacts
from service.http import metrics
from service.numerics.core.difference import DifferenceProgress

REQUEST_ID_HEADER = "X-Request-ID"
CANCELLED_OUTCOME = "cancelled"
"""Outcome of a check whose client disconnected."""

_REQUEST_ID_PATTERN = re.compile(r"[\w.:=@+/-]{1,128}", re.ASCII)
_KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

# Stages are few, and the look-up takes as long as the observation.
_get_stage_histogram = cache(metrics.STAGE_SECONDS.labels)


@dataclass
class RequestRecord:
    """The facts of one request, collected until its answer ends.

    Attributes
    ----------
    identifier
        Name of the request in the log.
    started
        Start by `time.perf_counter`.
    stage_seconds
        Seconds by stage.
    log_facts
        Further facts for the line in the log.
    refusal_reason
        Reason of a refusal, in one word of the service; None without a refusal.
    body_bytes
        Bytes of the body that were read.
    evaluations
        Evaluations of the loss, with or without a report.
    is_kept
        True if the log and the metrics show the request.
    """

    identifier: str
    started: float = field(default_factory=time.perf_counter)
    stage_seconds: dict[str, float] = field(default_factory=dict[str, float])
    log_facts: dict[str, str | int] = field(default_factory=dict[str, str | int])
    refusal_reason: str | None = None
    body_bytes: int = 0
    evaluations: int = 0
    is_kept: bool = True
    _reported_evaluations: int = 0

    def track_progress(self, forward: DifferenceProgress | None = None) -> DifferenceProgress:
        """Make a progress callback that counts evaluations and calls another one."""

        def progress(name: str, done: int, total: int) -> None:
            # A difference that begins anew counts from 0.
            self.evaluations += done - self._reported_evaluations if done >= self._reported_evaluations else done
            self._reported_evaluations = done
            if forward is not None:
                forward(name, done, total)

        return progress

    def record_answer(self, facts: AnswerFacts, *, is_counted: bool = False) -> None:
        """Record the facts of an answer, from any thread.

        With `is_counted` its outcome enters the metric of checks.
        """
        if facts.loss_evaluations is not None:
            self.evaluations = facts.loss_evaluations
        self.log_facts |= facts.log_fields
        for stage, seconds in facts.stage_seconds.items():
            self.add_stage_time(stage, seconds)
        if is_counted and self.is_kept:
            metrics.CHECKS.labels(facts.log_fields["outcome"]).inc()

    def record_cancellation(self, *, is_counted: bool) -> None:
        """Record that the client has left before its answer; `is_counted` as for `record_answer`."""
        self.record_disconnect()
        if is_counted and self.is_kept:
            metrics.CHECKS.labels(CANCELLED_OUTCOME).inc()

    def record_disconnect(self) -> None:
        """Record that the client disconnected."""
        self.log_facts["outcome"] = CANCELLED_OUTCOME

    def add_stage_time(self, stage: str, seconds: float) -> None:
        """Record the time of a stage."""
        self.stage_seconds[stage] = seconds
        if self.is_kept:
            _get_stage_histogram(stage).observe(seconds)


def get_current_record() -> RequestRecord:
    """Return the record of the current request; a streamed answer has to keep it."""
    return g.record


def register(app: Flask, *, keeps_records: bool = True) -> None:
    """Record every request; the first registration records all of it.

    With `keeps_records` the log and the metrics show it, which is the default.
    """
    app.before_request(partial(_begin_request, keeps_records))
    app.after_request(_end_request)


def _begin_request(keeps_records: bool) -> None:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    identifier = given if _REQUEST_ID_PATTERN.fullmatch(given) else make_request_id()
    g.record = RequestRecord(identifier, is_kept=keeps_records)


def make_request_id() -> str:
    """Make an identifier."""
    return uuid.uuid4().hex


def _end_request(response: Response) -> Response:
    record = get_current_record()
    response.headers[REQUEST_ID_HEADER] = record.identifier
    response.headers["Server-Timing"] = _write_server_timing(record)
    if not record.is_kept:
        return response
    finish = _make_finisher(record, response.status_code)
    if response.is_streamed:
        response.call_on_close(finish)
    else:
        finish()
    return response


def _write_server_timing(record: RequestRecord) -> str:
    seconds_by_stage = record.stage_seconds | {"total": time.perf_counter() - record.started}
    return ", ".join(f"{stage};dur={1e3 * seconds:.3f}" for stage, seconds in seconds_by_stage.items())


def _make_finisher(record: RequestRecord, status: int) -> Callable[[], None]:
    """Make the function that logs the request after its last byte.

    It runs outside the context of the request.
    """
    # A client may invent any number of methods and addresses; only existing ones become labels.
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
    _get_log().info("request", **line, body_bytes=size, seconds=round(seconds, 6), logger="gradcheckd")


@cache
def _get_log() -> Any:
    """Return the log of the service, one of structlog's."""
    # A process without a log needs no structlog.
    import structlog

    return structlog.get_logger("gradcheckd")
