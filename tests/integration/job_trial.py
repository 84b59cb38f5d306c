"""A service whose jobs are computed while its processes are killed at random, and a client that does not give up."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import sqlalchemy

from service.app import create_app
from service.jobs.database import JobDatabase
from service.settings import Settings
from tests.integration.conftest import PATIENCE, ROOT
from tests.measured_cases import PROCESS_VARIABLE

ASYNC = {"Prefer": "respond-async", "Content-Type": "application/json"}
EXPECTED_STATUSES = {200, 202, 409, 503}
"""Statuses that a client may meet while processes are killed: an answer, not yet, and try again."""
_TIMES = re.compile(rb'"cost":\{.*?stages":\{[^}]*\}[^}]*\}')
_CLIENTS = 4
_PATIENCE_FOR_A_JOB = 10.0
"""Further seconds that a client waits for each job of its."""
LARGE_SIZE = 40
"""Size of a large check, whose estimate lets several processes compute it."""
_ENDS = {
    "sqlite": [
        "CREATE TRIGGER count_ends AFTER UPDATE OF status ON gradcheckd_jobs "
        "WHEN NEW.status IN ('successful', 'failed') BEGIN INSERT INTO ends VALUES (NEW.id); END"
    ],
    "postgresql": [
        "CREATE FUNCTION note_end() RETURNS trigger AS "
        "'BEGIN INSERT INTO ends VALUES (NEW.id); RETURN NEW; END' LANGUAGE plpgsql",
        "CREATE TRIGGER count_ends AFTER UPDATE OF status ON gradcheckd_jobs FOR EACH ROW "
        "WHEN (NEW.status IN ('successful', 'failed')) EXECUTE FUNCTION note_end()",
    ],
}


def remove_times(answer: bytes) -> bytes:
    """Return an answer without its cost, in which alone two runs differ."""
    stripped, count = _TIMES.subn(b"", answer)
    assert count == 1
    return stripped


def build_large_check(size: int, seed: int) -> dict[str, Any]:
    """A check that several processes compute: every element of w reaches every term of the loss."""
    w = np.random.default_rng(seed).normal(size=(size, size)) / size**0.5
    nodes = [
        {"name": "a", "op": "matmul", "inputs": ["w", "w"]},
        {"name": "b", "op": "tanh", "inputs": ["a"]},
        {"name": "c", "op": "matmul", "inputs": ["b", "b"]},
        {"name": "loss", "op": "mean", "inputs": ["c"]},
    ]
    return {"tensors": {}, "weights": {"w": w.tolist()}, "model": {"nodes": nodes}, "seed": seed}


def answer_at_once(bodies: Sequence[bytes]) -> list[bytes]:
    """Return the answers that the requests have without jobs, without their times."""
    client = create_app(Settings(max_work=10**13, max_seconds=600), keeps_records=False).test_client()
    answers = [client.post("/v1/check", data=body, content_type="application/json") for body in bodies]
    assert all(answer.status_code == 200 for answer in answers)
    return [remove_times(answer.data) for answer in answers]


class EndCounter:
    """A trigger of the database that notes each end of a job, whoever writes it.

    Parameters
    ----------
    url
        Address of the database of the jobs.
    """

    def __init__(self, url: str) -> None:
        JobDatabase(url, 3600.0).close()
        self._engine = sqlalchemy.create_engine(url, pool_pre_ping=True)
        with self._engine.begin() as connection:
            for statement in ("CREATE TABLE ends (id VARCHAR(32))", *_ENDS[self._engine.dialect.name]):
                connection.execute(sqlalchemy.text(statement))

    def count(self) -> Counter[str]:
        """Return how often each job ended."""
        with self._engine.connect() as connection:
            return Counter(connection.execute(sqlalchemy.text("SELECT id FROM ends")).scalars())

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


class KilledService:
    """A gunicorn with two workers that a supervisor starts again.

    Parameters
    ----------
    url
        Database of the jobs.
    directory
        Directory for temporary files and the log.
    settings
        Settings of the service.
    """

    def __init__(self, url: str, directory: Path, **settings: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._database_url = url
        self._log = directory / "log"
        self._environment = os.environ | {
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "2",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(directory),
            "GRADCHECKD_JOBS_URL": url,
            "GRADCHECKD_JOB_PROCESSES": "2",
            **settings,
        }
        self._environment.pop(PROCESS_VARIABLE, None)
        self.process = self._start()

    @property
    def log(self) -> str:
        """What the service and its runners logged."""
        return self._log.read_text()

    def kill_master(self) -> None:
        """Kill the master, and start another one; its workers and its runner end by themselves."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def keep_alive(self) -> None:
        """Start the service again if it has ended."""
        if self.process.poll() is not None:
            self.process = self._start()

    def list_workers(self) -> list[int]:
        """Return the process ids of the workers."""
        with suppress(OSError):
            pid = self.process.pid
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def list_runners(self) -> list[int]:
        """Return the process ids of the runners of the jobs."""
        return [
            pid for pid, command in _iterate_commands() if "start_runner" in command and self._database_url in command
        ]

    def stop(self) -> None:
        """Stop the service and its runners."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "gunicorn", "-c", "python:service.gunicorn.config", "service.app:create_app()"]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)


def _iterate_commands() -> Iterator[tuple[int, str]]:
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with suppress(OSError):
                yield int(directory.name), (directory / "cmdline").read_text()


def kill_one(generator: random.Random, pids: Sequence[int]) -> bool:
    """Kill one of some processes; return whether there was one."""
    if not pids:
        return False
    with suppress(ProcessLookupError):
        os.kill(generator.choice(pids), signal.SIGKILL)
    return True


class Killer(threading.Thread):
    """Kills in the background, at random times, until it is stopped.

    Parameters
    ----------
    seed
        Seed of all that is random.
    kills
        Function that kills, and whether it did, by the name of the victim.
    counts
        Number of kills of each victim, at most; in a random order.
    keep_alive
        Functions that start again what has ended.
    pause_seconds
        Mean of the times between two kills.
    """

    def __init__(
        self,
        seed: int,
        kills: Mapping[str, Callable[[random.Random], Any]],
        counts: Mapping[str, int],
        keep_alive: Sequence[Callable[[], object]],
        pause_seconds: float,
    ) -> None:
        super().__init__(daemon=True)
        self._generator = random.Random(seed)
        self._order = [victim for victim, count in counts.items() for _ in range(count)]
        self._generator.shuffle(self._order)
        self._kills, self._keep_alive, self._pause_seconds = kills, keep_alive, pause_seconds
        self._stop_requested = threading.Event()
        self.killed: Counter[str] = Counter()
        self.errors: list[BaseException] = []

    def run(self) -> None:
        try:
            self._kill_all()
        except BaseException as error:  # noqa: BLE001  # the test raises it
            self.errors.append(error)

    def _kill_all(self) -> None:
        while self._order and not self._stop_requested.wait(self._generator.uniform(0.3, 1.7) * self._pause_seconds):
            for start in self._keep_alive:
                start()
            if self._kills[self._order[-1]](self._generator) is not False:
                self.killed[self._order.pop()] += 1
        while not self._stop_requested.wait(0.5):
            for start in self._keep_alive:
                start()

    @property
    def is_at_work(self) -> bool:
        """True while there is more to kill."""
        return self.is_alive() and bool(self._order)

    def stop(self) -> None:
        """Stop killing, and raise what went wrong."""
        self._stop_requested.set()
        self.join()
        if self.errors:
            raise self.errors[0]


class PatientClient:
    """A client that repeats each request until it has an answer.

    Parameters
    ----------
    service
        Service.

    Attributes
    ----------
    statuses
        Statuses of all answers.
    """

    def __init__(self, service: KilledService) -> None:
        self._address = f"http://127.0.0.1:{service.port}"
        self.statuses: Counter[int] = Counter()
        self._submitted, self._deadline = 0, 0.0

    def compute(self, bodies: Sequence[bytes]) -> list[tuple[dict[str, Any], bytes]]:
        """Return the ended job of each request, and its result."""
        self._deadline = time.monotonic() + PATIENCE + _PATIENCE_FOR_A_JOB * len(bodies)
        numbers = range(self._submitted, self._submitted + len(bodies))
        self._submitted += len(bodies)
        with ThreadPoolExecutor(_CLIENTS) as pool:
            paths = list(pool.map(self._submit, numbers, bodies))
            return list(pool.map(self._await_end, paths))

    def _submit(self, number: int, body: bytes) -> str:
        headers = ASYNC | {"Idempotency-Key": f"job-{number}"}
        return self._repeat("POST", "/v1/check", {202}, body, headers).json()["links"]["self"]

    def _await_end(self, path: str) -> tuple[dict[str, Any], bytes]:
        while not (job := self._repeat("GET", path, {200}).json())["finished"]:
            time.sleep(0.2)
        return job, self._repeat("GET", f"{path}/result", {200}).content

    def _repeat(self, method: str, path: str, wanted: set[int], body: bytes | None = None, headers: Any = None) -> Any:
        while True:
            assert time.monotonic() < self._deadline, f"no answer to {method} {path}"
            with suppress(httpx.TransportError):
                answer = httpx.request(method, self._address + path, content=body, headers=headers, timeout=30)
                self.statuses[answer.status_code] += 1
                if answer.status_code in wanted:
                    return answer
                assert answer.status_code in EXPECTED_STATUSES, answer.text
            time.sleep(0.2)


@contextmanager
def run_service(url: str, directory: Path, **settings: str) -> Iterator[KilledService]:
    """Run a service within the block."""
    service = KilledService(url, directory, **settings)
    try:
        yield service
    finally:
        service.stop()


def write_bodies(count: int, large_count: int, size: int, example: Mapping[str, Any]) -> list[bytes]:
    """Requests, a few of them large, in a fixed order; some are the same but for their place."""
    small = [json.dumps({**example, "seed": seed}).encode() for seed in range(8)]
    large = [json.dumps(build_large_check(size, seed)).encode() for seed in range(2)]
    step = max(1, count // max(1, large_count))
    return [large[(number // step) % 2] if number % step == 0 else small[number % 8] for number in range(count)]


def compute_under_kills(service: KilledService, bodies: Sequence[bytes], killer: Killer) -> list[Any]:
    """Return the ended jobs of requests, and their results, while a killer is at work.

    The requests come again in rounds until the killer has killed all that it should: however fast the machine, each
    kill meets jobs.
    """
    client = PatientClient(service)
    killer.start()
    try:
        jobs = client.compute(bodies)
        while killer.is_at_work:
            jobs += client.compute(bodies)
    finally:
        killer.stop()
    return jobs


def check_jobs(jobs: list[Any], bodies: list[bytes], counter: EndCounter) -> None:
    """Hold each job to the answer of its request, which came in rounds, and to one end."""
    distinct = sorted(set(bodies))
    expected = dict(zip(distinct, answer_at_once(distinct), strict=True))
    assert {job["status"] for job, _ in jobs} == {"successful"}
    assert [remove_times(result) for _, result in jobs] == [
        expected[bodies[number % len(bodies)]] for number in range(len(jobs))
    ]
    ends = counter.count()
    assert set(ends.values()) == {1}
    assert set(ends) == {job["id"] for job, _ in jobs}


def make_service_kills(service: KilledService) -> dict[str, Any]:
    return {
        "worker": lambda generator: kill_one(generator, service.list_workers()),
        "runner": lambda generator: kill_one(generator, service.list_runners()),
        "master": lambda _: service.kill_master(),
    }
