"""Load on a real gunicorn with two workers, and what it does to its memory: `make load`.

1 to 64 clients send the reference example, each over a connection that it keeps, and each as soon as it has the answer
to the last; who is refused comes again after the time that the refusal says. Every answer is compared with the first.
Then 4 clients send 20,000 requests, before and after which the memory of the workers is looked at.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import saved_results, tables
from benchmarks.load_client import ExpectedAnswer, answer_is_right
from benchmarks.local_server import ROOT, RunningService, run_server
from benchmarks.machine_info import describe_machine, list_versions

EXAMPLE_BODY = (ROOT / "examples" / "reference.json").read_bytes()
_HEADER_LINES = (
    "POST /v1/check HTTP/1.1",
    "Host: localhost",
    "Content-Type: application/json",
    f"Content-Length: {len(EXAMPLE_BODY)}",
    "\r\n",
)
EXAMPLE_REQUEST = "\r\n".join(_HEADER_LINES).encode() + EXAMPLE_BODY

WORKERS = 2
CLIENT_COUNTS = (1, 4, 16, 64)
SECONDS_PER_ROW = 30
MEMORY_REQUESTS = 20_000
WARM_UP_REQUESTS = 2_000
MEMORY_CLIENTS = 4
"""Clients of those 20,000."""
MAX_GROWTH = 0.05

Document = Mapping[str, Any]


def measure_row(serving: RunningService, expected: ExpectedAnswer, clients: int, seconds: float) -> dict[str, Any]:
    """Figures of so many clients for so long."""
    started = time.perf_counter()
    tally = answer_is_right(
        serving.port, EXAMPLE_REQUEST, expected, clients, lambda: time.perf_counter() < started + seconds
    )
    return {
        "clients": clients,
        "answered": len(tally.seconds),
        "throughput": round(len(tally.seconds) / (time.perf_counter() - started), 1),
        "p50": round(tally.compute_percentile(50), 4),
        "p99": round(tally.compute_percentile(99), 4),
        "refused": tally.refused,
        "wrong": tally.wrong,
        "failed": tally.failed,
        "dropped": tally.dropped_connections,
    }


def measure_memory(serving: RunningService, expected: ExpectedAnswer, requests: int, warm_up: int) -> dict[str, Any]:
    """Resident bytes of the workers before and after so many requests, when they were warm before."""
    answer_is_right(serving.port, EXAMPLE_REQUEST, expected, MEMORY_CLIENTS, make_countdown(warm_up))
    before = serving.read_resident_bytes()
    answer_is_right(serving.port, EXAMPLE_REQUEST, expected, MEMORY_CLIENTS, make_countdown(requests))
    after = serving.read_resident_bytes()
    if before.keys() != after.keys():
        raise SystemExit("a worker ended")
    return {"requests": requests, "before": list(before.values()), "after": list(after.values())}


def make_countdown(count: int) -> Callable[[], bool]:
    """Go on so many times, all clients together."""
    left = itertools.count(count, -1)
    return lambda: next(left) > 0


def compute_growth(memory: Document) -> float:
    """Of the worker that grew most, as a part of what it had."""
    return max((after - before) / before for before, after in zip(memory["before"], memory["after"], strict=True))


def write_markdown(document: Document) -> str:
    """The table that a document quotes."""
    head = ["clients", "answers a second", "p50", "p99", "refused (503)", "wrong, failed, dropped"]
    rows = [
        [
            str(row["clients"]),
            tables.format_number(row["throughput"]),
            tables.format_duration(row["p50"]),
            tables.format_duration(row["p99"]),
            f"{row['refused']:,}",
            f"{row['wrong'] + row['failed'] + row['dropped']:,}",
        ]
        for row in document["rows"]
    ]
    parts = [
        tables.write_table(head, rows),
        tables.wrap_prose(describe_results(document)),
        tables.describe_origin(document),
    ]
    return "\n\n".join(parts) + "\n"


def describe_results(document: Document) -> str:
    """How long it took, and the memory."""
    memory = document["memory"]
    grown = compute_growth(memory)
    before, after = (f"{sum(memory[name]) / 1e6:.0f} MB" for name in ("before", "after"))
    short = document["seconds"] < SECONDS_PER_ROW or memory["requests"] < MEMORY_REQUESTS
    return (
        f"{'A short run, of' if short else 'Of'} {document['seconds']:g} s each, {document['workers']} workers; "
        "clients and service share the machine. "
        f"The workers together hold {before} when they are warm and {after} after {memory['requests']:,} more "
        f"requests; the one that grew most by {100 * grown:.1f} % "
        f"(within 5 %: {tables.describe_target(grown <= MAX_GROWTH)})."
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_ROW, help="for each number of clients")
    parser.add_argument("--requests", type=int, default=MEMORY_REQUESTS, help="between the looks at memory")
    return parser.parse_args()


def main() -> None:
    """Print the table and keep it."""
    given, expected = parse_arguments(), ExpectedAnswer()
    with run_server(WORKERS) as serving:
        # Both workers, so that none is measured while it warms up.
        answer_is_right(serving.port, EXAMPLE_REQUEST, expected, MEMORY_CLIENTS, make_countdown(100))
        rows = [measure_row(serving, expected, clients, given.seconds) for clients in CLIENT_COUNTS]
        held = measure_memory(serving, expected, given.requests, min(WARM_UP_REQUESTS, given.requests))
    result = {
        "seconds": given.seconds,
        "workers": WORKERS,
        "rows": rows,
        "memory": held,
        "machine": describe_machine(),
        "versions": list_versions(("gunicorn", "numpy", "torch")),
    }
    print(write_markdown(result))
    saved_results.save_results("load", result, write_markdown(result), write_markdown(result))


if __name__ == "__main__":
    main()
