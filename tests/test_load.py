"""What the load benchmark takes down is what came, against a service that plays each part."""

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import load, saved_results
from benchmarks.load_client import ExpectedAnswer, LoadClient, RequestTally

REPORT = {"outcome": "pass", "cost": {"loss_evaluations": 9, "seconds": 0.1, "stages": {"verdict": 0.1}}}


def answered(report: Any, status: str = "200 OK", *headers: str) -> bytes:
    body = json.dumps(report).encode()
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


LATER = answered(REPORT | {"cost": {"loss_evaluations": 9, "seconds": 0.9, "stages": {}}})
WRONG = answered(REPORT | {"outcome": "fail"})
COSTLIER = answered(REPORT | {"cost": {"loss_evaluations": 10, "seconds": 0.1, "stages": {}}})
FULL = answered({}, "503 Service Unavailable", "Retry-After: 0")
BUSY = answered({}, "503 Service Unavailable")
ERROR = answered({}, "500 Internal Server Error")
LAST = answered(REPORT, "200 OK", "Connection: close")
HALF = answered(REPORT)[:-5]


def taken_down(*answers: bytes) -> RequestTally:
    """What a client takes down of these answers, behind a right one; a connection ends with what is not whole."""

    serving: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        # A client who does not come back would wait for ever.
        async with asyncio.timeout(60):
            while await reader.read(len(load.EXAMPLE_REQUEST)):
                writer.write(answer := next(left, b""))
                if answer in (b"", HALF, LAST):
                    break
        writer.close()
        await writer.wait_closed()

    async def run() -> RequestTally:
        tally = RequestTally()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            client = LoadClient(server.sockets[0].getsockname()[1], load.EXAMPLE_REQUEST, ExpectedAnswer(), tally)
            await client.run(load.make_countdown(1 + len(answers)))
            await asyncio.gather(*serving)
        return tally

    left = itertools.chain([answered(REPORT)], answers)
    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (LATER, (2, 0, 0, 0, 0)),
        (FULL, (1, 1, 0, 0, 0)),
        (WRONG, (1, 0, 1, 0, 0)),
        (COSTLIER, (1, 0, 1, 0, 0)),
        (BUSY, (1, 0, 0, 1, 0)),
        (ERROR, (1, 0, 0, 1, 0)),
        (HALF, (1, 0, 0, 0, 1)),
        (b"", (1, 0, 0, 0, 1)),
    ],
    ids=["the same", "refused", "wrong", "other cost", "refused for ever", "an error", "half an answer", "none"],
)
def test_an_answer_is_taken_down_as_what_it_is(answer: bytes, found: tuple[int, ...]) -> None:
    tally = taken_down(answer)
    assert (len(tally.seconds), tally.refused, tally.wrong, tally.failed, tally.dropped_connections) == found
    assert tally.request_count == 2
    assert tally.error_count == sum(found[2:])


@pytest.mark.parametrize("answer", [LAST, FULL, HALF, b""])
def test_a_client_goes_on_after_that(answer: bytes) -> None:
    assert len(taken_down(answer, LATER).seconds) == (3 if answer == LAST else 2)


def test_a_percentile_is_one_of_the_times() -> None:
    tally = RequestTally(seconds=[float(each) for each in range(200, 0, -1)])
    assert [tally.compute_percentile(each) for each in (50, 99, 100)] == [100, 198, 200]
    assert RequestTally(seconds=[3.0]).compute_percentile(99) == 3


@pytest.fixture
def document() -> dict[str, Any]:
    return json.loads((saved_results.RESULTS / "load.json").read_text())


def test_nothing_that_was_kept_went_amiss(document: dict[str, Any]) -> None:
    assert [each["clients"] for each in document["rows"]] == list(load.CLIENT_COUNTS)
    assert all(each["wrong"] + each["failed"] + each["dropped"] == 0 for each in document["rows"])
    assert load.compute_growth(document["memory"]) <= load.MAX_GROWTH


CHANGED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda found: found["memory"].update(before=[100, 100], after=[105, 90]), "within 5 %: met"),
    (lambda found: found["memory"].update(before=[100, 100], after=[106, 90]), "within 5 %: missed"),
    (lambda found: found.update(seconds=29), "A short run"),
    (lambda found: found["memory"].update(requests=19_999), "A short run"),
    (lambda found: found["rows"][0].update(dropped_connections=7), "| 7 "),
]


@pytest.mark.parametrize(("change", "said"), CHANGED)
def test_load_report_lists_its_findings(
    document: dict[str, Any], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    change(document)
    assert said in " ".join(load.write_markdown(document).split())


def test_a_full_run_is_not_called_short(document: dict[str, Any]) -> None:
    document["seconds"], document["memory"]["requests"] = load.SECONDS_PER_ROW, load.MEMORY_REQUESTS
    assert "short" not in load.write_markdown(document)
