import io
import json
import logging
import os
import re

import pytest
from flask import Response
from werkzeug.test import EnvironBuilder

from service.app import create_app
from service.http import metrics
from service.http.middleware.request_log import RequestRecord, get_current_record
from service.settings import Settings
from tests.service.checks.graph.sized_requests import make_entangled_request


@pytest.fixture
def ask_and_log(caplog):
    """Ask, and get the response, and the lines that it left in the log."""
    caplog.set_level(logging.INFO, logger="gradcheckd")

    def ask(path="/v1/check", method="POST", app=None, **arguments):
        caplog.clear()
        response = (app or create_app()).test_client().open(path, method=method, **arguments)
        return response, list_log_messages(caplog)

    return ask


def list_log_messages(caplog):
    return [record.msg for record in caplog.records]


def test_a_check_leaves_one_line(ask_and_log, example):
    response, (line,) = ask_and_log(
        data=(body := json.dumps(example)), content_type="application/json", headers={"X-Request-ID": "run-7"}
    )
    assert response.headers["X-Request-ID"] == "run-7"
    assert 0 < line.pop("seconds") < 60
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("pid") == os.getpid()
    assert line.pop("body_bytes") == len(body)
    assert line == {
        "event": "request", "level": "info", "logger": "gradcheckd",
        "request_id": "run-7", "method": "POST", "route": "/v1/check",
        "status": 200, "outcome": "pass", "names": 2, "elements": 8, "evaluations": 16,
    }  # fmt: skip


def test_a_refusal_leaves_its_reason(ask_and_log):
    _, (line,) = ask_and_log(json={})
    assert (line["status"], line["reason"]) == (422, "invalid")
    _, (line,) = ask_and_log("/nowhere", "GET")
    assert (line["status"], line["reason"], line["route"]) == (404, "not-found", "none")


@pytest.mark.parametrize("sane", ["a", "0af7651916cd43dd8448eb211c80319c", "Root=1-67891233-abc", "x" * 128])
def test_a_sane_identifier_is_kept(ask_and_log, sane):
    response, (line,) = ask_and_log(headers={"X-Request-ID": sane})
    assert response.headers["X-Request-ID"] == line["request_id"] == sane


@pytest.mark.parametrize("wrong", ["", "x" * 129, "two words", "a\tb", '"}', "é", "a;b", "<script>", "%0a"])
def test_invalid_request_id_is_replaced(ask_and_log, wrong):
    response, (line,) = ask_and_log(headers={"X-Request-ID": wrong})
    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-ID"])
    assert line["request_id"] == response.headers["X-Request-ID"]


def test_two_requests_have_two_identifiers(ask_and_log):
    assert ask_and_log()[0].headers["X-Request-ID"] != ask_and_log()[0].headers["X-Request-ID"]


def test_neither_numbers_nor_keys_nor_addresses_get_into_the_log(ask_and_log, example):
    example["weights"]["w1"][0][0] = 0.12345678
    app = create_app(Settings(keys="sesame"))
    for path in ("/v1/check", "/v1/secret-12345678?key=sesame"):
        _, lines = ask_and_log(path, app=app, json=example, headers={"Authorization": "Bearer sesame"})
        assert len(lines) == 1
        assert "sesame" not in str(lines)
        assert "12345678" not in str(lines)


def test_server_timing_lists_the_stages(ask_and_log, example):
    response, _ = ask_and_log(json=example)
    matches = re.findall(r"(\w+);dur=([\d.]+)", response.headers["Server-Timing"])
    stages = {stage: float(duration) for stage, duration in matches}
    assert list(stages) == ["wait", "analytic", "autograd", "finite_difference", "verdict", "diagnosis", "total"]
    assert stages["total"] >= sum(seconds for stage, seconds in stages.items() if stage != "total")
    assert re.fullmatch(r"total;dur=[\d.]+", ask_and_log("/nowhere")[0].headers["Server-Timing"])


def test_stream_is_logged_when_it_ends(ask_and_log, caplog):
    app = create_app()

    @app.get("/streamed")
    def stream_names():
        record = get_current_record()

        def yield_parts():
            yield "one"
            record.log_facts["names"] = 3

        return Response(yield_parts())

    response, told = ask_and_log("/streamed", "GET", app)
    assert told == []
    assert response.data == b"one"
    response.close()
    assert [(line["route"], line["names"]) for line in list_log_messages(caplog)] == [("/streamed", 3)]


def test_log_counts_the_bytes_of_a_chunked_body(ask_and_log, example):
    body = json.dumps(example).encode()
    chunks = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    environ = EnvironBuilder("/v1/check", method="POST", content_type="application/json").get_environ()
    environ |= chunks | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": ""}
    _, (line,) = ask_and_log(environ_overrides=environ)
    assert (line["status"], line["body_bytes"]) == (200, len(body))


def test_evaluations_of_a_failed_check_are_counted(ask_and_log):
    """Time that is over after so many looks at the clock."""
    before = metrics.EVALUATIONS._value.get()
    app = create_app(Settings(max_seconds=600))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("service.checks.common.deadline.time.monotonic", iter(range(10**6)).__next__)
        _, (line,) = ask_and_log(app=app, json=make_entangled_request(60, 50))
    assert line["reason"] == "out-of-time"
    assert line["evaluations"] == metrics.EVALUATIONS._value.get() - before > 0


@pytest.mark.parametrize(
    ("told", "evaluations"), [([0, 4, 8], 8), ([0, 4, 8, 0, 3], 11), ([5, 5], 5), ([], 0), ([7, 2, 4], 11)]
)
def test_counts_that_begin_anew_are_added_up(told, evaluations):
    record, onward = RequestRecord("mine"), []
    progress = record.track_progress(lambda *step: onward.append(step))
    for done in told:
        progress("w", done, 9)
    assert record.evaluations == evaluations
    assert onward == [("w", done, 9) for done in told]


def test_curve_reports_its_evaluations(ask_and_log, example):
    _, (line,) = ask_and_log("/v1/curve", json=example | {"element": {"name": "w2", "index": [0]}})
    assert line["evaluations"] > 65
