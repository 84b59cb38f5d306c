"""Reference requests a second on one worker over HTTP, and where its processor time goes: part of `make load`.

Some clients send the reference example to one worker, each over a connection that it keeps. The processor time of the
worker, read from the kernel, is that of one request. The same request as a call of the application tells the part of
gunicorn and the sockets, and calls of the check and of its writer tell that of Flask and the middleware.
"""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
import io
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks import saved_results, tables
from benchmarks.load import EXAMPLE_BODY, EXAMPLE_REQUEST, make_countdown
from benchmarks.load_client import ExpectedAnswer, answer_is_right
from benchmarks.local_server import run_server
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.timing import measure_cpu_share, measure_seconds
from schemas.json_writer import write_json
from service.app import create_app
from service.checks.graph.check import check
from service.settings import Settings

CLIENTS = 2
SECONDS = 20.0
WARM_UP_REQUESTS = 500
CALLS = 300
TARGET = 200.0
"""Requests a second that one worker should answer."""
STAGES = ("analytic", "autograd", "finite_difference", "verdict")

Document = Mapping[str, Any]


def measure_worker(seconds: float) -> dict[str, Any]:
    """Requests a second, and processor seconds of the worker for each of them."""
    expected = ExpectedAnswer()
    with run_server(1) as serving:
        answer_is_right(serving.port, EXAMPLE_REQUEST, expected, CLIENTS, make_countdown(WARM_UP_REQUESTS))
        (worker,) = serving.workers()
        before, started = _read_cpu_seconds(worker), time.perf_counter()
        tally = answer_is_right(
            serving.port, EXAMPLE_REQUEST, expected, CLIENTS, lambda: time.perf_counter() < started + seconds
        )
        elapsed, used = time.perf_counter() - started, _read_cpu_seconds(worker) - before
    count = len(tally.seconds)
    return {
        "throughput": round(count / elapsed, 1),
        "core_share": round(used / elapsed, 2),
        "request": used / tally.request_count,
        "p50": tally.compute_percentile(50),
        "p99": tally.compute_percentile(99),
    }


def _read_cpu_seconds(pid: int) -> float:
    """Processor seconds of all threads of a process."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure_calls(count: int) -> dict[str, float]:
    """Median processor seconds of the parts of a request, as calls in this process, in turns."""
    body, report = json.loads(EXAMPLE_BODY), check(json.loads(EXAMPLE_BODY))
    call_application = _make_application_call()
    parts: dict[str, Callable[[], Any]] = {
        "parse": lambda: orjson.loads(EXAMPLE_BODY),
        "check": lambda: check(body),
        "write": lambda: write_json(report),
        "application": call_application,
    }
    samples: dict[str, list[float]] = {name: [] for name in (*parts, *STAGES)}
    for turn in range(count + count // 10):
        for name, call in parts.items():
            # Stages are by the clock: others had the rest of the time.
            share, (seconds, result) = measure_cpu_share(lambda call=call: measure_seconds(call))
            if turn >= count // 10:
                samples[name].append(seconds)
                if name == "check":
                    for stage in STAGES:
                        samples[stage].append(share * result["cost"]["stages"][stage])
    return {name: statistics.median(seconds) for name, seconds in samples.items()}


def _make_application_call() -> Callable[[], bytes]:
    """The request as a server calls the application."""
    application = create_app(Settings())

    def call() -> bytes:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/v1/check",
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(EXAMPLE_BODY)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(EXAMPLE_BODY),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        statuses: list[str] = []
        parts = application(environ, lambda status, *_: statuses.append(status))
        answer = b"".join(parts)
        getattr(parts, "close", lambda: None)()
        if statuses != ["200 OK"]:
            raise AssertionError(statuses)
        return answer

    return call


def split_request(document: Document) -> dict[str, float]:
    """Seconds of each part of a request, which add up to its processor time."""
    calls, request = document["calls"], document["worker"]["request"]
    stages = {stage: calls[stage] for stage in STAGES}
    return {
        "the request parsed as JSON": calls["parse"],
        "check: analytic gradient": stages["analytic"],
        "check: autograd gradient": stages["autograd"],
        "check: finite differences": stages["finite_difference"],
        "check: verdicts": stages["verdict"],
        "check: request, report": calls["check"] - sum(stages.values()),
        "the report written as JSON": calls["write"],
        "Flask and middleware": calls["application"] - calls["check"] - calls["parse"] - calls["write"],
        "gunicorn, threads and sockets": request - calls["application"],
    }


def write_markdown(document: Document) -> str:
    """Where the time goes, and how many requests a second that makes."""
    request = document["worker"]["request"]
    rows = [
        [name, tables.format_duration(seconds) if seconds > 0 else "-", f"{100 * seconds / request:.0f} %"]
        for name, seconds in split_request(document).items()
    ]
    table = tables.write_table(
        ["processor time of a request", "", "share"], [*rows, ["all", tables.format_duration(request), "100 %"]]
    )
    return "\n\n".join([table, tables.wrap_prose(describe_result(document)), tables.describe_origin(document)]) + "\n"


def describe_result(document: Document) -> str:
    """Throughput, and the bound of it that the check alone sets."""
    worker, calls = document["worker"], document["calls"]
    throughput, met = worker["throughput"], worker["throughput"] >= TARGET
    reason = (
        ""
        if met
        else f" The check alone takes {tables.format_duration(calls['check'])}, which no more than "
        f"{1 / calls['check']:.0f} requests a second leave room for on a core of one's own; with all else it is "
        f"{1 / worker['request']:.0f}."
    )
    return (
        f"One worker answered {throughput:.0f} reference requests a second ({TARGET:.0f}: "
        f"{tables.describe_target(met)}) of {CLIENTS} clients that keep their connections, in {document['seconds']:g} "
        f"s, and had {100 * worker['core_share']:.0f} % of a core for it: clients share the machine.{reason} Half were "
        f"answered within {tables.format_duration(worker['p50'])}, 99 % within "
        f"{tables.format_duration(worker['p99'])}."
    )


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_one_worker", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of requests over HTTP")
    options = parser.parse_args()
    result = {
        "seconds": options.seconds,
        "calls": measure_calls(CALLS),
        "worker": measure_worker(options.seconds),
        "machine": describe_machine(),
        "versions": list_versions(("gunicorn", "numpy", "torch")),
    }
    print(write_markdown(result))
    saved_results.save_results("one_worker", result, write_markdown(result), write_markdown(result))


if __name__ == "__main__":
    main()
