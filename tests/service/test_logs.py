import json
import logging

import pytest
import structlog

from service import logs
from service.app import create_app


@pytest.fixture
def written():
    """What is written of a record, parsed."""
    logs.configure()
    formatter = logs.formatter()

    def write(message, *arguments, error=None):
        info = (type(error), error, error.__traceback__) if error else None
        record = logging.LogRecord("gunicorn.error", logging.ERROR, "x.py", 1, message, arguments, info)
        line = formatter.format(record)
        assert "\n" not in line
        return json.loads(line)

    return write


def test_a_line_is_an_object(written):
    line = written("worker %s went", 7)
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("pid") > 0
    assert line == {"event": "worker 7 went", "level": "error", "logger": "gunicorn.error"}


@pytest.mark.parametrize("text", ['\n{"event": "forged"}', "\r\nforged", '"}\x00\x1b[31m', "\u2028forged", "é"])
def test_no_text_breaks_out_of_its_line(written, text):
    assert written(text)["event"] == text
    assert written("%s", text)["event"] == text


def test_a_traceback_is_part_of_its_line(written):
    try:
        raise RuntimeError("line 17")
    except RuntimeError as error:
        line = written("unexpected", error=error)
    assert "RuntimeError: line 17" in line["exception"]
    assert "Traceback" in line["exception"]


def test_what_is_logged_during_a_request_bears_its_identifier(written):
    with create_app().test_request_context(headers={"X-Request-ID": "run-7"}) as context:
        context.app.preprocess_request()
        assert written("unexpected")["request_id"] == "run-7"
    assert "request_id" not in written("unexpected")


def test_what_cannot_be_written_as_json_does_not_stop_the_log(written, caplog):
    log = structlog.get_logger("gradcheckd.tests")
    with caplog.at_level(logging.INFO, logger="gradcheckd.tests"):
        log.info("odd", what=object(), big=10**30, half="\ud800")
    (record,) = caplog.records
    assert json.loads(logs.formatter().format(record))["what"].startswith("<object")
