"""A client that asks again and again over one connection, and what it takes down of the answers."""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REFUSALS = (429, 503)


@dataclass(frozen=True)
class Answer:
    """One answer, with its headers by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Tally:
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
    dropped: int = 0

    @property
    def asked(self) -> int:
        """Requests, of whatever end."""
        return len(self.seconds) + self.refused + self.wrong + self.failed + self.dropped

    @property
    def amiss(self) -> int:
        """Requests that should have ended otherwise."""
        return self.wrong + self.failed + self.dropped

    def percentile(self, percent: float) -> float:
        """Seconds within which so many of those answered were."""
        return sorted(self.seconds)[math.ceil(len(self.seconds) * percent / 100) - 1]


@dataclass
class Expected:
    """The first answer, which all others have to be, times apart."""

    first: Any = None

    def holds(self, body: bytes) -> bool:
        """Whether an answer is the first one, or the same as that."""
        report = json.loads(body)
        for name in ("seconds", "stages"):
            del report["cost"][name]
        self.first = self.first or report
        return report == self.first


class Client:
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

    def __init__(self, port: int, request: bytes, expected: Expected, tally: Tally) -> None:
        self._port, self._request, self._expected, self._tally = port, request, expected, tally
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, go_on: Callable[[], bool]) -> None:
        """Ask as long as it should go on."""
        while go_on():
            started = time.perf_counter()
            try:
                answer = await self._asked()
            except (OSError, asyncio.IncompleteReadError):
                self._tally.dropped += 1
                await self._hang_up()
                continue
            await self._take_down(answer, time.perf_counter() - started)
        await self._hang_up()

    async def _asked(self) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        return Answer(int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"])))

    async def _take_down(self, answer: Answer, seconds: float) -> None:
        if answer.headers.get("connection") == "close":
            await self._hang_up()
        if answer.status == 200:
            if self._expected.holds(answer.body):
                self._tally.seconds.append(seconds)
            else:
                self._tally.wrong += 1
        elif answer.status in REFUSALS and "retry-after" in answer.headers:
            self._tally.refused += 1
            # An idle connection may be closed meanwhile, which would look as if it were dropped.
            await self._hang_up()
            await asyncio.sleep(float(answer.headers["retry-after"]))
        else:
            self._tally.failed += 1

    async def _hang_up(self) -> None:
        if self._streams is not None:
            (_, writer), self._streams = self._streams, None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def together(clients: Sequence[Client], go_on: Callable[[], bool]) -> None:
    """Let all of them ask at once."""
    await asyncio.gather(*(each.run(go_on) for each in clients))


def tallied(port: int, request: bytes, expected: Expected, clients: int, go_on: Callable[[], bool]) -> Tally:
    """What comes of so many clients of a port."""
    tally = Tally()
    asyncio.run(together([Client(port, request, expected, tally) for _ in range(clients)], go_on))
    return tally


def asked_well(port: int, request: bytes, expected: Expected, clients: int, go_on: Callable[[], bool]) -> Tally:
    """The same, where nothing may go amiss."""
    tally = tallied(port, request, expected, clients, go_on)
    if tally.amiss or not tally.seconds:
        found = f"{len(tally.seconds)} right, {tally.wrong} wrong, {tally.failed} failed, {tally.dropped} dropped"
        raise SystemExit(f"{clients} clients: {found}")
    return tally
