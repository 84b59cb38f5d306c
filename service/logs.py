"""The log: one JSON object a line, from every logger."""

import json
import os
import sys

import orjson
import structlog
from flask import g, has_app_context
from structlog.types import EventDict, Processor, WrappedLogger


def _add_request_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the identifier of the current request."""
    if has_app_context() and "record" in g:
        event.setdefault("request_id", g.record.identifier)
    return event


def _add_process_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["pid"] = os.getpid()
    return event


def _dump_event(event: EventDict, **_: object) -> bytes:
    try:
        return orjson.dumps(event, default=repr)
    except TypeError:  # an integer of more than 64 bits, half a surrogate pair
        return json.dumps(event, default=repr).encode()


_COMMON_PROCESSORS: tuple[Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _add_process_id,
)


def configure_logging() -> None:
    """Send structlog's events to the standard library, unless configured already."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                *_COMMON_PROCESSORS,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
        )


def log_to_stderr(level: int) -> None:
    """Write structlog's events directly to stderr.

    A line through the standard library takes three times as long.
    """
    structlog.configure(
        processors=[*_COMMON_PROCESSORS, structlog.processors.JSONRenderer(_dump_event)],
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def make_formatter() -> structlog.stdlib.ProcessorFormatter:
    """Make the formatter of the standard library's records, as JSON with tracebacks."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_add_request_id, *_COMMON_PROCESSORS, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
