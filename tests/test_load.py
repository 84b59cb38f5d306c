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


def make_answer(report: Any, status: str = "200 OK", *headers: str) -> bytes:
    body = json.dumps(report).encode()
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


LATER = make_answer(REPORT | {"cost": {"loss_evaluations": 9, "seconds": 0.9, "stages": {}}})
WRONG = make_answer(REPORT | {"outcome": "fail"})
COSTLIER = make_answer(REPORT | {"cost": {"loss_evaluations": 10, "seconds": 0.1, "stages": {}}})
FULL = make_answer({}, "503 Service Unavailable", "Retry-After: 0")
BUSY = make_answer({}, "503 Service Unavailable")
ERROR = make_answer({}, "500 Internal Server Error")
LAST = make_answer(REPORT, "200 OK", "Connection: close")
HALF = make_answer(REPORT)[:-5]


def tally_answers(*answers: bytes) -> RequestTally:
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

    left = itertools.chain([make_answer(REPORT)], answers)
    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "counts"),
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
def test_answer_is_tallied_by_its_kind(answer: bytes, counts: tuple[int, ...]) -> None:
    tally = tally_answers(answer)
    assert (len(tally.seconds), tally.refused, tally.wrong, tally.failed, tally.dropped_connections) == counts
    assert tally.request_count == 2
    assert tally.error_count == sum(counts[2:])


@pytest.mark.parametrize("answer", [LAST, FULL, HALF, b""])
def test_a_client_goes_on_after_that(answer: bytes) -> None:
    assert len(tally_answers(answer, LATER).seconds) == (3 if answer == LAST else 2)


def test_a_percentile_is_one_of_the_times() -> None:
    tally = RequestTally(seconds=[float(index) for index in range(200, 0, -1)])
    assert [tally.compute_percentile(value) for value in (50, 99, 100)] == [100, 198, 200]
    assert RequestTally(seconds=[3.0]).compute_percentile(99) == 3


@pytest.fixture
def saved_document() -> dict[str, Any]:
    return json.loads((saved_results.RESULTS / "load.json").read_text())


def test_kept_load_results_have_no_errors(saved_document: dict[str, Any]) -> None:
    assert [row["clients"] for row in saved_document["rows"]] == list(load.CLIENT_COUNTS)
    assert all(row["wrong"] + row["failed"] + row["dropped"] == 0 for row in saved_document["rows"])
    assert load.compute_growth(saved_document["memory"]) <= load.MAX_GROWTH


CHANGED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda document: document["memory"].update(before=[100, 100], after=[105, 90]), "within 5 %: met"),
    (lambda document: document["memory"].update(before=[100, 100], after=[106, 90]), "within 5 %: missed"),
    (lambda document: document.update(seconds=29), "A short run"),
    (lambda document: document["memory"].update(requests=19_999), "A short run"),
    (lambda document: document["rows"][0].update(dropped_connections=7), "| 7 "),
]


@pytest.mark.parametrize(("change", "said"), CHANGED)
def test_load_report_lists_its_findings(
    saved_document: dict[str, Any], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    change(saved_document)
    assert said in " ".join(load.write_markdown(saved_document).split())


def test_a_full_run_is_not_called_short(saved_document: dict[str, Any]) -> None:
    saved_document["seconds"], saved_document["memory"]["requests"] = load.SECONDS_PER_ROW, load.MEMORY_REQUESTS
    assert "short" not in load.write_markdown(saved_document)
