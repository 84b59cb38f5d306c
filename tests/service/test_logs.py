import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from service import logs
from service.app import create_app

ROOT = Path(__file__).parents[2]


@pytest.fixture
def write_record():
    """What is written of a record, parsed."""
    logs.configure_logging()
    formatter = logs.make_formatter()

    def write(message, *arguments, error=None):
        info = (type(error), error, error.__traceback__) if error else None
        record = logging.LogRecord("gunicorn.error", logging.ERROR, "x.py", 1, message, arguments, info)
        line = formatter.format(record)
        assert "\n" not in line
        return json.loads(line)

    return write


def test_a_line_is_an_object(write_record):
    line = write_record("worker %s went", 7)
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("pid") > 0
    assert line == {"event": "worker 7 went", "level": "error", "logger": "gunicorn.error"}


@pytest.mark.parametrize("text", ['\n{"event": "forged"}', "\r\nforged", '"}\x00\x1b[31m', "\u2028forged", "é"])
def test_no_text_breaks_out_of_its_line(write_record, text):
    assert write_record(text)["event"] == text
    assert write_record("%s", text)["event"] == text


def test_a_traceback_is_part_of_its_line(write_record):
    try:
        raise RuntimeError("line 17")
    except RuntimeError as error:
        line = write_record("unexpected", error=error)
    assert "RuntimeError: line 17" in line["exception"]
    assert "Traceback" in line["exception"]


def test_log_entries_of_a_request_bear_its_identifier(write_record):
    with create_app().test_request_context(headers={"X-Request-ID": "run-7"}) as context:
        context.app.preprocess_request()
        assert write_record("unexpected")["request_id"] == "run-7"
    assert "request_id" not in write_record("unexpected")


def test_unserializable_value_does_not_stop_the_log(write_record, caplog):
    log = structlog.get_logger("gradcheckd.tests")
    with caplog.at_level(logging.INFO, logger="gradcheckd.tests"):
        log.info("odd", what=object(), big=10**30, half="\ud800")
    (record,) = caplog.records
    assert json.loads(logs.make_formatter().format(record))["what"].startswith("<object")


def test_log_lines_are_written_at_once_to_standard_error():
    """In a process of its own, since where structlog writes is a matter of the whole process."""
    code = """
import logging, structlog
from service import logs
logs.log_to_stderr(logging.INFO)
log = structlog.get_logger("gradcheckd")
log.info("request", route="/v1/check", odd=object(), note="\\n\\u2028")
log.info("request", big=10**30, half="\\ud800")
log.debug("too much")
logs.configure_logging()
log.info("still here")
"""
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    first, second, third = (json.loads(line) for line in process.stderr.removesuffix("\n").split("\n"))
    assert (first["route"], first["note"], first["level"]) == ("/v1/check", "\n\u2028", "info")
    assert first["odd"].startswith("<object")
    assert (second["big"], second["half"]) == (10**30, "\ud800")
    assert third["event"] == "still here"
