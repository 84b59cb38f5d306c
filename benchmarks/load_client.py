"""A client that asks again and again over one connection, and what it takes down of the answers."""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REFUSAL_STATUSES = (429, 503)


@dataclass(frozen=True)
class HttpAnswer:
    """One answer, with its headers by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class RequestTally:
    """What came of a number of requests.

    Attributes
    ----------
    seconds
        Of each request that was answered.
    refused
        Answered with 429 or 503 and a time after which to ask again.
    wrong
        Answered with 200, but otherwise than the first.
    failed
        Answered with any other status.
    dropped
        Not answered, or not to the end.
    """

    seconds: list[float] = field(default_factory=list[float])
    refused: int = 0
    wrong: int = 0
    failed: int = 0
    dropped_connections: int = 0

    @property
    def request_count(self) -> int:
        """Requests, of whatever end."""
        return len(self.seconds) + self.refused + self.wrong + self.failed + self.dropped_connections

    @property
    def error_count(self) -> int:
        """Requests that should have ended otherwise."""
        return self.wrong + self.failed + self.dropped_connections

    def compute_percentile(self, percent: float) -> float:
        """Seconds within which so many of those answered were."""
        return sorted(self.seconds)[math.ceil(len(self.seconds) * percent / 100) - 1]


@dataclass
class ExpectedAnswer:
    """The first answer, which all others have to be, times apart."""

    first_report: Any = None

    def matches(self, body: bytes) -> bool:
        """Whether an answer is the first one, or the same as that."""
        report = json.loads(body)
        for name in ("seconds", "stages"):
            del report["cost"][name]
        self.first_report = self.first_report or report
        return report == self.first_report


class LoadClient:
    """One client.

    Parameters
    ----------
    port
        Of the service on loopback.
    request
        What it sends, head and body.
    expected
        What it should get.
    tally
        Where it takes down what it got.
    """

    def __init__(self, port: int, request: bytes, expected: ExpectedAnswer, tally: RequestTally) -> None:
        self._port, self._request, self._expected, self._tally = port, request, expected, tally
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, should_continue: Callable[[], bool]) -> None:
        """Ask as long as it should go on."""
        while should_continue():
            started = time.perf_counter()
            try:
                answer = await self._send_request()
            except (OSError, asyncio.IncompleteReadError):
                self._tally.dropped_connections += 1
                await self._close_connection()
                continue
            await self._record_answer(answer, time.perf_counter() - started)
        await self._close_connection()

    async def _send_request(self) -> HttpAnswer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        return HttpAnswer(int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"])))

    async def _record_answer(self, answer: HttpAnswer, seconds: float) -> None:
        if answer.headers.get("connection") == "close":
            await self._close_connection()
        if answer.status == 200:
            if self._expected.matches(answer.body):
                self._tally.seconds.append(seconds)
            else:
                self._tally.wrong += 1
        elif answer.status in REFUSAL_STATUSES and "retry-after" in answer.headers:
            self._tally.refused += 1
            # An idle connection may be closed meanwhile, which would look as if it were dropped.
            await self._close_connection()
            await asyncio.sleep(float(answer.headers["retry-after"]))
        else:
            self._tally.failed += 1

    async def _close_connection(self) -> None:
        if self._streams is not None:
            (_, writer), self._streams = self._streams, None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def run_together(clients: Sequence[LoadClient], should_continue: Callable[[], bool]) -> None:
    """Let all of them ask at once."""
    await asyncio.gather(*(client.run(should_continue) for client in clients))


def count_answers(
    port: int, request: bytes, expected: ExpectedAnswer, clients: int, go_on: Callable[[], bool]
) -> RequestTally:
    """What comes of so many clients of a port."""
    tally = RequestTally()
    asyncio.run(run_together([LoadClient(port, request, expected, tally) for _ in range(clients)], go_on))
    return tally


def answer_is_right(
    port: int, request: bytes, expected: ExpectedAnswer, clients: int, go_on: Callable[[], bool]
) -> RequestTally:
    """The same, where nothing may go amiss."""
    tally = count_answers(port, request, expected, clients, go_on)
    if tally.error_count or not tally.seconds:
        counts = (
            f"{len(tally.seconds)} right, {tally.wrong} wrong, {tally.failed} failed, "
            f"{tally.dropped_connections} dropped"
        )
        raise SystemExit(f"{clients} clients: {counts}")
    return tally
