"""The application in the process of the client: the same answers as over HTTP, and nothing else in the process."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradcheckd
from gradcheckd import AnswerTimeoutError, GradcheckdError, ProblemError, RequestError, Service, in_process, wire
from gradcheckd.connection import URL_VARIABLE, Connection
from gradcheckd.in_process import IN_PROCESS
from gradcheckd.wire import JSON, MARKDOWN, NDJSON, SAFETENSORS, TEXT, Body

ROOT = Path(__file__).parents[2]
POINT = np.array([0.5, -1.25, 2.0])


def sum_half_squares(x: Any) -> float:
    return 0.5 * float((x**2).sum())


@pytest.fixture
def in_process_connection() -> Iterator[Connection]:
    with Connection(IN_PROCESS) as connection:
        yield connection


@pytest.fixture
def http_connection(url: str) -> Iterator[Connection]:
    with Connection(url) as connection:
        yield connection


def encode_json(document: object) -> Body:
    return Body(json.dumps(document).encode(), JSON)


TIMINGS = re.compile(rb'\\*"seconds.*?}|evaluations in [0-9.]+ m?s: [a-z0-9., \n]*(\\+n[a-z0-9., ]*)*')


def drop_timings(content: bytes) -> bytes:
    """Leave out how long a check took, and the order in which the library of safetensors wrote its header."""
    length = int.from_bytes(content[:8], "little")
    if content[8:9] == b"{" and length < len(content):
        header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True)
        content = header.encode() + content[8 + length :]
    return TIMINGS.sub(b"", content)


PLAN = {"point": {"w": [0.5, -1.25, 2.0]}, "directions": {"kind": "coordinates"}, "seed": 3}
ACCEPTED_BY_PATH = {
    "/v1/plan": [JSON, SAFETENSORS],
    "/v1/judge": [JSON, TEXT, f"{TEXT}; columns=60; detail=full", MARKDOWN],
    "/v1/check": [JSON, TEXT, MARKDOWN, SAFETENSORS, wire.add_report_parameter(SAFETENSORS, TEXT)],
    "/v1/bugs": [JSON],
    "/v1/curve": [JSON],
}


@pytest.fixture
def bodies_by_path(in_process_connection: Connection, example: dict[str, Any]) -> dict[str, Body]:
    planned = json.loads(in_process_connection.post("/v1/plan", encode_json(PLAN), JSON))
    losses = [sum_half_squares(np.array(point["w"])) for point in planned["points"]]
    judged = {"plan": planned["plan"], "losses": losses, "candidate": {"w": [0.5, -1.25, 2.0001]}}
    requests = {"plan": PLAN, "judge": judged, "check": example | {"include": ["gradients"]}, "bugs": example}
    requests["curve"] = example | {"element": {"name": "w1", "index": [0, 0]}}
    return {f"/v1/{kind}": encode_json(request) for kind, request in requests.items()}


@pytest.mark.parametrize(
    ("path", "accept"), [(path, accept) for path, kinds in ACCEPTED_BY_PATH.items() for accept in kinds]
)
def test_answers_are_the_same_to_the_byte(
    in_process_connection: Connection,
    http_connection: Connection,
    bodies_by_path: dict[str, Body],
    path: str,
    accept: str,
) -> None:
    ours, theirs = (
        drop_timings(way.post(path, bodies_by_path[path], accept)) for way in (in_process_connection, http_connection)
    )
    assert ours == theirs
    assert len(ours) > 40


def test_different_requests_have_different_answers(
    in_process_connection: Connection, bodies_by_path: dict[str, Body]
) -> None:
    """A comparison that could not fail would be none."""
    other = encode_json(PLAN | {"seed": 4})
    assert in_process_connection.post("/v1/plan", bodies_by_path["/v1/plan"], JSON) != in_process_connection.post(
        "/v1/plan", other, JSON
    )


def test_streams_have_the_same_lines(
    in_process_connection: Connection, http_connection: Connection, bodies_by_path: dict[str, Body]
) -> None:
    accept = wire.add_report_parameter(NDJSON, TEXT)
    lines = [
        list(way.post_for_lines("/v1/check", bodies_by_path["/v1/check"], accept))
        for way in (in_process_connection, http_connection)
    ]
    last = [drop_timings(line[-1].encode()) for line in lines]
    assert last[0] == last[1]
    assert last[0].startswith(b'{"event":"report"')
    # Lines in between depend on the clock.
    assert [json.loads(line[0])["event"] for line in lines] == ["progress", "progress"]


@pytest.mark.parametrize("kind", ["models", "ops"])
def test_catalogues_are_the_same(url: str, kind: str) -> None:
    with Service(IN_PROCESS) as here, Service(url) as there:
        assert getattr(here, kind)() == getattr(there, kind)() != []


WRONG = {
    "no JSON": ("/v1/plan", Body(b"{", JSON), JSON, 400),
    "no such address": ("/v1/plans", encode_json({}), JSON, 404),
    "no such form": ("/v1/plan", encode_json(PLAN), "image/png", 406),
    "too large": ("/v1/plan", Body(bytes(2**24 + 1), JSON), JSON, 413),
    "no such body": ("/v1/plan", Body(b"", "text/csv"), JSON, 415),
    "wrong fields": ("/v1/plan", encode_json({"point": {"w": "x"}, "directions": 7}), JSON, 422),
    "a wrong stream": ("/v1/check", encode_json({"model": "none"}), NDJSON, 422),
}


@pytest.mark.parametrize(("path", "body", "accept", "status"), WRONG.values(), ids=WRONG)
def test_errors_are_the_same(
    in_process_connection: Connection, http_connection: Connection, path: str, body: Body, accept: str, status: int
) -> None:
    problems: list[ProblemError] = []
    for way in (in_process_connection, http_connection):
        with pytest.raises(ProblemError) as caught:
            way.post(path, body, accept)
        problems.append(caught.value)
    assert problems[0].problem == problems[1].problem
    assert problems[0].status == status


def test_reports_are_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = gradcheckd.check_function(sum_half_squares, POINT, 2 * POINT, seed=1)
    monkeypatch.setenv(URL_VARIABLE, url)
    theirs = gradcheckd.check_function(sum_half_squares, POINT, 2 * POINT, seed=1)
    assert ours.raw == theirs.raw
    assert ours.text() == theirs.text()
    assert ours.outcome == "fail"


def test_the_environment_and_an_argument_name_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with Service() as service:
        assert service.url == "in this process"
    monkeypatch.setenv(URL_VARIABLE, "http://example.test/")
    with Service() as named, Service("http://127.0.0.1:1") as given, Service(IN_PROCESS) as here:
        assert [connection.url for connection in (named, given, here)] == [
            "http://example.test",
            "http://127.0.0.1:1",
            IN_PROCESS,
        ]


def test_the_functions_share_a_connection(url: str) -> None:
    share = gradcheckd.shared_connections.share_connection
    assert share() is share()
    assert share(url) is share(url) is not share()
    assert share(url, "key") is not share(url)


# What acts on a thread, or on a process, and may not act on an answer.


def test_state_of_the_caller_does_not_affect_the_answer(reference_arrays: dict[str, Any]) -> None:
    import torch
    from flask import Flask, g

    expected = gradcheckd.check(**reference_arrays)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    host = Flask("host")
    try:
        with np.errstate(all="raise"), torch.inference_mode(), host.app_context():
            g.record = "the host's"
            report = gradcheckd.check(**reference_arrays)
            assert g.record == "the host's"
        assert torch.get_num_threads() == 3, "it is the caller's"
    finally:
        torch.set_num_threads(threads)
    for name, routes in expected.gradients.items():
        assert np.array_equal(report.gradients[name].autograd, routes.autograd)
    assert report.outcome == expected.outcome == "pass"


def test_state_of_the_caller_does_not_affect_the_check_of_a_function() -> None:
    from flask import Flask, g

    def check() -> Any:
        return gradcheckd.check_function(sum_half_squares, POINT, POINT).raw

    expected, host = check(), Flask("host")
    with np.errstate(all="raise"), host.app_context():
        g.record = "the host's"
        assert check() == expected
        assert g.record == "the host's"
        with pytest.raises(FloatingPointError):
            np.float64(1) / np.float64(0)


class AlarmError(Exception):
    """What the handler of a signal raises."""


def test_an_error_of_a_signal_handler_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from service.checks.blackbox import judge

    def ring(*_: Any) -> None:
        raise AlarmError

    monkeypatch.setattr(judge, "read_losses", lambda *_: signal.raise_signal(signal.SIGALRM))
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(AlarmError):
            gradcheckd.check_function(sum_half_squares, POINT, POINT)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_check_of_a_function_that_takes_too_long_is_given_up() -> None:
    with (
        Service(IN_PROCESS, timeout=1e-6) as service,
        pytest.raises(AnswerTimeoutError, match="in this process did not"),
    ):
        service.check_function(sum_half_squares, POINT, POINT)


@pytest.mark.parametrize("name", [URL_VARIABLE, "HTTP_PROXY", "ALL_PROXY"])
def test_no_proxy_stands_between(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name != URL_VARIABLE:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Service(IN_PROCESS) as service:
        assert service.models()


def test_many_threads_are_answered_at_once() -> None:
    started = threading.Barrier(24)

    def check(seed: int) -> str:
        started.wait()
        return gradcheckd.check_function(sum_half_squares, POINT, POINT, seed=seed).outcome

    with ThreadPoolExecutor(24) as pool, Service(retry_seconds=0) as service:
        assert set(pool.map(check, range(24))) == {"pass"}
        # Not even once is the application full, as a service would be.
        assert len(list(pool.map(lambda _: service.models(), range(24)))) == 24


def test_a_coroutine_may_call() -> None:
    async def main() -> list[str]:
        first = gradcheckd.check_function(sum_half_squares, POINT, POINT).outcome
        calls = (asyncio.to_thread(gradcheckd.check_function, sum_half_squares, POINT, POINT) for _ in range(3))
        return [first, *(report.outcome for report in await asyncio.gather(*calls))]

    # The thread of the tests may have a loop of its own: that of a browser.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: asyncio.run(main())).result() == ["pass"] * 4


def test_progress_may_call_again() -> None:
    inner: list[str] = []

    def check_again(*_: Any) -> None:
        inner.append(gradcheckd.check_function(sum_half_squares, POINT, POINT).outcome)

    model = [{"name": "l", "op": "sum", "inputs": ["w"]}]
    assert gradcheckd.check(weights={"w": POINT}, model=model, progress=check_again).passed
    assert set(inner) == {"pass"}


def count_threads() -> int:
    # Applications of other tests keep a thread for their jobs.
    return sum(thread.name in {"gradcheckd", "gradcheckd-check"} for thread in threading.enumerate())


def wait_until_no_thread_is_left() -> None:
    deadline = time.monotonic() + 60
    while count_threads():
        assert time.monotonic() < deadline
        time.sleep(0.01)


LONG_CHECK: dict[str, Any] = {
    "weights": {"w": np.linspace(0.1, 1.0, 4096).reshape(64, 64)},
    "model": [
        {"name": "h0", "op": "tanh", "inputs": ["w"]},
        *({"name": f"h{at}", "op": "matmul", "inputs": [f"h{at - 1}", "w"]} for at in range(1, 40)),
        {"name": "t", "op": "tanh", "inputs": ["h39"]},
        {"name": "l", "op": "sum", "inputs": ["t"]},
    ],
}


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    with (
        Service(timeout=0.05) as service,
        pytest.raises(AnswerTimeoutError, match=r"The service in this process did not answer within 0\.05 s\. Give it"),
    ):
        service.check(**LONG_CHECK)
    wait_until_no_thread_is_left()


class StoppedError(Exception):
    """What a user's function raises to end a check."""


def test_a_stream_that_is_left_ends_its_check() -> None:
    def stop(*_: Any) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        gradcheckd.check(**LONG_CHECK, progress=stop)
    wait_until_no_thread_is_left()


# The environment of a deployment.


def test_settings_of_a_deployment_break_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = {
        "GRADCHECKD_KEYS": "open-sesame", "GRADCHECKD_KEYS_FILE": "/no/such/file", "GRADCHECKD_MAX_CHECKS": "none",
        "GRADCHECKD_MAX_WAITING": "3", "GRADCHECKD_MAX_CHEKS": "3", "GRADCHECKD_ALLOWED_ORIGINS": "nonsense",
    }  # fmt: skip
    for name, value in deployed.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(in_process, "_APPLICATIONS", {})
    assert gradcheckd.check_function(sum_half_squares, POINT, POINT).passed


def test_the_limits_of_a_request_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADCHECKD_MAX_ELEMENTS", "2")
    monkeypatch.setattr(in_process, "_APPLICATIONS", {})
    with pytest.raises(ProblemError, match="2"):
        gradcheckd.check(weights={"w": POINT}, model=[{"name": "l", "op": "sum", "inputs": ["w"]}])


def test_a_limit_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADCHECKD_MAX_SECONDS", "long")
    monkeypatch.setattr(in_process, "_APPLICATIONS", {})
    with pytest.raises(
        GradcheckdError, match=r"cannot run in this process: GRADCHECKD_MAX_SECONDS: .* number.*unset it"
    ):
        gradcheckd.check_function(sum_half_squares, POINT, POINT)


# What is installed.


def test_without_the_service_the_default_address_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    in_process._are_found.cache_clear()
    monkeypatch.setattr(in_process, "_APPLICATIONS", {})
    monkeypatch.setattr(in_process, "_REQUIRED_PACKAGES", ("no_such_package",))
    try:
        with Connection() as connection:
            assert connection.url == "http://127.0.0.1:8000"
        with Service(IN_PROCESS) as service, pytest.raises(GradcheckdError, match="service is not installed here"):
            service.models()
    finally:
        in_process._are_found.cache_clear()


@pytest.mark.no_cover
@pytest.mark.parametrize("name", ["service", "schemas"])
def test_foreign_package_named_service_is_not_used(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise AssertionError('it is not imported')")
    (tmp_path / name / "app.py").touch()
    assert run_code("import gradcheckd; print(gradcheckd.Service().url)", tmp_path) == "http://127.0.0.1:8000\n"


@pytest.mark.no_cover
def test_module_without_a_file_is_not_used(tmp_path: Path) -> None:
    made = "import sys, types; sys.modules['schemas'] = types.ModuleType('schemas'); "
    assert "8000" in run_code(f"{made}import gradcheckd; print(gradcheckd.Service().url)", tmp_path)


def test_a_service_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "_APPLICATIONS", {})
    monkeypatch.setattr(in_process, "_APPLICATION_MODULE", "no_such_module")
    with Service(IN_PROCESS) as service, pytest.raises(GradcheckdError, match="cannot run in this process: No module"):
        service.models()


def test_address_is_not_served_in_process() -> None:
    with pytest.raises(RequestError, match="address of a service"):
        Service("in that process")


# Processes of their own.


def run_code(code: str, cwd: Path, *options: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADCHECKD")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(cwd), str(ROOT / "client"), str(ROOT)])} | variables
    command = [sys.executable, "-W", "error", *options, "-c", code]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


CHECK = """
import sys
import gradcheckd
loaded = "service" in sys.modules, "flask" in sys.modules
report = gradcheckd.check_function(lambda x: float((x**2).sum()), [1.0, 2.0], [2.0, 4.0])
"""


HEAVY = """
heavy = "torch", "scipy", "structlog", "service.numerics.ops", "service.numerics.diagnosis.bugs", "service.checks.graph"
print(*(name in sys.modules for name in heavy))
"""
OUTPUTS = """
report = gradcheckd.check_function(lambda x: x**2, [1.0, 2.0], jacobian=[[2.0, 0.0], [0.0, 4.0]])
assert report.outcome == "pass"
"""


@pytest.mark.no_cover
def test_nothing_is_loaded_before_it_is_needed(tmp_path: Path) -> None:
    wanted = "print(report.outcome, *loaded, 'service' in sys.modules)"
    assert run_code(CHECK + wanted, tmp_path) == "pass False False True\n"


@pytest.mark.no_cover
def test_a_function_is_checked_without_the_parts_of_a_model(tmp_path: Path) -> None:
    assert run_code(CHECK + OUTPUTS + HEAVY, tmp_path) == "False False False False False False\n"


@pytest.mark.long
def test_graph_check_loads_its_parts(tmp_path: Path) -> None:
    """The probe sees them where they are."""
    graph = (
        "import structlog\ngradcheckd.check(weights={'w': [1.0]}, model=[{'name': 'l', 'op': 'sum', 'inputs': ['w']}])"
    )
    assert run_code(f"{CHECK}{graph}{HEAVY}", tmp_path) == "True True True True True True\n"


LOGS = """
import logging, structlog
records = []
class Keep(logging.Handler):
    def emit(self, record): records.append(record.name)
logging.basicConfig(level=logging.DEBUG, handlers=[Keep()])
before = logging.getLogger().handlers[:], logging.getLogger().level
%s
assert before == (logging.getLogger().handlers[:], logging.getLogger().level)
assert not structlog.is_configured()
print(*sorted({name.partition(".")[0] for name in records} - {"httpx", "httpcore"}), end="")
"""


@pytest.mark.no_cover
def test_the_log_of_the_process_is_untouched(tmp_path: Path) -> None:
    assert run_code(LOGS % CHECK, tmp_path) == ""


@pytest.mark.no_cover
def test_no_metrics_are_written(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    counts.mkdir()
    own = "import prometheus_client; prometheus_client.Counter('mine', 'Mine.').inc()"
    run_code(f"{CHECK}\n{own}", tmp_path, PROMETHEUS_MULTIPROC_DIR=str(counts))
    (written,) = counts.iterdir()
    content = written.read_bytes()
    assert b"mine" in content, "the counts of the process itself are"
    assert b"gradcheckd" not in content


FORK = """
import os, threading, gradcheckd, sys
loss = lambda x: float((x**2).sum())
service = gradcheckd.Service(%s)
def check():
    return service.check_function(loss, [1.0, 2.0], [2.0, 4.0]).passed
done = threading.Event()
def go_on():
    while not done.is_set():
        check()
%s
busy = [threading.Thread(target=go_on) for _ in range(2)]
for thread in busy:
    thread.start()
for _ in range(5):
    process = os.fork()
    if not process:
        os._exit(0 if check() and gradcheckd.check_function(loss, [1.0], [2.0]).passed else 1)
    assert os.waitpid(process, 0)[1] == 0
done.set()
for thread in busy:
    thread.join()
assert check()
service.close()
"""


# A thread may hold the lock of the tracer while another one forks; the child then waits for it for ever.
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "first",
    [
        pytest.param("", id="made before a fork"),
        pytest.param("check()", id="used before a fork", marks=pytest.mark.long),
    ],
)
def test_a_client_survives_a_fork(first: str, tmp_path: Path, url: str) -> None:
    # Python warns of any fork beside threads.
    ignored = ("-W", "ignore::DeprecationWarning")
    run_code(FORK % ("", first or "check()"), tmp_path, *ignored)
    if first:
        run_code(FORK % (repr(url), first), tmp_path, *ignored)


@pytest.mark.no_cover
def test_a_pool_of_processes_checks(tmp_path: Path) -> None:
    code = """
import multiprocessing, gradcheckd
def check(seed):
    return gradcheckd.check_function(lambda x: float((x**2).sum()), [1.0], [2.0], seed=seed).passed
assert check(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(check, range(4)))
"""
    assert run_code(code, tmp_path, "-W", "ignore::DeprecationWarning") == "[True, True, True, True]\n"


@pytest.mark.no_cover
def test_the_exit_closes_what_is_shared(tmp_path: Path, url: str) -> None:
    late = f"""
import atexit, gradcheckd
def check(url=None):
    return gradcheckd.check_function(lambda x: float((x**2).sum()), [1.0], [2.0], url=url).passed
check({url!r})
"""
    # An unclosed socket would be a ResourceWarning.
    assert run_code(late, tmp_path, "-X", "dev") == ""


@pytest.mark.long
def test_an_interrupt_ends_the_check(tmp_path: Path) -> None:
    code = f"""
import json, signal, sys, threading, _thread, time
import gradcheckd, numpy as np
# A process in the background ignores interrupts, and hands that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
gradcheckd.check_function(lambda x: float((x**2).sum()), [1.0], [2.0])
model = json.loads({json.dumps(LONG_CHECK["model"])!r})
is_interrupted = threading.Event()

def interrupt():
    while not is_interrupted.wait(0.2):
        _thread.interrupt_main()

threading.Thread(target=interrupt, daemon=True).start()
try:
    gradcheckd.check(weights={{"w": np.linspace(0.1, 1.0, 4096).reshape(64, 64)}}, model=model)
except KeyboardInterrupt:
    is_interrupted.set()
    print("interrupted")
"""
    started = time.monotonic()
    assert run_code(code, tmp_path) == "interrupted\n"
    assert time.monotonic() - started < 60


def test_closing_a_closed_stream_harms_nothing(
    in_process_connection: Connection, bodies_by_path: dict[str, Body]
) -> None:
    with closing(in_process_connection.post_for_lines("/v1/check", bodies_by_path["/v1/check"], NDJSON)) as lines:  # type: ignore[type-var]
        next(lines)
    wait_until_no_thread_is_left()
